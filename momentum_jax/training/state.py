"""The whole state of a training as one pytree, and what takes it from chunk to chunk."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int

from momentum_jax._base.errors import InputError
from momentum_jax._base.trees import blank, form_of
from momentum_jax.config import count_evaluations
from momentum_jax.results.record import Record, Run
from momentum_jax.training.program import Program, States
from momentum_jax.training.step import History


class State(NamedTuple):
    """The whole state of a training: a pytree.

    Attributes:
      step: iterations done.
      groups: what each run hands to its next iteration, on the devices.
      histories: for each group [runs, recorded, …], on the host. They are filled in place; what is not trained, or
        not yet, is NaN, or 0 for integers.
      diverged_at: for each group [runs], the first iteration whose loss before the update is not finite, or the number
        of all.
      evaluations: by iterations done and name, [runs].
    """

    step: int
    groups: States
    histories: list[History]
    diverged_at: list[Int[np.ndarray, " runs"]]
    evaluations: dict[int, dict[str, np.ndarray]]


def initial_state(program: Program, runs: Sequence[Run]) -> State:
    """The state that a training of some runs starts from."""
    states, recorded = program.init(runs), len(program.recorded)
    histories, diverged_at = [], []
    for state in states:
        shape = (len(state.positions), recorded)
        one = program.histories[state.group]
        histories.append(jax.tree.map(lambda a, shape=shape: np.full((*shape, *a.shape), blank(a.dtype), a.dtype), one))
        diverged_at.append(np.full(len(state.positions), program.cfg.iterations))
    return State(0, states, histories, diverged_at, {})


def advance(program: Program, state: State, chunk: int) -> State:
    """Trains for a chunk of iterations, or to the next evaluation or the end, and records. The state is used up."""
    step, last = state.step, program.cfg.iterations
    every = program.cfg.evaluate_every or last
    stop = min(step - step % chunk + chunk, step - step % every + every, last)
    groups, histories = program.step(state.groups, step, stop)
    first, end = np.searchsorted(program.recorded, [step, stop])
    diverged_at = [at.copy() for at in state.diverged_at]
    for there, whole, part, at in zip(groups, state.histories, histories, diverged_at, strict=True):
        if part is not None:
            rows = np.flatnonzero(there.active)
            for kept, new in zip(jax.tree.leaves(whole), jax.tree.leaves(part), strict=True):
                kept[rows, first:end] = new[:, program.recorded[first:end] - step]
            bad = ~np.isfinite(part.loss_before)
            at[rows] = np.where(bad.any(axis=1), step + bad.argmax(axis=1), last)
    groups = program.leave(groups, [(at == last).tolist() for at in diverged_at])
    return state._replace(step=stop, groups=groups, diverged_at=diverged_at)


def evaluate_when_due(program: Program, state: State) -> State:
    """Evaluates along the way, where the config says so."""
    every = program.cfg.evaluate_every
    due = every is not None and 0 < state.step < program.cfg.iterations and state.step % every == 0
    return evaluate(program, state) if due else state


def evaluate(program: Program, state: State, report: Callable[[State, int, int], None] | None = None) -> State:
    """Evaluates the runs as they are, unless that has been done; reports the state, the runs evaluated and all."""
    if state.step in state.evaluations:
        return state
    values = program.evaluate(state.groups, None if report is None else functools.partial(report, state))
    return state._replace(evaluations=state.evaluations | {state.step: values})


def proportion_done(program: Program, state: State, evaluated: float = 0.0) -> float:
    """Which proportion of the work of a training is done, with that of its evaluations.

    Args:
      program: of the runs.
      state: theirs.
      evaluated: which proportion of the runs are evaluated, in an evaluation that is under way.
    """
    total = program.cfg.iterations + program.evaluation_cost * count_evaluations(program.cfg)
    return min(1.0, (state.step + program.evaluation_cost * (len(state.evaluations) + evaluated)) / total)


def snapshot(program: Program, state: State) -> dict[str, Any]:
    """A state as dicts, lists and arrays, for a checkpoint."""
    recorded = int(np.searchsorted(program.recorded, state.step))
    return {
        "step": np.int64(state.step),
        "runs": [jax.tree.leaves(of_group) for of_group in program.fetch(state.groups)],
        "histories": [[a[:, :recorded] for a in jax.tree.leaves(history)] for history in state.histories],
        "diverged_at": state.diverged_at,
        "evaluations": {str(step): values for step, values in state.evaluations.items()},
    }


def restore(program: Program, state: State, saved: dict[str, Any] | None) -> State:
    """The state that a snapshot was made of, by a program of the same runs; without a snapshot the state given.

    Raises:
      InputError: the snapshot is not of these runs.
    """
    if saved is None:
        return state
    _check_snapshot(program, state, saved)
    for history, of_group in zip(state.histories, saved["histories"], strict=True):
        for whole, part in zip(jax.tree.leaves(history), of_group, strict=True):
            whole[:, : part.shape[1]] = part
    fetched = [
        jax.tree.unflatten(jax.tree.structure(there.train_states), leaves)
        for there, leaves in zip(state.groups, saved["runs"], strict=True)
    ]
    diverged_at = list(saved["diverged_at"])
    finite = [(at == program.cfg.iterations).tolist() for at in diverged_at]
    return State(
        step=int(saved["step"]),
        groups=program.leave(program.put(state.groups, fetched), finite),
        histories=state.histories,
        diverged_at=diverged_at,
        evaluations={int(step): values for step, values in saved["evaluations"].items()},
    )


def _check_snapshot(program: Program, state: State, saved: Mapping[str, Any]) -> None:
    try:
        step, evaluations = int(saved["step"]), saved["evaluations"]
        runs = sum(len(there.positions) for there in state.groups)
        expected = snapshot(program, state._replace(step=step))
        fits = 0 <= step <= program.cfg.iterations and form_of({**saved, "evaluations": {}}) == form_of(expected)
        names = {tuple(values) for values in evaluations.values()}
        fits &= len(names) <= 1 and all(0 < int(at) <= step for at in evaluations)
        fits &= all(a.shape == (runs,) for values in evaluations.values() for a in values.values())
    except (LookupError, TypeError, ValueError, AttributeError):
        fits = False
    if not fits:
        raise InputError("the checkpoint does not hold the state of these runs; move it away to begin anew")


def make_records(program: Program, state: State, keep_params: bool = True) -> dict[Run, Record]:
    """What each run has left behind so far."""
    limit = np.inf if program.task.baseline_loss is None else program.task.baseline_loss
    steps = sorted(state.evaluations)
    recorded = int(np.searchsorted(program.recorded, state.step))
    runs = program.runs_of(state.groups)
    params = program.variables(state.groups) if keep_params else [None] * len(runs)
    histories = [
        (jax.tree.map(lambda a, i=i: a[i, :recorded], history), int(at))
        for history, diverged_at in zip(state.histories, state.diverged_at, strict=True)
        for i, at in enumerate(diverged_at)
    ]
    records = {}
    for number, (run, (history, at)) in enumerate(zip(runs, histories, strict=True)):
        evaluations = {
            name: np.stack([state.evaluations[step][name][number] for step in steps])
            for name in (state.evaluations[steps[0]] if steps else ())
        }
        diverged = failed = at < state.step
        if steps[-1:] == [state.step] and "train_loss" in evaluations:
            failed |= not evaluations["train_loss"][-1] < limit
        records[run] = Record(
            losses=history.loss,
            losses_before=history.loss_before,
            metrics=history.metrics,
            diverged_at=at if diverged else -1,
            evaluations=evaluations,
            failed=bool(failed),
            params=params[number],
        )
    return records
