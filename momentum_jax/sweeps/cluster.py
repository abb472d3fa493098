"""Trains the runs of a sweep on a Ray cluster.

Each Ray task trains a batch of runs. If a worker dies, Ray reruns its batch on another one, which costs about ten
seconds of work. Only the driver, the process that called `sweep`, writes to the folder.
"""

import contextlib
import functools
import itertools
import os
import socket
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from momentum_jax._base.errors import InputError
from momentum_jax._base.machine import cores, environment
from momentum_jax._base.processes import environment_defaults
from momentum_jax._base.progress import Report, no_progress
from momentum_jax.results.fingerprint import first_difference
from momentum_jax.results.record import Record, Run
from momentum_jax.sweeps.batches import BATCH_ITERATIONS, Job, train_batches
from momentum_jax.sweeps.host import HostJob, attempt, call_of
from momentum_jax.sweeps.unfinished import Unfinished
from momentum_jax.training.devices import resolve_layout
from momentum_jax.training.groups import Group
from momentum_jax.training.sampling import numerics

_RETRIES = 3
# Runs of a task for an accelerator, which trains as many of them at once as its memory holds.
_ACCELERATOR_RUNS = 256
_SECONDS_TO_CONNECT = 5.0
# No report on Ray's use to a server, and workers of ordinary priority: they have the machine to themselves.
# By default Ray makes a task that has no memory left again and again.
_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "RAY_task_oom_retries": str(_RETRIES)}


class Answer(NamedTuple):
    """What a task returns: the records of its runs, by their positions in its batch, or why it has none.

    Not by run: an optimizer that is pickled by value is another one on each machine.

    Attributes:
      records: of the runs.
      refusal: why this worker may not take part, or None.
    """

    records: dict[int, Record]
    refusal: str | None


