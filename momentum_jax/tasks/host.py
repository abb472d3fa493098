"""`HostTask`, a problem whose training loop is not ours."""

import dataclasses
import inspect
import math
import pathlib
import sys
from collections.abc import Callable
from typing import Any, Literal, get_args

from momentum_jax._base.display import Summary, as_html, as_text, fields_summary
from momentum_jax._base.errors import InputError, check_choice, check_real, shown
from momentum_jax.tasks._task import source_of

DataName = Literal["train", "tuning"]


@dataclasses.dataclass(frozen=True, eq=False)
class HostTask:
    """A training loop of your own, in any framework, for `sweep` and `compare`.

    A run is one call, in a worker process or on Ray:

        run(hyperparameters, seed, iterations, data="train") -> (losses, scores)

    - `hyperparameters` is a dict: "optimizer" (its name in the config, such as "momentum"), "batch_size", and every
      hyperparameter by name, with the optimizer's defaults filled in. A hyperparameter that changes is a `Schedule`.
    - `seed` and `iterations` are integers. For paired comparisons initial weights and batches must depend on the seed
      alone, and not on the optimizer: `mj.initial_params` and `mj.batch_indices` give such ones.
    - `data` is "train", or "tuning" for the runs that choose hyperparameters: train on a part of the training
      examples then, and score on those left out as the test set.
    - `losses` [iterations] holds the loss on each batch before its update. `scores` maps each name in `scores` to a
      number at the end. "train_loss", "test_loss" and "test_accuracy" mean what they mean in a `Result`.

    Worker processes import `run`, so it must be a function at the top level of a module. A script that calls `sweep` or
    `compare` does so under `if __name__ == "__main__":`.

    Attributes:
      run: trains once.
      scores: the names of the scores that every run returns.
      version: of what `run` computes. Nothing can tell whether its code, or what it calls, has changed: write another
        version when it has. Then a folder with runs of the old one is refused.
      data: which data the runs of a sweep get; `compare` chooses by itself.
      baseline_loss: the training loss of a constant predictor, as in `Task`.
      provenance: where the data came from, as in `Task`.

    Raises:
      InputError: `run` cannot be imported by other processes or takes other arguments, or a field has another form.

    >>> HostTask(lambda hyperparameters, seed, iterations, data: ([], {}))
    Traceback (most recent call last):
    ...
    momentum_jax._base.errors.InputError: run must be a function at the top level of a module, which worker processes \
can import, not '<lambda>'; write it with def in a .py file
    """

    run: Callable[..., Any]
    scores: tuple[str, ...] = ("train_loss", "test_loss")
    version: str = "1"
    data: DataName = "train"
    baseline_loss: float | None = None
    provenance: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_run(self.run)
        several = isinstance(self.scores, list | tuple) and all(isinstance(name, str) for name in self.scores)
        if not several or len(set(self.scores)) < len(self.scores):
            raise InputError(
                f'scores must be different names, such as ("train_loss", "test_loss"), not {shown(self.scores)}'
            )
        object.__setattr__(self, "scores", tuple(self.scores))
        if not (isinstance(self.version, str) and self.version.isprintable()):
            raise InputError(f'version must be printable text, such as "2", not {shown(self.version)}')
        check_choice("data", self.data, get_args(DataName))
        if self.baseline_loss is not None:
            check_real("the task's baseline_loss", self.baseline_loss, -math.inf, math.inf)
        pairs = self.provenance.items() if isinstance(self.provenance, dict) else [(None, None)]
        if not all(isinstance(entry, str) for pair in pairs for entry in pair):
            raise InputError(
                f'the task\'s provenance must be texts by name, such as {{"source": "my data, version 2"}}, not '
                f"{shown(self.provenance)}"
            )

    def __repr__(self) -> str:
        return as_text(self._summary())

    def _repr_html_(self) -> str:
        return as_html(self._summary())

    def _summary(self) -> Summary:
        fields = {"run": self.run_name, "scores": ", ".join(self.scores), "version": self.version, "data": self.data}
        fields |= {} if self.baseline_loss is None else {"baseline_loss": shown(self.baseline_loss)}
        return fields_summary(f"HostTask: {source_of(self.provenance)}", fields)

    @property
    def run_name(self) -> str:
        """Module and name as "module:function", the same whether the module is imported or run as a script."""
        module = self.run.__module__
        if module == "__main__":
            main = sys.modules[module]
            module = main.__spec__.name if main.__spec__ else pathlib.Path(main.__file__ or "").stem
        return f"{module}:{self.run.__qualname__}"


def _check_run(run: Any) -> None:
    name, module = getattr(run, "__qualname__", None), getattr(run, "__module__", None)
    there = sys.modules.get(str(module))
    importable = name is not None and getattr(there, name, None) is run
    if not (callable(run) and importable):
        raise InputError(
            "run must be a function at the top level of a module, which worker processes can import, not "
            f"{shown(run if name is None else name)}; write it with def in a .py file"
        )
    if module == "__main__" and not (getattr(there, "__file__", None) or getattr(there, "__spec__", None)):
        raise InputError(
            f"run: {name!r} was defined in an interactive session, which worker processes cannot import; write it in a "
            ".py file and import it"
        )
    try:
        inspect.signature(run).bind({}, 0, 1, data="train")
    except TypeError as error:
        raise InputError(
            f'run: {name!r} must take (hyperparameters, seed, iterations, data="train"): {error}'
        ) from error
