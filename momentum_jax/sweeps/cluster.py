"""The runs of a sweep as tasks of a Ray cluster: Ray schedules and retries; only the process that asked writes."""

import contextlib
import functools
import itertools
import os
import socket
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from momentum_jax._base.errors import InputError
from momentum_jax._base.machine import cores, environment, matrix_product_peak
from momentum_jax._base.progress import Progress, no_progress
from momentum_jax.results.fingerprint import first_difference
from momentum_jax.results.record import Record, Run
from momentum_jax.sweeps.batches import BATCH_ITERATIONS, Job, train_batches
from momentum_jax.training.devices import resolve_layout
from momentum_jax.training.groups import group_runs
from momentum_jax.training.sampling import numerics

_RETRIES = 3
# Of runs that an accelerator goes through at once, which has them in memory-bounded chunks.
_ACCELERATOR_RUNS = 256
_SECONDS_TO_CONNECT = 5.0


class Answer(NamedTuple):
    """What a task gives: the records, or why this worker may not take part."""

    records: dict[Run, Record]
    refusal: str | None


class Shipment(NamedTuple):
    """What every worker fetches once; its tasks then say by number which part of the runs they are.

    Functions that are pickled by value are unpickled with it, so that they stay the same from one task to the next
    and their programs are compiled once.

    Attributes:
      job: what all runs share.
      layout: as `sweep` was given it.
      parts: runs of one structure each.
      room: runs of the largest part of the same structure, for each part.
    """

    job: Job
    layout: str
    parts: Sequence[Sequence[Run]]
    room: Sequence[int]


