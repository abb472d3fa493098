"""Batches of runs: what the runs of a sweep share, how many go together, and training them batch by batch."""

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from momentum_jax._base.progress import Report
from momentum_jax.config import Config
from momentum_jax.results.record import Record, Run
from momentum_jax.sweeps.unfinished import Unfinished
from momentum_jax.tasks import Metric, Task
from momentum_jax.training.compile import bytes_of_run, bytes_of_state, compile_runs
from momentum_jax.training.devices import Layout
from momentum_jax.training.groups import Group
from momentum_jax.training.loop import train_runs
from momentum_jax.training.program import Program
from momentum_jax.training.sampling import numerics
from momentum_jax.training.state import State, evaluate, initial_state, make_records, proportion_done, restore, snapshot

# Iterations of one device from one write to the next, and from one return to Python to the next: some 10 s and 1 s on
# one core with the tutorial's network.
BATCH_ITERATIONS = 8000
_RETURN_ITERATIONS = 1000
_HOST_BYTES = 2**29
# Of an accelerator's memory, what the runs may take.
_MEMORY_FRACTION = 0.7


class Job(NamedTuple):
    """What all runs of a sweep share; any process that has it can train any of them.

    The groups refer to the functions of task and metrics weakly: the job keeps them alive.
    """

    cfg: Config
    task: Task
    metrics: dict[str, Metric]
    environment: dict[str, str]
    chunk: int
    keep_params: bool

    @property
    def layout(self) -> Layout:
        return "vmap" if self.environment["layout"] == "vmap" else "map"


def train_batches(
    job: Job,
    groups: Sequence[Group],
    devices: Sequence[jax.Device],
    report: Report,
    at_least: int = 1,
    unfinished: Unfinished | None = None,
) -> Iterator[dict[Run, Record]]:
    """Trains runs on some devices, and gives the records of each batch of runs when it is finished.

    Args:
      job: what the runs share.
      groups: the runs.
      devices: where.
      report: told of "compiling", then of "runs", of which `done` holds parts.
      at_least: how many runs of each structure the programs take at least, if a batch has time for them, so that calls
        with fewer runs share the programs.
      unfinished: keeps a batch that is interrupted, and gives it back. Whoever keeps the records removes it.
    """
    cfg = job.cfg
    with numerics(cfg.dtype):
        per_device = functools.partial(_runs_per_device, job, len(devices), at_least)
        program = compile_runs(cfg, job.task, groups, devices, job.layout, job.chunk, report, per_device=per_device)
        finished, count = 0, sum(len(group.runs) for group in groups)
        batches = plan_batches(program)
        if unfinished is not None:
            batches.sort(key=lambda batch: not unfinished.is_of(batch))
        for batch in batches:
            saved = None if unfinished is None else unfinished.begin(batch)
            state = restore(program, initial_state(program, batch), saved)

            def report_runs(
                state: State, evaluated: int = 0, runs: int = 1, behind: int = finished, size: int = len(batch)
            ) -> None:
                report("runs", behind + size * proportion_done(program, state, evaluated / runs), count)

            state, interrupted = train_runs(program, state, job.chunk, report_runs, unfinished)
            try:
                if interrupted:
                    raise KeyboardInterrupt
                state = evaluate(program, state, report_runs)
                records = make_records(program, state, job.keep_params)
            except KeyboardInterrupt:
                if unfinished is not None and state.step:
                    unfinished.write(snapshot(program, state))
                raise
            finished += len(batch)
            yield records


def plan_batches(program: Program) -> list[list[Run]]:
    """The batches that train all runs of a program: groups on the same devices take turns, others go beside them."""
    queues: dict[Mesh, list[list[tuple[Run, ...]]]] = {}
    for group, capacity in zip(program.groups, program.capacities, strict=True):
        parts = [group.runs[i : i + capacity.total] for i in range(0, len(group.runs), capacity.total)]
        queues.setdefault(capacity.mesh, []).append(parts)
    in_turns = [
        [part for turn in itertools.zip_longest(*parts, fillvalue=()) for part in turn if part]
        for parts in queues.values()
    ]
    return [list(itertools.chain(*beside)) for beside in itertools.zip_longest(*in_turns, fillvalue=())]


def runs_at_once(iterations: int, chunk: int) -> int:
    """How many runs a device trains one after the other: what fits the time between writes and returns to Python."""
    return max(1, min(BATCH_ITERATIONS // iterations, _RETURN_ITERATIONS // min(chunk, iterations)))


def _runs_per_device(job: Job, devices: int, at_least: int, group: Group, mesh: Mesh) -> int:
    """How many runs of a group each device takes: as many as a batch has time for and the memory holds."""
    cfg = job.cfg
    if job.layout == "map":
        bytes_of_one = devices * bytes_of_state(cfg, job.task, group)
        fits = min(runs_at_once(cfg.iterations, job.chunk), _HOST_BYTES // bytes_of_one)
    else:
        limit = (mesh.devices.flat[0].memory_stats() or {}).get("bytes_limit", 2**31)
        fits = int(_MEMORY_FRACTION * limit) // bytes_of_run(cfg, job.task, group, mesh, job.chunk)
    wanted = -(-max(at_least, len(group.runs)) // mesh.size)
    return max(1, min(fits, wanted))
