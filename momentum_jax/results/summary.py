"""What is shown of a result: how its runs ended and, of a sweep, the best trials. It reads nothing from a disk."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from momentum_jax._base.display import LINES, Curve, Row, Summary, clip, counted
from momentum_jax.analysis import median_of_trials
from momentum_jax.config import Config, scale_of, task_title
from momentum_jax.optimizers.description import value_text
from momentum_jax.results.stacked import OnDemand
from momentum_jax.results.tables import text_of, trials_by_label
from momentum_jax.space import Trial

if TYPE_CHECKING:
    from momentum_jax.results.result import Result

# The functions of this package whose loss is in nats; `flax_task` does not tell by its function's name.
_CROSS_ENTROPIES = tuple(
    f"momentum_jax.tasks.{name}"
    for name in ("autoencoder:", "classification:", "convnet:", "language:", "linear:_logistic_functions.")
)
_Runs = Mapping[str, Float[np.ndarray, "trials seeds"]]


class _Column(NamedTuple):
    """A number of each run, by label: how it is written, its unit, and what a failed run counts as."""

    title: str
    values: _Runs
    form: str = "{:.4g}"
    unit: str = ""
    worst: float = np.inf


def summary_of(result: "Result", *, curves: bool) -> Summary:
    """The summary of a training or a sweep; with curves for HTML."""
    cfg = result.config
    trials = trials_by_label(cfg, result.trials)
    columns, order = _columns(result), _order(result)
    rows = order[:LINES]
    drawn = _curves(result) if curves else {}
    kind = "a training" if result.trials is None else "a sweep"
    counts = [counted(len(trials), "optimizer")]
    counts += [] if result.trials is None else [counted(sum(map(len, trials.values())), "trial")]
    return Summary(
        title=f"Result of {kind} on {clip(data_of(result), 40)}: {', '.join(counts)}, {scale_of(cfg)}",
        lines=tuple(_lines(result)),
        columns=(
            "optimizer" if result.trials is None else "best trials",
            "method",
            *(column.title for column in columns),
            "failed",
        ),
        rows=tuple(
            Row(
                (
                    label,
                    method_of(trials[label][i], cfg),
                    *(_over_seeds(column, label, i, result) for column in columns),
                    _failures(result, label, i),
                ),
                # The curve of a sweep is that of an optimizer, beside its best trial.
                (drawn[label],) if label in drawn and label not in {above for above, _ in rows[:at]} else (),
            )
            for at, (label, i) in enumerate(rows)
        ),
        total=len(order),
        curves="median loss before each update" if result.trials is None else "losses of its trials, the best first",
        notes=tuple(_notes(result)),
    )


def data_of(result: "Result") -> str:
    """The source of the data. A sweep records none: then the title of the config's task, if that was trained."""
    data, own = result.provenance.get("data"), "a task of one's own"
    if isinstance(data, Mapping):
        return str(data.get("source", own))
    functions = result.provenance.get("functions", {}).values()
    return task_title(result.config) if all(name.startswith("momentum_jax.") for name in functions) else own


def loss_unit(result: "Result") -> str:
    """The unit of the losses: "nats" where they are a cross-entropy of this package, and "" where it is not known."""
    loss = str(result.provenance.get("functions", {}).get("loss", ""))
    return "nats" if loss.startswith(_CROSS_ENTROPIES) else ""


def method_of(trial: Trial, cfg: Config) -> str:
    """The optimizer of a trial with its hyperparameters, floats with four digits, and its batch size if it is its own.

    >>> from momentum_jax.optimizers import OptimizerConfig
    >>> method_of(Trial(OptimizerConfig("momentum", learning_rate=0.123456, momentum=0.9), 64), Config())
    'momentum(learning_rate=0.1235, momentum=0.9), batches of 64'
    """
    values = trial.optimizer.hyperparameters
    texts = (f"{name}={text_of(v) if isinstance(v, float) else value_text(v)}" for name, v in values.items())
    size = "" if trial.batch_size == cfg.batch_size else f", batches of {trial.batch_size}"
    return f"{trial.optimizer.name_text}({', '.join(texts)}){size}"


