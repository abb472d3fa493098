"""A wave of runs on its way from the first iteration to the last: what `train` and `sweep` have in common."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from momentum_jax._base.errors import InputError
from momentum_jax._base.progress import Progress, no_progress
from momentum_jax.config import Config, evaluated_iterations, recorded_iterations
from momentum_jax.results.record import Record
from momentum_jax.tasks import Task, image_classification
from momentum_jax.tasks.datasets import load_dataset
from momentum_jax.training.compile import Programs, Wave
from momentum_jax.training.step import History

CHUNK = 100


def resolve_task(cfg: Config, task: Task | None) -> Task:
    """The given task, or the one the config describes, checked against the config."""
    task = task or image_classification(
        load_dataset(cfg.dataset),
        hidden_sizes=cfg.hidden_sizes,
        activation=cfg.activation,
        weight_init=cfg.weight_init,
        l2=cfg.l2,
    )
    for name, data in (("train", task.train), ("test", task.test)):
        lengths = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(data)}
        if len(lengths) > 1 or () in lengths or (0,) in lengths or (name == "train" and not lengths):
            raise InputError(
                f"the arrays of the task's {name} data must have one leading axis of examples, of one length of at "
                f"least 1; they begin with {sorted(lengths)}"
            )
    if cfg.sampling == "epochs" and cfg.batch_size > task.num_examples:
        raise InputError(
            f"batch_size must be at most the {task.num_examples} training examples with sampling='epochs', "
            f"not {cfg.batch_size}"
        )
    return task


def chunk_ends(cfg: Config, chunk: int, done: int = 0) -> list[int]:
    """After which iterations beyond `done` the host takes over: every chunk, every evaluation, and the end."""
    ends = {*range(chunk, cfg.iterations, chunk), *evaluated_iterations(cfg)}
    return sorted(end for end in ends if end > done)


class Training:
    """A wave on its way: its states after `done` iterations and what it recorded until then.

    Histories are filled in place, beyond `done` too: what an interrupt leaves half done is not looked at.
    """

    def __init__(self, programs: Programs, wave: Wave, seconds: dict[str, float]):
        self.programs = programs
        self.wave = wave
        self.seconds = seconds
        self.evaluations: dict[int, dict[str, np.ndarray]] = {}
        self._recorded = recorded_iterations(programs.cfg)
        self._histories = self._empty_histories()
        self._diverged_at = [np.full(len(lane.runs), programs.cfg.iterations) for lane in wave]
        # One assignment moves both on.
        self._at = (0, programs.start(wave))

    @property
    def done(self) -> int:
        return self._at[0]

    @property
    def iterations(self) -> Int[np.ndarray, " recorded"]:
        """Those done of which the histories tell."""
        return self._recorded[self._recorded < self.done]

    def advance(self, end: int) -> None:
        """Trains to the given iteration, and evaluates there if the config says so."""
        done, states = self._at
        with timed(self.seconds, "training"):
            states, records = self.programs.advance(self.wave, states, done, end - done)
            self._record(done, end, records)
            self._at = (end, states)
        every = self.programs.cfg.evaluate_every
        if every and end % every == 0:
            self.evaluate(no_progress)

    def _record(self, start: int, end: int, records: Sequence[History]) -> None:
        first, last = np.searchsorted(self._recorded, [start, end])
        kept = self._recorded[first:last] - start
        for history, record, diverged_at in zip(self._histories, records, self._diverged_at, strict=True):
            for whole, part in zip(jax.tree.leaves(history), jax.tree.leaves(record), strict=True):
                whole[:, first:last] = part[:, kept]
            bad = ~(np.isfinite(record.loss) & np.isfinite(record.loss_before))
            at = np.where(bad.any(axis=1), start + bad.argmax(axis=1), self.programs.cfg.iterations)
            np.minimum(diverged_at, at, out=diverged_at)

    def evaluate(self, progress: Progress) -> None:
        """Evaluates the runs as they are, unless that has been done."""
        done, states = self._at
        if done not in self.evaluations:
            with timed(self.seconds, "evaluating"):
                params = [p for lane in self.programs.params(self.wave, states) for p in lane]
                self.evaluations[done] = self.programs.evaluate(params, progress)

    def snapshot(self) -> dict[str, Any]:
        """All that `restore` needs to go on from here, as dicts, lists and arrays."""
        done, states = self._at
        recorded = len(self.iterations)
        return {
            "done": np.int64(done),
            "states": [
                [jax.tree.leaves(state) for state in lane] for lane in self.programs.train_states(self.wave, states)
            ],
            "histories": [[a[:, :recorded] for a in jax.tree.leaves(history)] for history in self._histories],
            "diverged_at": list(self._diverged_at),
            "evaluations": {str(at): values for at, values in self.evaluations.items()},
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Goes to where a training of the same runs was when it gave the snapshot."""
        structures = [jax.tree.structure(state.train_state) for state in self._at[1]]
        states = [
            [jax.tree.unflatten(structure, leaves) for leaves in lane]
            for structure, lane in zip(structures, snapshot["states"], strict=True)
        ]
        done = int(snapshot["done"])
        self._histories = self._empty_histories()
        recorded = int(np.searchsorted(self._recorded, done))
        for history, saved in zip(self._histories, snapshot["histories"], strict=True):
            for whole, part in zip(jax.tree.leaves(history), saved, strict=True):
                whole[:, :recorded] = part
        self._diverged_at = [np.array(at) for at in snapshot["diverged_at"]]
        self.evaluations = {int(at): values for at, values in snapshot["evaluations"].items()}
        self._at = (done, self.programs.resume(self.wave, states))

    def _empty_histories(self) -> list[History]:
        empty = []
        for lane, record in zip(self.wave, self.programs.records(self.wave), strict=True):
            shape = (len(lane.runs), len(self._recorded))
            empty.append(jax.tree.map(lambda a, shape=shape: np.zeros((*shape, *a.shape), a.dtype), record))
        return empty

    def records(self) -> list[Record]:
        """What each run has left behind so far, lane by lane."""
        done, states = self._at
        limit = self.programs.task.baseline_loss
        at = sorted(self.evaluations)
        records: list[Record] = []
        lanes = zip(self._histories, self._diverged_at, self.programs.params(self.wave, states), strict=True)
        for history, diverged_at, params in lanes:
            for i, first in enumerate(diverged_at):
                record = jax.tree.map(lambda a, i=i: a[i, : len(self.iterations)], history)
                evaluations = {
                    name: np.stack([self.evaluations[iteration][name][len(records)] for iteration in at])
                    for name in (self.evaluations[at[0]] if at else ())
                }
                diverged = bool(first < done)
                failed = diverged
                if at[-1:] == [done] and "train_loss" in evaluations:
                    failed |= not evaluations["train_loss"][-1] < (np.inf if limit is None else limit)
                records.append(
                    Record(
                        losses=record.loss,
                        losses_before=record.loss_before,
                        metrics=record.metrics,
                        diverged_at=int(first) if diverged else -1,
                        evaluations=evaluations,
                        failed=failed,
                        params=params[i],
                    )
                )
        return records


@contextlib.contextmanager
def timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    """Adds the seconds that a block takes to those of its phase."""
    began = time.perf_counter()
    try:
        yield
    finally:
        seconds[phase] = seconds.get(phase, 0.0) + time.perf_counter() - began
