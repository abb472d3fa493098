"""Which runs share a program: those that differ in seeds and traced hyperparameters only."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from momentum_jax._base.errors import InputError
from momentum_jax._base.jaxprs import jaxpr_digest
from momentum_jax._base.machine import memory_of_machine
from momentum_jax._base.tracing import jitted
from momentum_jax._base.weak import weak_handle
from momentum_jax.config import Config, count_recorded
from momentum_jax.optimizers import registry
from momentum_jax.results.record import Run
from momentum_jax.tasks import Metric, Task
from momentum_jax.training.objective import Objective
from momentum_jax.training.sampling import init_key, loss_key, numerics
from momentum_jax.training.step import Static, evaluation_of
from momentum_jax.training.validate import (
    abstract_batch,
    abstract_variables,
    check_task,
    find_structure,
    first_step,
    naming,
    traced_arrays,
)


class Group(NamedTuple):
    """Runs that share a program; their traced hyperparameters, one dict a run, are its arguments."""

    static: Static
    batch_size: int
    runs: tuple[Run, ...]
    traced: tuple[registry.Traced, ...]

    def program_digest(self, cfg: Config, task: Task) -> str:
        """The digest of what one iteration computes: loss, gradient, optimizer and metrics."""
        variables, batch = abstract_variables(cfg, task), abstract_batch(task, self.batch_size)
        traced = first_step(self.static).trace(traced_arrays(self.traced[0]), variables, batch)
        return jaxpr_digest(traced.jaxpr)

    def take(self, positions: Iterable[int]) -> "Group":
        """The group with the runs at these positions only."""
        positions = list(positions)
        return self._replace(
            runs=tuple(self.runs[i] for i in positions), traced=tuple(self.traced[i] for i in positions)
        )


def group_runs(
    cfg: Config, task: Task, metrics: Mapping[str, Metric], runs: Sequence[Run], loss_after: bool
) -> list[Group]:
    """Puts all runs of one structure and batch size into one group, in their order.

    Args:
      cfg: of the runs.
      task: likewise.
      metrics: likewise, by name.
      runs: to be trained.
      loss_after: whether they record the loss after each update.

    Raises:
      InputError: the task or one of the optimizers cannot be trained, or not in the memory of this machine.
    """
    objective, variables = Objective.of(task), abstract_variables(cfg, task)
    batches = {size: abstract_batch(task, size) for size in {run.trial.batch_size for run in runs}}
    check_memory("the parameters", variables)
    check_histories(cfg, 1, loss_after)
    for size, batch in batches.items():
        check_memory(f"a batch with batch_size {size}", batch)
    check_task(task, variables, batches.values())
    # Keyed by every value of an optimizer, which tells 1 from 1.0.
    known: dict[tuple[registry.Structure, int], tuple[registry.Structure, registry.Traced]] = {}
    # One step of each structure is traced, not one of each run.
    tried: set[tuple[registry.Structure, int]] = set()
    groups: dict[tuple[registry.Structure, int], list[tuple[Run, registry.Traced]]] = {}
    for run in runs:
        optimizer, batch_size = run.trial
        exact = (registry.fixed(optimizer), batch_size)
        if exact not in known:
            known[exact] = registry.split(optimizer)
            if (known[exact][0], batch_size) not in tried:
                with naming(run.label):
                    known[exact] = find_structure(
                        optimizer, objective, variables, batches[batch_size], metrics, loss_after
                    )
                tried.add((known[exact][0], batch_size))
        structure, traced = known[exact]
        groups.setdefault((structure, batch_size), []).append((run, traced))
    return [
        Group(
            static=Static.of(objective, structure, metrics, loss_after),
            batch_size=batch_size,
            runs=tuple(run for run, _ in members),
            traced=tuple(traced for _, traced in members),
        )
        for (structure, batch_size), members in groups.items()
    ]


def task_digests(cfg: Config, task: Task, batch_size: int | None = None) -> dict[str, str]:
    """By name, the digests of what the functions of a task compute; that of the loss for a batch size only."""
    variables = abstract_variables(cfg, task)
    # As `draw_variables` calls it.
    with numerics("float32"):
        traced = {"init": jitted(weak_handle(task.init)).trace(jax.eval_shape(lambda: init_key(0)))}
    traced["evaluate"] = jitted(evaluation_of(task)).trace(variables, *task.evaluation_data)
    if batch_size is not None:
        objective, key = Objective.of(task), jax.eval_shape(lambda: loss_key(0, 0))
        given = *objective.split(variables), abstract_batch(task, batch_size), key if task.has_key else None
        traced["loss"] = jitted(objective).trace(*given)
        if task.augment is not None:
            traced["augment"] = jitted(weak_handle(task.augment)).trace(key, given[2])
    return {name: jaxpr_digest(there.jaxpr) for name, there in traced.items()}


def check_histories(cfg: Config, runs: int, loss_after: bool) -> None:
    """Raises `InputError` if the losses of so many runs, which are in memory at once, do not fit there."""
    losses = jax.ShapeDtypeStruct((1 + loss_after, runs, count_recorded(cfg)), np.float32)
    check_memory(f"the losses of {runs} run{'s' if runs > 1 else ''}", losses)


def check_memory(what: str, tree: PyTree[Any]) -> None:
    """Refuses what is larger than the memory of this machine: XLA would end the process."""
    needed, there = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)), memory_of_machine()
    if needed > there:
        raise InputError(f"{what} would take {needed / 2**30:.0f} GiB, and this machine has {there / 2**30:.0f} GiB")