def _by_trial(result: "Result", by_label: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays with a leading axis of trials, which those of a training lack."""
    return {label: values[None] if result.trials is None else values for label, values in by_label.items()}


def _columns(result: "Result") -> list[_Column]:
    """What the table says of each trial: its loss at the end, and its accuracy or else its loss on the test set."""
    if not len(result.iterations):
        return []
    columns = []
    if result.train_loss:
        columns.append(_Column("training loss", _by_trial(result, result.train_loss)))
    elif set(result.config.optimizers) <= set(result.losses_before) and not isinstance(result.losses_before, OnDemand):
        last = {label: losses[..., -1] for label, losses in result.losses_before.items()}
        columns.append(_Column("last loss before an update", _by_trial(result, last)))
    if result.test_accuracy:
        columns.append(
            _Column(
                "test accuracy",
                _by_trial(result, {label: 100 * values for label, values in result.test_accuracy.items()}),
                "{:.2f}",
                " %",
                -np.inf,
            )
        )
    elif result.test_loss:
        columns.append(_Column("test loss", _by_trial(result, result.test_loss)))
    return columns


def _there(result: "Result", label: str) -> Bool[np.ndarray, "trials seeds"]:
    """Which runs are finished."""
    return ~result.missing[label] if result.missing else np.ones_like(_by_trial(result, result.failed)[label])


def _medians(result: "Result") -> dict[str, Float[np.ndarray, " trials"]]:
    """By label, the median final loss of each trial; zeros where it is known to files alone."""
    columns = [column for column in _columns(result) if column.worst > 0]
    failed = _by_trial(result, result.failed)
    return {
        label: median_of_trials(columns[0].values[label], failed[label], ~_there(result, label))
        if columns
        else np.zeros(len(failed[label]))
        for label in failed
    }


def _order(result: "Result") -> list[tuple[str, int]]:
    """The trials that have runs: of a sweep the best trial of each optimizer and then the others, the best first."""
    if result.trials is None:
        return [(label, 0) for label in result.config.optimizers]
    order: list[tuple[bool, float, str, int]] = []
    for label, medians in _medians(result).items():
        finished = np.flatnonzero(_there(result, label).any(axis=1))
        ranked = finished[np.argsort(medians[finished], kind="stable")].tolist()
        order += [(at > 0, float(medians[i]), label, i) for at, i in enumerate(ranked)]
    return [(label, i) for _, _, label, i in sorted(order, key=lambda trial: trial[:2])]


def _curves(result: "Result") -> dict[str, Curve]:
    """By label: of a training the median loss over seeds, of a sweep the final losses of the trials that have one."""
    if result.trials is not None:
        return {label: np.sort(medians[np.isfinite(medians)]) for label, medians in _medians(result).items()}
    return {label: median_curve(losses) for label, losses in result.losses_before.items()}


def median_curve(losses: Float[np.ndarray, "seeds recorded"]) -> Curve:
    """The median over seeds, where what is not a number counts as infinite; empty without runs."""
    numbers = np.asarray(losses, np.float64)
    if not len(numbers):
        return np.empty(0)
    # Between infinities of both signs there is no median.
    with np.errstate(invalid="ignore", over="ignore"):
        return np.median(np.where(np.isnan(numbers), np.inf, numbers), axis=0)


def _over_seeds(column: _Column, label: str, position: int, result: "Result") -> str:
    """The median over the finished runs, where failed ones are the worst, and the range of those that did not fail."""
    values = np.asarray(column.values[label][position], np.float64)
    good = ~_by_trial(result, result.failed)[label][position] & np.isfinite(values)
    there = _there(result, label)[position]
    if not there.any():
        return "-"
    median = np.median(np.where(good, values, column.worst)[there])
    text = f"{column.form.format(median)}{column.unit}" if np.isfinite(median) else "failed"
    # Runs to come are NaN.
    finite = values[good]
    if not len(finite) or there.sum() == 1:
        return text
    return f"{text} ({column.form.format(finite.min())} to {column.form.format(finite.max())})"


def _failures(result: "Result", label: str, position: int) -> str:
    """How many of the finished runs of a trial failed."""
    there = _there(result, label)[position]
    failed = _by_trial(result, result.failed)[label][position][there]
    return f"{failed.sum()} of {len(failed)}"


def _lines(result: "Result") -> Iterator[str]:
    """How many runs of a sweep there are, and what the numbers of the table are."""
    if result.trials is not None:
        yield _progress(result)
    if len(result.config.seed_tuple) > 1 and _columns(result):
        yield "at the end, the median over seeds (and the range of those that did not fail):"


def _progress(result: "Result") -> str:
    there = {label: _there(result, label) for label in result.failed}
    finished = sum(int(runs.sum()) for runs in there.values())
    failed = sum(int((result.failed[label] & runs).sum()) for label, runs in there.items())
    missing = sum(runs.size for runs in there.values()) - finished
    return f"{counted(finished, 'run')}, {failed:,} of them failed" + (
        f"; {missing:,} still to come" if missing else ""
    )


def _notes(result: "Result") -> Iterator[str]:
    done = int(result.iterations[-1]) + 1 if len(result.iterations) else 0
    if done < result.config.iterations:
        yield f"interrupted after {done:,} of {counted(result.config.iterations, 'iteration')}"
    diverged = {} if result.trials else {label: at[at >= 0] for label, at in result.diverged_at.items()}
    for label, at in diverged.items():
        if len(at):
            yield f"{clip(label, 40)}: {counted(len(at), 'run')} diverged, the first at iteration {at.min():,}"
    for label, errors in result.errors.items():
        first, *_ = next(iter(errors.values())).splitlines()
        yield f"{counted(len(errors), 'run')} of {clip(label, 40)} raised an error, the first: {first}"
