"""What runs have recorded, handed to a callback between the chunks of a training."""

import collections
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from momentum_jax._base.interrupts import uninterrupted
from momentum_jax.config import Config, evaluated_iterations, recorded_iterations
from momentum_jax.results.record import Record, Run
from momentum_jax.space import Trial
from momentum_jax.training.program import Program
from momentum_jax.training.state import State


class Recorded(NamedTuple):
    """What one run has recorded since the last call of a callback.

    Attributes:
      label: of the optimizer.
      trial: the optimizer with its hyperparameters, and the batch size.
      seed: of the run.
      iterations: those that were recorded, ascending; the first of all is 0.
      losses_before: the loss on the batch of each, before its update.
      losses: the same after the update; None where they are not recorded.
      metrics: by name, [recorded, …].
      evaluation_iterations: how many updates had been made at each evaluation; mostly none or one.
      evaluations: by name, one value an evaluation.
    """

    label: str
    trial: Trial
    seed: int
    iterations: Int[np.ndarray, " recorded"]
    losses_before: Float[np.ndarray, " recorded"]
    losses: Float[np.ndarray, " recorded"] | None
    metrics: dict[str, np.ndarray]
    evaluation_iterations: tuple[int, ...]
    evaluations: dict[str, np.ndarray]

    def scalars(self) -> list[tuple[str, int, float]]:
        """Name, iteration and value of everything that is a number, in the order of the iterations."""
        series = {"losses_before": self.losses_before, "losses": self.losses, **self.metrics}
        every = [(self.iterations, name, values) for name, values in series.items() if values is not None]
        every += [(np.array(self.evaluation_iterations), name, values) for name, values in self.evaluations.items()]
        points = [
            (name, int(iteration), float(value))
            for iterations, name, values in every
            if values.ndim == 1
            for iteration, value in zip(iterations, values, strict=True)
        ]
        return sorted(points, key=lambda point: point[1])


Callback = Callable[[Recorded], object]
"""A function that is told what a run has recorded. It gets copies: whatever it does, the run keeps its bits."""


def recorded_of_whole(cfg: Config, run: Run, record: Record) -> Recorded:
    """What a finished run has recorded, from beginning to end."""
    last = cfg.iterations if record.diverged_at < 0 else record.diverged_at
    iterations = recorded_iterations(cfg)
    kept = slice(int(np.searchsorted(iterations, last + 1)))
    evaluated = tuple(n for n in evaluated_iterations(cfg) if n <= last)
    return Recorded(
        label=run.label,
        trial=run.trial,
        seed=run.seed,
        iterations=iterations[kept],
        losses_before=record.losses_before[kept].copy(),
        losses=None if record.losses is None else record.losses[kept].copy(),
        metrics={name: values[kept].copy() for name, values in record.metrics.items()},
        evaluation_iterations=evaluated,
        evaluations={name: values[: len(evaluated)].copy() for name, values in record.evaluations.items()},
    )


def hand_over(callback: Callback, waiting: collections.deque[Recorded]) -> None:
    """Calls a callback for each that waits. A Ctrl-C in a call is raised when the others have had theirs."""
    try:
        _call_for_each(callback, waiting)
    except KeyboardInterrupt:
        _call_for_each(callback, waiting)
        raise


def _call_for_each(callback: Callback, waiting: collections.deque[Recorded]) -> None:
    while waiting:
        # It leaves after the call, whatever that raises: a Ctrl-C before it would lose what has left.
        try:
            callback(waiting[0])
        finally:
            waiting.popleft()


class HandOut:
    """Hands every recorded iteration and evaluation to a callback, once.

    Args:
      callback: is called for each run that has recorded something.
      program: of the runs.
      state: of theirs, of which everything has been handed out.
    """

    def __init__(self, callback: Callback, program: Program, state: State):
        self._callback, self._program = callback, program
        self._runs = program.runs_of(state.groups)
        self._step, self._evaluated = state.step, set(state.evaluations)
        # What a second Ctrl-C leaves for the next call.
        self._waiting: collections.deque[Recorded] = collections.deque()

    def __call__(self, state: State) -> None:
        """Hands out what is new in a state of the same runs."""
        try:
            with uninterrupted():
                self._waiting.extend(self._new(state))
                self._step, self._evaluated = state.step, set(state.evaluations)
        finally:
            hand_over(self._callback, self._waiting)

    def _new(self, state: State) -> Iterator[Recorded]:
        evaluated = sorted(set(state.evaluations) - self._evaluated)
        rows = [
            (history, row, int(at))
            for history, diverged_at in zip(state.histories, state.diverged_at, strict=True)
            for row, at in enumerate(diverged_at)
        ]
        for number, (run, (history, row, at)) in enumerate(zip(self._runs, rows, strict=True)):
            # A run that has diverged is neither trained nor evaluated any more.
            begin, end = np.searchsorted(self._program.recorded, [self._step, min(state.step, at + 1)])
            part = jax.tree.map(lambda a, row=row, begin=begin, end=end: a[row, begin:end].copy(), history)
            own = tuple(updates for updates in evaluated if updates <= at)
            if begin < end or own:
                yield Recorded(
                    label=run.label,
                    trial=run.trial,
                    seed=run.seed,
                    iterations=self._program.recorded[begin:end].copy(),
                    losses_before=part.loss_before,
                    losses=part.loss,
                    metrics=part.metrics,
                    evaluation_iterations=own,
                    evaluations={
                        name: np.array([state.evaluations[updates][name][number] for updates in own])
                        for name in (state.evaluations[own[0]] if own else ())
                    },
                )
