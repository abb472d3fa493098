"""Where the runs of a sweep are trained: what a sweep asks of workers, and the devices of this process."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import jax

from momentum_jax._base.machine import environment
from momentum_jax._base.progress import Progress
from momentum_jax.results.record import Record, Run
from momentum_jax.sweeps.batches import Job, train_batches
from momentum_jax.training.devices import default_devices, resolve_layout


@runtime_checkable
class Workers(Protocol):
    """What trains the runs of a sweep."""

    def environment(self) -> dict[str, str]:
        """Returns what the bits of a run depend on there."""

    def train(self, job: Job, runs: Sequence[Run], progress: Progress) -> Iterator[dict[Run, Record]]:
        """Trains all runs, and yields the records of some at a time, as they finish."""


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

    def train(self, job: Job, runs: Sequence[Run], progress: Progress) -> Iterator[dict[Run, Record]]:
        return train_batches(job, runs, self._devices(), progress)

    def _devices(self) -> list[jax.Device]:
        return list(self.given or default_devices())
