"""The records of many runs as arrays: filled in place as runs finish, or read when they are asked for."""

import functools
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Bool

from momentum_jax._base.trees import blank
from momentum_jax.results.record import Record, Run

Fields = Mapping[str, Any]
"""The fields of `Record`, each a pytree of arrays that have leading axes of trials and seeds."""
_WITHOUT_HISTORIES = ("diverged_at", "evaluations", "failed")
_BY_NAME = ("metrics", "evaluations")


class StackedRecords:
    """The records of runs, by label and field as arrays that have leading axes of trials and seeds.

    Each record is copied to its place when its run is finished, so that no history is held twice.

    Args:
      trials: by label, how many there are.
      seeds: of each trial.
      histories: whether histories and parameters are kept too.

    Attributes:
      finished: by label, the runs whose records are here.
      forms: by label, a record with shapes and dtypes in place of arrays; of labels that have a finished run.
      errors: by label and place (positions of trial and seed), those of the runs that raised one.
    """

    def __init__(self, trials: Mapping[str, int], seeds: Sequence[int], *, histories: bool = True):
        self.finished: dict[str, Bool[np.ndarray, "trials seeds"]] = {
            label: np.zeros((count, len(seeds)), bool) for label, count in trials.items()
        }
        self.forms: dict[str, Record] = {}
        self.errors: dict[str, dict[tuple[int, int], str]] = {}
        self._arrays: dict[str, Fields] = {}
        self._columns = {seed: column for column, seed in enumerate(seeds)}
        self._fields = Record._fields if histories else _WITHOUT_HISTORIES

    def __contains__(self, run: Run) -> bool:
        return bool(self.finished[run.label][self._place(run)])

    def __len__(self) -> int:
        return sum(int(np.count_nonzero(finished)) for finished in self.finished.values())

    @property
    def failed(self) -> int:
        """How many of the finished runs failed."""
        return sum(int(stacked["failed"][self.finished[label]].sum()) for label, stacked in self._arrays.items())

    def add(self, records: Mapping[Run, Record]) -> None:
        """Adds finished runs; raises as `put`."""
        for run, record in records.items():
            self.put(run.label, self._place(run), record)

    def put(self, label: str, place: tuple[int, int], record: Record) -> None:
        """Adds the run of a trial and a seed, by their positions.

        Raises:
          ValueError: its arrays have other names, shapes or dtypes than those of the label's other runs.
        """
        record, error = record._replace(error=None), record.error
        leaves, structure = jax.tree.flatten(record)
        kinds = [(np.shape(leaf), np.asarray(leaf).dtype) for leaf in leaves]
        if label not in self.forms:
            form = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*kind) for kind in kinds])
            self._arrays[label] = self._allocate(label, form)
            # `jax.tree` sorts keys.
            in_order = {
                field: {name: getattr(form, field)[name] for name in getattr(record, field)} for field in _BY_NAME
            }
            self.forms[label] = form._replace(**in_order)
        of_others, structure_of_others = jax.tree.flatten(self.forms[label])
        if (structure, kinds) != (structure_of_others, [(like.shape, like.dtype) for like in of_others]):
            raise ValueError(f"the runs of {label!r} have arrays of different shapes or dtypes")
        jax.tree.map(
            lambda stacked, own: operator.setitem(stacked, place, own), self._arrays[label], self._kept(record)
        )
        if error:
            self.errors.setdefault(label, {})[place] = error
        # Last: a run that a Ctrl-C leaves half copied is not finished.
        self.finished[label][place] = True

    def complete(self) -> dict[str, Fields]:
        """By label, the fields of all runs: NaN or 0 for those that are not finished.

        A label without a finished run has the shapes of another, of which there must be one.
        """
        some = next(iter(self.forms.values()))
        complete = {}
        for label, finished in self.finished.items():
            complete[label] = self._arrays[label] if label in self._arrays else self._allocate(label, some)
            for array in jax.tree.leaves(complete[label]):
                array[~finished] = blank(array.dtype)
            complete[label]["diverged_at"][~finished] = -1
        return complete

    def _place(self, run: Run) -> tuple[int, int]:
        return run.position, self._columns[run.seed]

    def _kept(self, record: Record) -> Fields:
        return {field: getattr(record, field) for field in self._fields}

    def _allocate(self, label: str, form: Record) -> Fields:
        axes = self.finished[label].shape
        allocated: Fields = jax.tree.map(lambda a: np.empty((*axes, *a.shape), a.dtype), self._kept(form))
        return allocated


@runtime_checkable
class Reads(Protocol):
    """What reads the records of runs from where they are kept."""

    def __call__(self) -> Mapping[str, Fields]:
        """By label, the fields of all records."""

    def each(self) -> Iterator[tuple[str, tuple[int, int], Record]]:
        """The label, the place (positions of trial and seed) and the record of each finished run, none of them kept."""


@jax.tree_util.register_pytree_with_keys_class
class OnDemand(Mapping[str, Any]):
    """By label, what is under some keys in what a function gives, which is called when a value is asked for.

    As a pytree it is the dict of its values.
    """

    def __init__(self, labels: Sequence[str], read: Reads, keys: Sequence[str]):
        self._labels = labels
        self._read = read
        self._keys = keys

    def __getitem__(self, label: str) -> Any:
        if label not in self._labels:
            raise KeyError(label)
        return functools.reduce(operator.getitem, self._keys, self._read()[label])

    def each(self) -> Iterator[tuple[str, tuple[int, int], Any]]:
        """The label, the place (positions of trial and seed) and the value of each finished run, none of them kept."""
        for label, place, record in self._read.each():
            yield label, place, functools.reduce(operator.getitem, self._keys, record._asdict())

    def __contains__(self, label: object) -> bool:
        return label in self._labels

    def __iter__(self) -> Iterator[str]:
        return iter(self._labels)

    def __len__(self) -> int:
        return len(self._labels)

    def __repr__(self) -> str:
        return f"<{'.'.join(self._keys)} of {', '.join(self._labels)}, read when asked for>"

    def tree_flatten_with_keys(self) -> tuple[list[tuple[Any, Any]], tuple[str, ...]]:
        labels = tuple(sorted(self._labels))
        return [(jax.tree_util.DictKey(label), self[label]) for label in labels], labels

    @classmethod
    def tree_unflatten(cls, labels: tuple[str, ...], values: Sequence[Any]) -> dict[str, Any]:
        return dict(zip(labels, values, strict=True))
