"""What the runs of a sweep share, and how any process that has it trains them on its devices, in waves."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax

from momentum_jax._base.progress import Progress, no_progress
from momentum_jax.config import Config
from momentum_jax.results.record import Record, Run
from momentum_jax.tasks import Metric, Task
from momentum_jax.training.compile import (
    Group,
    Lane,
    Wave,
    bytes_of_a_run,
    bytes_of_a_state,
    compile_programs,
    group_runs,
)
from momentum_jax.training.devices import Layout, Slots, meshes
from momentum_jax.training.sampling import numerics
from momentum_jax.training.waves import Training, chunk_ends

# Iterations of one device from one write to the next, and from one return to Python to the next: some 10 s and 1 s on
# one core with the tutorial's network.
WAVE_ITERATIONS = 8000
_RETURN_ITERATIONS = 1000
_HOST_BYTES = 2**29
_DEVICE_SHARE = 0.7


class Job(NamedTuple):
    """What all runs of a sweep share; any process that has it can train any of them."""

    cfg: Config
    task: Task
    metrics: dict[str, Metric]
    environment: dict[str, str]
    chunk: int
    keep_params: bool

    @property
    def layout(self) -> Layout:
        return "vmap" if self.environment["layout"] == "vmap" else "map"


def train_waves(
    job: Job, runs: Sequence[Run], devices: Sequence[jax.Device], progress: Progress, room: int = 1
) -> Iterator[dict[Run, Record]]:
    """Trains runs on some devices, and gives what each wave leaves behind.

    The programs have room for `room` runs of each structure where a wave has it, so that calls with fewer share them.
    """
    with numerics(job.cfg.dtype):
        groups = group_runs(job.cfg, job.task, job.metrics, runs)
        slots = _slots(job, groups, devices, room)
        programs = compile_programs(
            job.cfg, job.task, groups, slots, min(job.chunk, job.cfg.iterations), devices, job.layout, progress
        )
        finished = 0
        progress("runs", 0, len(runs), "")
        for wave in plan(groups, slots):
            training = Training(programs, wave, {})
            size = sum(len(lane.runs) for lane in wave)
            for end in chunk_ends(job.cfg, job.chunk):
                training.advance(end)
                progress("runs", finished + size * end / job.cfg.iterations, len(runs), "")
            training.evaluate(no_progress)
            finished += size
            keys = [groups[lane.group].runs[i] for lane in wave for i in lane.runs]
            records = training.records()
            if not job.keep_params:
                records = [record._replace(params=None) for record in records]
            yield dict(zip(keys, records, strict=True))


def plan(groups: Sequence[Group], slots: Sequence[Slots]) -> list[Wave]:
    """The waves that train all runs: groups take turns on their devices, those on other devices beside them."""
    queues: dict[Any, list[list[Lane]]] = {}
    for position, (group, room) in enumerate(zip(groups, slots, strict=True)):
        lanes = [
            Lane(position, tuple(range(first, min(first + room.total, len(group.runs)))))
            for first in range(0, len(group.runs), room.total)
        ]
        queues.setdefault(room.mesh, []).append(lanes)
    in_turns = [[lane for turn in itertools.zip_longest(*lanes) for lane in turn if lane] for lanes in queues.values()]
    return [tuple(lane for lane in beside if lane) for beside in itertools.zip_longest(*in_turns)]


def runs_of_a_wave(iterations: int, chunk: int) -> int:
    """Of one device that takes them in turns, if memory allows: what fits the time between writes and returns."""
    return max(1, min(WAVE_ITERATIONS // iterations, _RETURN_ITERATIONS // min(chunk, iterations)))


def _slots(job: Job, groups: Sequence[Group], devices: Sequence[jax.Device], at_least: int) -> list[Slots]:
    """The room for runs on each device: as many as a wave has time and the device memory for."""
    cfg = job.cfg
    slots = []
    for group, mesh in zip(groups, meshes([len(group.runs) for group in groups], devices), strict=True):
        if job.layout == "map":
            room = min(
                runs_of_a_wave(cfg.iterations, job.chunk),
                _HOST_BYTES // (len(devices) * bytes_of_a_state(cfg, job.task, group)),
            )
        else:
            limit = (devices[0].memory_stats() or {}).get("bytes_limit", 2**31)
            room = int(_DEVICE_SHARE * limit) // bytes_of_a_run(cfg, job.task, group, mesh, job.chunk)
        wanted = -(-max(at_least, len(group.runs)) // mesh.size)
        slots.append(Slots(mesh, max(1, min(room, wanted))))
    return slots