class Cluster(NamedTuple):
    """A Ray cluster that this process is connected to.

    Attributes:
      ray: the module.
      resources: what Ray is to give each task; a task uses all of it.
      layout: as `sweep` was given it.
    """

    ray: Any
    resources: dict[str, int]
    layout: str

    def environment(self) -> dict[str, str]:
        """That of the worker which answers first."""
        described: dict[str, str] = self._get(
            self._task(_describe).remote(self.layout, jax.config.values["jax_default_matmul_precision"])
        )
        return described

    def peak(self) -> float:
        """FLOP/s of a matrix product by all workers that there are now."""
        of_one: float = self._get(self._task(_peak).remote())
        return self._places() * of_one

    def train(self, job: Job, runs: Sequence[Run], progress: Progress) -> Iterator[dict[Run, Record]]:
        """Trains runs, some of one structure in each task, with as many tasks waiting as are running."""
        parts, room = self._parts(job, runs)
        shipped = self.ray.put(Shipment(job, self.layout, parts, room))
        train = self._task(_train)
        waiting = iter(range(len(parts)))
        running: list[Any] = []
        finished = 0
        progress("runs", 0, len(runs), "")
        while True:
            # In a list, so that each worker fetches it once, not every task.
            more = itertools.islice(waiting, max(0, 2 * self._places() - len(running)))
            running += [train.remote([shipped], job.cfg.dtype, part) for part in more]
            if not running:
                return
            done, running = self.ray.wait(running, num_returns=1)
            answer: Answer = self._get(done.pop())
            if answer.refusal is not None:
                raise InputError(answer.refusal)
            yield answer.records
            finished += len(answer.records)
            progress("runs", finished, len(runs), "")

    def _parts(self, job: Job, runs: Sequence[Run]) -> tuple[list[Sequence[Run]], list[int]]:
        """The runs of each task, and those of the largest of its structure; every worker gets some."""
        devices = self.resources["num_gpus"] or self.resources["num_cpus"]
        at_once = max(1, BATCH_ITERATIONS // job.cfg.iterations) if job.layout == "map" else _ACCELERATOR_RUNS
        share = -(-len(runs) // self._places())
        parts: list[Sequence[Run]] = []
        room: list[int] = []
        for group in group_runs(job.cfg, job.task, job.metrics, runs):
            of_group = evenly(group.runs, max(devices, min(devices * at_once, share)))
            parts += of_group
            room += [max(map(len, of_group))] * len(of_group)
        return parts, room

    def _get(self, reference: Any) -> Any:
        """What a task gave; what it raised is raised as it was."""
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, ModuleNotFoundError):
                raise InputError(
                    f"a worker lacks what this sweep needs: {cause}; install it on every machine"
                ) from None
            if isinstance(cause, InputError):
                raise cause from None
            raise cause from error
        except self.ray.exceptions.RayError as error:
            raise InputError(
                f"the workers of some runs were lost {_RETRIES + 1} times in a row ({type(error).__name__}); what "
                "was finished is kept, and the same call goes on from there"
            ) from error

    def _task(self, function: Any) -> Any:
        # Ray would end a worker with a GPU after each task.
        return self.ray.remote(**self.resources, max_retries=_RETRIES, max_calls=0)(function)

    def _places(self) -> int:
        """How many tasks the cluster, as it is now, can run beside each other."""
        wanted = {"CPU": self.resources["num_cpus"], "GPU": self.resources["num_gpus"]}
        places = 0
        for node in self.ray.nodes():
            if node["Alive"]:
                there = node["Resources"]
                places += min(int(there.get(name, 0) // each) for name, each in wanted.items() if each)
        return max(1, places)


@contextlib.contextmanager
def connect(address: str, layout: str) -> Iterator[Cluster]:
    """A connection to the cluster at an address ("auto": the one there is), or to "local:N" new workers.

    Raises:
      InputError: Ray is not installed, or there is no such cluster.
    """
    try:
        import ray
    except ImportError:
        raise InputError('cluster needs Ray: pip install "momentum-jax[cluster]"') from None
    local, _, count = address.partition(":")
    if local == "local" and not (count.isdecimal() and int(count) > 0):
        raise InputError(f"cluster must be an address, auto, or local:N for N workers, not {address!r}")
    if ray.is_initialized():
        raise InputError("this process is connected to Ray already; call ray.shutdown() before a sweep on a cluster")
    workers = int(count) if local == "local" else 0
    with _without_messages(ray):
        try:
            with _without_reports_and_warnings():
                _start_or_join(ray, address, workers)
            yield Cluster(ray, _resources(ray, workers), layout)
        finally:
            ray.shutdown()


def _start_or_join(ray: Any, address: str, workers: int) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if workers:
        # Ray's workers are nice by default; these have the machine to themselves.
        own: dict[str, Any] = {"_node_ip_address": "127.0.0.1", "_system_config": {"worker_niceness": 0}}
        ray.init("local", num_cpus=workers * _cores_each(workers), include_dashboard=False, **own, **quiet)
        return
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", address)
    host, _, port = address.rpartition(":")
    try:
        if port.isdecimal() and "/" not in host:
            # Ray itself would try for minutes.
            socket.create_connection((host.strip("[]"), int(port)), _SECONDS_TO_CONNECT).close()
        ray.init(address, **quiet)
    except (OSError, OverflowError, ValueError, RuntimeError) as error:
        raise InputError(f"cluster {address!r} cannot be reached: {error}") from error


def _resources(ray: Any, workers: int) -> dict[str, int]:
    """Of each task: a GPU, where there are some; otherwise the processors of the smallest machine, or of a worker."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    if not nodes:
        raise InputError("the cluster has no machine with a processor to give")
    if any(node.get("GPU", 0) >= 1 for node in nodes):
        return {"num_cpus": 1, "num_gpus": 1}
    return {"num_cpus": _cores_each(workers) if workers else min(int(node["CPU"]) for node in nodes), "num_gpus": 0}


def _cores_each(workers: int) -> int:
    return max(1, cores() // workers)


@contextlib.contextmanager
def _without_messages(ray: Any) -> Iterator[None]:
    """Without what Ray writes to standard output of workers that were lost; nothing public keeps it from that."""
    before = ray._private.worker._worker_logs_enabled
    ray._private.worker._worker_logs_enabled = False
    try:
        yield
    finally:
        ray._private.worker._worker_logs_enabled = before


@contextlib.contextmanager
def _without_reports_and_warnings() -> Iterator[None]:
    """Without Ray's report on its use to a server, and JAX's warning of the forks that become Ray's processes."""
    name = "RAY_USAGE_STATS_ENABLED"
    before = os.environ.get(name)
    os.environ[name] = before or "0"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
            yield
    finally:
        if before is None:
            del os.environ[name]


def evenly(runs: Sequence[Run], most: int) -> list[Sequence[Run]]:
    """Runs in parts of at most `most`, no two of which differ by more than one run."""
    count = -(-len(runs) // most)
    ends = [len(runs) * i // count for i in range(count + 1)]
    return [runs[start:end] for start, end in itertools.pairwise(ends)]


def _describe(layout: str, matmul_precision: str | None) -> dict[str, str]:
    devices = _devices()
    jax.config.update("jax_default_matmul_precision", matmul_precision)
    return environment(devices[0], resolve_layout(layout, devices))


def _peak() -> float:
    return matrix_product_peak()


def _train(boxed: list[Any], dtype: str, part: int) -> Answer:
    """What a worker does for a task."""
    import ray

    _leave_if_moved(tuple(ray.get_gpu_ids()))
    devices = _devices()
    # Arrays of 64 bits are unpickled as such.
    with numerics(dtype):
        job, layout, parts, room = _shipment(boxed[0])
    name = f"worker {os.getpid()} on {ray.util.get_node_ip_address()}"
    reason = refusal(name, _describe(layout, job.environment.get("matmul_precision")), job.environment)
    if reason is not None:
        return Answer({}, reason)
    records: dict[Run, Record] = {}
    for wave in train_batches(job, parts[part], devices, no_progress, room[part]):
        records |= wave
    return Answer(records, None)


def refusal(worker: str, there: Mapping[str, str], expected: Mapping[str, str]) -> str | None:
    """Why a worker may not take part in a sweep, by its name; None if it may."""
    difference = first_difference(there, expected)
    return None if difference is None else f"{worker} would give other bits than the rest of this sweep: {difference}"


@functools.cache
def _devices() -> list[jax.Device]:
    """All that Ray gives this worker, which is used again for tasks of the same resources only."""
    import ray

    given = ray.get_runtime_context().get_assigned_resources()
    if not given.get("GPU"):
        jax.config.update("jax_num_cpu_devices", int(given.get("CPU", 1)))
    _gpus_at_start()
    return jax.devices()


@functools.cache
def _gpus_at_start() -> tuple[Any, ...]:
    import ray

    return tuple(ray.get_gpu_ids())


def _leave_if_moved(gpus: tuple[Any, ...]) -> None:
    """Ends a worker whose JAX holds other GPUs than those it is given now; Ray has the task done by another."""
    if gpus != _gpus_at_start():
        sys.exit("moved to other GPUs")


@functools.cache
def _shipment(reference: Any) -> Shipment:
    import ray

    shipment: Shipment = ray.get(reference)
    return shipment
