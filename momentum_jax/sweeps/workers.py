"""Where the runs of a sweep are trained: what a sweep asks of workers, and the devices of this process."""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax

from momentum_jax._base.errors import InputError, shown
from momentum_jax._base.machine import cores, environment
from momentum_jax._base.processes import Processes
from momentum_jax._base.progress import Report
from momentum_jax.results.record import Record, Run
from momentum_jax.sweeps.batches import Job, train_batches
from momentum_jax.sweeps.host import HostWorkers, attempt, call_processes
from momentum_jax.sweeps.unfinished import Unfinished
from momentum_jax.tasks import HostData, HostTask, Task
from momentum_jax.training.devices import check_layout, resolve_devices, resolve_layout
from momentum_jax.training.groups import Group


@runtime_checkable
class Workers(Protocol):
    """What trains the runs of a sweep. Job and groups are those of its plan, which a `HostTask` has of its own."""

    def environment(self) -> dict[str, str]:
        """Returns what the bits of a run depend on there."""

    def train(
        self, job: Any, groups: Sequence[Any], report: Report, unfinished: Unfinished | None = None
    ) -> Iterator[dict[Run, Record]]:
        """Trains all runs of some groups, and yields the records of some at a time, as they finish.

        What this process was training when it is interrupted is `unfinished`.
        """


@contextlib.contextmanager
def make_workers(
    cluster: str | None, devices: Sequence[jax.Device] | None, layout: str, task: Task | HostTask | None = None
) -> Iterator[Workers]:
    """Gives the workers that `sweep` is asked for: those of a Ray cluster if it has an address, or devices here.

    For a `HostTask` it gives processes here in place of devices.

    Raises:
      InputError: the layout or the cluster is unknown, or both a cluster and devices are given.
    """
    check_layout(layout)
    if cluster is None:
        if isinstance(task, HostTask):
            with Processes(functools.partial(attempt, task), cores()) as processes:
                yield HostWorkers(functools.partial(call_processes, processes))
        else:
            yield LocalDevices(devices, layout)
        return
    if not isinstance(cluster, str):
        raise InputError(f'cluster must be an address, "auto" or "local:N", not {shown(cluster)}')
    if devices is not None:
        raise InputError("devices are those of the workers where cluster is given")
    if isinstance(task, Task) and any(isinstance(data, HostData) for data in (task.train, task.test)):
        raise InputError("workers of a cluster need the task's data in memory, such as np.asarray(data)")
    # Where no cluster is wanted, Ray need not be installed.
    from momentum_jax.sweeps.cluster import call_cluster, connect, for_host_task

    with connect(cluster, layout) as workers:
        if isinstance(task, HostTask):
            yield HostWorkers(functools.partial(call_cluster, for_host_task(workers, cluster)))
        else:
            yield workers


class LocalDevices(NamedTuple):
    """The devices of this process.

    Attributes:
      given: as `sweep` was given them; None for all of the default backend.
      layout: as `sweep` was given it.
    """

    given: Sequence[jax.Device] | None
    layout: str

    def environment(self) -> dict[str, str]:
        devices = self._devices()
        return environment(devices[0], resolve_layout(self.layout, devices))

    def train(
        self, job: Job, groups: Sequence[Group], report: Report, unfinished: Unfinished | None = None
    ) -> Iterator[dict[Run, Record]]:
        return train_batches(job, groups, self._devices(), report, unfinished=unfinished)

    def _devices(self) -> list[jax.Device]:
        return resolve_devices(self.given)
