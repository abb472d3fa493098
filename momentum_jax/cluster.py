"""The runs of a sweep as tasks of a Ray cluster: Ray schedules and retries; only the process that asked writes."""

import contextlib
import functools
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from momentum_jax.errors import InputError
from momentum_jax.identity import first_difference
from momentum_jax.layout import resolve_layout
from momentum_jax.machine import cores
from momentum_jax.outcomes import Outcome
from momentum_jax.programs import Group, Run, group_runs
from momentum_jax.progress import Progress, no_progress
from momentum_jax.provenance import environment
from momentum_jax.store import RunKey
from momentum_jax.sweeps import WAVE_ITERATIONS, Job, train_waves

_RETRIES = 3
# Of runs that an accelerator goes through at once, which has them in memory-bounded chunks.
_ACCELERATOR_RUNS = 256


class Answer(NamedTuple):
    """What a task gives: the outcomes, or why this worker may not take part."""

    outcomes: dict[RunKey, Outcome]
    refusal: str | None


class Cluster(NamedTuple):
    """A Ray cluster that this process is connected to.

    Attributes:
      ray: the module.
      resources: what Ray is to give each task; a task uses all of it.
      layout: as `sweep` was given it.
    """

    ray: Any
    resources: dict[str, float]
    layout: str

    def environment(self) -> dict[str, str]:
        """That of the worker which answers first."""
        described: dict[str, str] = self.ray.get(self._task(_describe).remote(self.layout))
        return described

    def train(self, job: Job, runs: Sequence[Run], progress: Progress) -> Iterator[dict[RunKey, Outcome]]:
        """Trains runs, some of one structure in each task, with a few tasks waiting beside those that run."""
        devices = int(self.resources["num_gpus"] or self.resources["num_cpus"])
        at_once = max(1, WAVE_ITERATIONS // job.cfg.iterations) if job.layout == "map" else _ACCELERATOR_RUNS
        waiting = [
            part
            for group in group_runs(job.cfg, job.task, job.metrics, runs)
            for part in evenly(group, devices * at_once)
        ]
        expected = self.environment()
        shipped = self.ray.put(job)
        train = self._task(_train)
        running: list[Any] = []
        finished = 0
        progress("runs", 0, len(runs), "")
        while waiting or running:
            while waiting and len(running) < 2 * self._places():
                # In a list, so that each worker fetches the job once, not every task.
                running.append(train.remote([shipped], self.layout, expected, waiting.pop(0)))
            done, running = self.ray.wait(running, num_returns=1)
            try:
                answer: Answer = self.ray.get(done[0])
            except self.ray.exceptions.RayTaskError:
                raise
            except self.ray.exceptions.RayError as error:
                raise InputError(
                    f"the workers of some runs were lost {_RETRIES + 1} times in a row ({type(error).__name__}); what "
                    "was finished is kept, and the same call goes on from there"
                ) from error
            if answer.refusal is not None:
                raise InputError(answer.refusal)
            finished += len(answer.outcomes)
            progress("runs", finished, len(runs), "")
            yield answer.outcomes

    def _task(self, function: Any) -> Any:
        return self.ray.remote(**self.resources, max_retries=_RETRIES)(function)

    def _places(self) -> int:
        """How many tasks the cluster, as it is now, can run beside each other."""
        there = self.ray.cluster_resources()
        wanted = {"CPU": self.resources["num_cpus"], "GPU": self.resources["num_gpus"]}
        return max(1, min(int(there.get(name, 0) // each) for name, each in wanted.items() if each))


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

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    local, _, count = address.partition(":")
    # What Ray would report about its use, it would report to a server.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if local == "local":
        if not (count.isdecimal() and int(count) > 0):
            raise InputError(f"cluster must be an address, auto, or local:N for N workers, not {address!r}")
        each = max(1, cores() // int(count))
        # Ray's workers are nice by default; these have the machine to themselves.
        own: dict[str, Any] = {"_node_ip_address": "127.0.0.1", "_system_config": {"worker_niceness": 0}}
        ray.init(num_cpus=int(count) * each, include_dashboard=False, **own, **quiet)
    else:
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
            raise InputError(f"cluster {address!r} cannot be reached: {error}") from error
    try:
        if local != "local":
            each = min(int(node["Resources"].get("CPU", 0)) for node in _workers(ray))
        gpus = 1 if any(node["Resources"].get("GPU") for node in _workers(ray)) else 0
        # A GPU is a worker of its own; without one, so is a machine.
        yield Cluster(ray, {"num_cpus": 1 if gpus else each, "num_gpus": gpus}, layout)
    finally:
        ray.shutdown()


def _workers(ray: Any) -> list[Mapping[str, Any]]:
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    if not nodes:
        raise InputError("the cluster has no machine with a processor to give")
    return nodes


def evenly(group: Group, most: int) -> list[tuple[Run, ...]]:
    """A group's runs in parts of at most `most`, no two of which differ by more than one run."""
    count = -(-len(group.runs) // most)
    ends = [len(group.runs) * i // count for i in range(count + 1)]
    return [group.runs[start:end] for start, end in itertools.pairwise(ends)]


def _describe(layout: str) -> dict[str, str]:
    devices = _devices()
    return environment(devices[0], resolve_layout(layout, devices))


def _train(boxed: list[Any], layout: str, expected: dict[str, str], runs: Sequence[Run]) -> Answer:
    """What a worker does for a task."""
    import ray

    name = f"worker {os.getpid()} on {ray.util.get_node_ip_address()}"
    reason = refusal(name, _describe(layout), expected)
    if reason is not None:
        return Answer({}, reason)
    outcomes: dict[RunKey, Outcome] = {}
    for wave in train_waves(_job(boxed[0]), runs, _devices(), no_progress):
        outcomes |= wave
    return Answer(outcomes, None)


def refusal(worker: str, there: Mapping[str, str], expected: Mapping[str, str]) -> str | None:
    """Why a worker may not take part in a sweep, by its name; None if it may."""
    difference = first_difference(there, expected)
    return None if difference is None else f"{worker} would give other bits than the rest of this sweep: {difference}"


@functools.cache
def _devices() -> list[jax.Device]:
    """All that Ray gives this worker; workers are used again for tasks of the same resources only."""
    import ray

    given = ray.get_runtime_context().get_assigned_resources()
    if not given.get("GPU"):
        jax.config.update("jax_num_cpu_devices", int(given.get("CPU", 1)))
    return jax.devices()


@functools.cache
def _job(reference: Any) -> Job:
    """The job, fetched once a worker; equal functions in it keep their compiled programs."""
    import ray

    job: Job = ray.get(reference)
    return job