class Shipment(NamedTuple):
    """What every worker fetches once. Its tasks then name their batch of runs by number.

    Ray pickles functions without an importable name by value. They are unpickled here once, so that all tasks of a
    worker have the same functions, and their programs are compiled once.

    Attributes:
      job: what all runs share.
      layout: as `sweep` was given it.
      batches: parts of groups.
      capacity: for each batch, the number of runs in the largest batch of the same group.
      cache: where compiled programs are kept, if they are, and from how many seconds of compiling on.
    """

    job: Job
    layout: str
    batches: Sequence[Group]
    capacity: Sequence[int]
    cache: tuple[str | None, float]


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
        """Returns the environment of the worker that answers first."""
        precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
        described: dict[str, str] = self.get(self.task(_describe).remote(self.layout, precision))
        return described

    def train(
        self, job: Job, groups: Sequence[Group], report: Report, unfinished: Unfinished | None = None
    ) -> Iterator[dict[Run, Record]]:
        """Trains runs in batches of one structure, with as many tasks waiting as are running."""
        count = sum(len(group.runs) for group in groups)
        batches, capacity = self._batches(job, groups, count)
        settings: Any = jax.config
        cache = settings.jax_compilation_cache_dir, settings.jax_persistent_cache_min_compile_time_secs
        shipped = self.ray.put(Shipment(job, self.layout, batches, capacity, cache))
        train = self.task(_train)
        finished = 0
        report("runs", 0, count)
        # In a list, Ray leaves the reference as it is: each worker fetches the shipment once, not every task.
        for number, done in self.finished(lambda i: train.remote([shipped], job.cfg.dtype, i), len(batches)):
            batch = batches[number].runs
            answer: Answer = self.get(done)
            if answer.refusal is not None:
                raise InputError(answer.refusal)
            # Copies: the arrays lie in Ray's store, which keeps them as long as there is a view.
            yield {batch[i]: jax.tree.map(_copied, record) for i, record in answer.records.items()}
            finished += len(answer.records)
            report("runs", finished, count)

    def finished(self, submit: Callable[[int], Any], count: int) -> Iterator[tuple[int, Any]]:
        """Submits tasks by their numbers, and yields number and reference of each as it finishes."""
        waiting = iter(range(count))
        # The number of each task.
        running: dict[Any, int] = {}
        while True:
            more = itertools.islice(waiting, max(0, 2 * self._parallel_tasks() - len(running)))
            running |= {submit(number): number for number in more}
            if not running:
                return
            (done,), _ = self.ray.wait(list(running), num_returns=1)
            yield running.pop(done), done

    def _batches(self, job: Job, groups: Sequence[Group], count: int) -> tuple[list[Group], list[int]]:
        """The runs of each task, and the size of the largest batch of its group; every worker gets some."""
        devices = self.resources["num_gpus"] or self.resources["num_cpus"]
        at_once = max(1, BATCH_ITERATIONS // job.cfg.iterations) if job.layout == "map" else _ACCELERATOR_RUNS
        of_each_worker = -(-count // self._parallel_tasks())
        batches: list[Group] = []
        capacity: list[int] = []
        for group in groups:
            parts = evenly(len(group.runs), max(devices, min(devices * at_once, of_each_worker)))
            batches += [group.take(part) for part in parts]
            capacity += [max(map(len, parts))] * len(parts)
        return batches, capacity

    def get(self, reference: Any) -> Any:
        """Returns what a task returned, or raises what it raised."""
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
                f"the workers of some runs were lost {_RETRIES + 1} times in a row ({type(error).__name__}); "
                "finished runs are kept, and the same call goes on from there"
            ) from error

    def task(self, function: Any) -> Any:
        # By default Ray ends a worker with a GPU after each task.
        return self.ray.remote(**self.resources, max_retries=_RETRIES, max_calls=0)(function)

    def _parallel_tasks(self) -> int:
        return parallel_tasks(self.ray.nodes(), self.resources)


def call_cluster(cluster: Cluster, job: HostJob, runs: Sequence[Run]) -> Iterator[tuple[int, Any]]:
    """Makes runs of a `HostTask` on a cluster, each in a task of its own; `HostWorkers.call`."""
    make_run, errors = cluster.task(attempt), cluster.ray.exceptions
    for number, done in cluster.finished(lambda i: make_run.remote(job.task, *call_of(job, runs[i])), len(runs)):
        try:
            yield number, cluster.get(done)
        except InputError as error:
            if not isinstance(error.__cause__, errors.WorkerCrashedError | errors.OutOfMemoryError):
                raise
            yield number, f"its worker process died in each of {_RETRIES + 1} attempts"


def for_host_task(cluster: Cluster, address: str) -> Cluster:
    """The cluster for runs of a `HostTask`: a task has the processors of a local worker, or a GPU, or one processor."""
    local = address.startswith("local:")
    one = cluster.resources if local or cluster.resources["num_gpus"] else {"num_cpus": 1, "num_gpus": 0}
    return cluster._replace(resources=one)


def parallel_tasks(nodes: Sequence[Mapping[str, Any]], resources: Mapping[str, int]) -> int:
    """Returns how many tasks of these resources the living nodes run at a time; 1 where there is no node yet."""
    wanted = {"CPU": resources["num_cpus"], "GPU": resources["num_gpus"]}
    tasks = 0
    for node in nodes:
        if node["Alive"]:
            there = node["Resources"]
            tasks += min(int(there.get(name, 0) // each) for name, each in wanted.items() if each)
    return max(1, tasks)


@contextlib.contextmanager
def connect(address: str, layout: str) -> Iterator[Cluster]:
    """Connects to the cluster at an address ("auto": the one there is), or starts "local:N" workers here.

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
    try:
        with environment_defaults(_SETTINGS), warnings.catch_warnings():
            # JAX warns of the forks that become Ray's processes.
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
            _start_or_join(ray, address, workers)
        yield Cluster(ray, task_resources(ray.nodes(), workers), layout)
    finally:
        ray.shutdown()


def _start_or_join(ray: Any, address: str, workers: int) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if workers:
        # Ray asks for no password: without this address anyone on the network could run code here.
        loopback: dict[str, Any] = {"_node_ip_address": "127.0.0.1"}
        try:
            ray.init("local", num_cpus=workers * _cores_each(workers), include_dashboard=False, **loopback, **quiet)
        except OSError as error:
            raise InputError(f"Ray cannot start: {error}") from error
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


def task_resources(nodes: Sequence[Mapping[str, Any]], workers: int) -> dict[str, int]:
    """Returns what Ray is to give each task, as arguments of `ray.remote`.

    That is one GPU where there are some. Otherwise it is the processors of one of the local workers or, where these
    are 0, of the smallest node.

    Raises:
      InputError: no node has a processor.
    """
    there = [node["Resources"] for node in nodes if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    if not there:
        raise InputError("the cluster has no machine with a processor to give")
    if any(node.get("GPU", 0) >= 1 for node in there):
        return {"num_cpus": 1, "num_gpus": 1}
    return {"num_cpus": _cores_each(workers) if workers else min(int(node["CPU"]) for node in there), "num_gpus": 0}


def _cores_each(workers: int) -> int:
    return max(1, cores() // workers)


def _copied(leaf: Any) -> Any:
    return np.array(leaf) if isinstance(leaf, np.ndarray) else leaf


def evenly(count: int, most: int) -> list[range]:
    """Splits 0 … count − 1 into ranges of at most `most` numbers, whose lengths differ by at most one."""
    parts = -(-count // most)
    ends = [count * i // parts for i in range(parts + 1)]
    return [range(start, end) for start, end in itertools.pairwise(ends)]


def _describe(layout: str, matmul_precision: str | None) -> dict[str, str]:
    devices = _devices()
    jax.config.update("jax_default_matmul_precision", matmul_precision)
    return environment(devices[0], resolve_layout(layout, devices))


def _train(boxed: list[Any], dtype: str, batch: int) -> Answer:
    """Trains a batch of runs; what a worker does for a task."""
    import ray

    _leave_if_moved(tuple(ray.get_gpu_ids()))
    devices = _devices()
    # JAX unpickles arrays of 64 bits as such only where it has 64-bit types.
    with numerics(dtype):
        job, layout, batches, capacity, cache = _shipment(boxed[0])
    name = f"worker {os.getpid()} on {ray.util.get_node_ip_address()}"
    reason = refusal(name, _describe(layout, job.environment.get("matmul_precision")), job.environment)
    if reason is not None:
        return Answer({}, reason)
    _keep_programs(*cache)
    group = batches[batch]
    positions = {run: i for i, run in enumerate(group.runs)}
    records: dict[int, Record] = {}
    for some in train_batches(job, [group], devices, no_progress, capacity[batch]):
        records |= {positions[run]: record for run, record in some.items()}
    return Answer(records, None)


def _keep_programs(folder: str | None, least_seconds: float) -> None:
    """What compiles here is kept in the folder of this name where the process that asks for it keeps its own."""
    if folder is None:
        return
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", least_seconds)


def refusal(worker: str, there: Mapping[str, str], expected: Mapping[str, str]) -> str | None:
    """Says why a worker of this name may not take part in a sweep; None if it may."""
    difference = first_difference(there, expected)
    return None if difference is None else f"{worker} would give other bits than the rest of this sweep: {difference}"


@functools.cache
def _devices() -> list[jax.Device]:
    """The devices that Ray gives this worker. Ray uses it again for tasks of the same resources only."""
    import ray

    given = ray.get_runtime_context().get_assigned_resources()
    if not given.get("GPU"):
        cpus = int(given.get("CPU", 1))
        jax.config.update("jax_num_cpu_devices", cpus)
        # XLA has a thread for each core that it sees. Those of several workers would get in each other's way.
        os.environ.setdefault("NPROC", str(cpus))
    _gpus_at_start()
    return jax.devices()


@functools.cache
def _gpus_at_start() -> tuple[Any, ...]:
    import ray

    return tuple(ray.get_gpu_ids())


def _leave_if_moved(gpus: tuple[Any, ...]) -> None:
    """Ends a worker whose JAX holds other GPUs than Ray gives it now; Ray retries the task on another worker."""
    if gpus != _gpus_at_start():
        sys.exit("moved to other GPUs")


@functools.cache
def _shipment(reference: Any) -> Shipment:
    import ray

    shipment: Shipment = ray.get(reference)
    return shipment
