"""`compare(cfg, a, b)`: tunes optimizers alike, trains them side by side, and judges."""

import contextlib
import dataclasses
import itertools
import json
import math
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from momentum_jax._base.errors import InputError, check_real, unknown
from momentum_jax._base.files import write_atomically
from momentum_jax._base.progress import Progress, default_progress
from momentum_jax._base.trees import json_bytes
from momentum_jax.analysis import median_of_trials, simultaneous_level
from momentum_jax.comparison.judging import (
    METRICS,
    TIMES,
    Arm,
    Verdict,
    arm_of,
    check_same_task,
    common_target,
    judge,
    metric_of,
    warnings_of_trials,
    with_times,
)
from momentum_jax.comparison.protocols import at_effective_learning_rate, at_learning_rate, effective_learning_rate_of
from momentum_jax.comparison.tuning import Plan, plan_tuning, tuning_losses
from momentum_jax.config import Config
from momentum_jax.optimizers.description import OptimizerConfig, Schedule, plain, value_text
from momentum_jax.results.fingerprint import first_difference
from momentum_jax.results.result import Result
from momentum_jax.results.store import FORMAT, read_head
from momentum_jax.results.tables import text_of
from momentum_jax.space import LogUniform, Space, Trial
from momentum_jax.sweeps.driver import check_trials, sweep_trials
from momentum_jax.tasks import Task
from momentum_jax.training.compile import evaluation_names
from momentum_jax.training.cost import measure_steps
from momentum_jax.training.loop import Interrupted
from momentum_jax.training.waves import resolve_task

HEAD, TUNING, JUDGING = "comparison.json", "tuning", "judging"
SPACE: Space = {"learning_rate": LogUniform(1e-3, 1.0)}


class Protocol(NamedTuple):
    """One way to set optimizers beside each other.

    Attributes:
      title: how they are set.
      arms: by label, their runs; empty if the protocol was left out.
      skipped: why it was left out, or None.
    """

    title: str
    arms: dict[str, Arm]
    skipped: str | None


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """What `compare` returns.

    Attributes:
      config: of the runs that were judged.
      protocols: by name: "same" learning rate, "matched" effective learning rate, "tuned"; or "given" for results
        that were only judged.
      verdicts: of every protocol, metric and pair of optimizers. The intervals of one metric hold together, over
        all its pairs and protocols, with the level that was asked for (Bonferroni).
      notes: what a reader must know: best values on the edge of the space, a budget that was too small, what was left
        out or is unfinished.
      iterations: those that the histories of the arms hold.
      target: the loss to reach, of `iterations_to_target` and `seconds_to_target`; None if no run can.
      tuning: the sweep on the validation split whose best trials are "tuned", or None.
      judged: the results that the arms' runs are from.
      plan: what was asked for, as JSON.
    """

    config: Config
    protocols: dict[str, Protocol]
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...]
    iterations: Int[np.ndarray, " recorded"]
    target: float | None
    tuning: Result | None
    judged: tuple[Result, ...]
    plan: dict[str, Any]

    def verdict(self, protocol: str, metric: str, a: str, b: str) -> Verdict:
        """The verdict on a pair; the labels in the order in which they were given, the later one first.

        Raises:
          InputError: there is no such verdict.
        """
        for verdict in self.verdicts:
            if (verdict.protocol, verdict.metric, verdict.a, verdict.b) == (protocol, metric, a, b):
                return verdict
        there = {f"{v.protocol}, {v.metric}, {v.a}, {v.b}" for v in self.verdicts}
        raise unknown("verdict", f"{protocol}, {metric}, {a}, {b}", there)

    def table(self) -> Any:
        """One row a verdict, as a `pyarrow.Table`: its fields, of the intervals low and high."""
        import pyarrow as pa

        rows = []
        for verdict in self.verdicts:
            row = verdict._asdict()
            for name in ("difference", "mean", "interquartile_mean", "wins"):
                interval = row.pop(name)
                row |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
            rows.append(row)
        return pa.Table.from_pylist(rows)

    @classmethod
    def load(cls, folder: str | pathlib.Path) -> "Comparison":
        """Reads what `compare` left in a folder, or what there is of it if the judging is unfinished.

        Raises:
          InputError: there is no comparison, its tuning is unfinished, or its runs are of another task.
        """
        folder = pathlib.Path(folder)
        head = read_head(folder, HEAD, "comparison")
        if "protocols" not in head:
            raise InputError(
                f"the tuning in {str(folder)!r} is unfinished; the same call to compare goes on from there"
            )
        results = {name: Result.load(folder / name) for name in (TUNING, JUDGING)}
        config = head["plan"]["config"]
        seeds = {TUNING: head["plan"]["tuning_seeds"], JUDGING: config["seeds"]}
        for name, result in results.items():
            asked = config | {"seeds": seeds[name], "evaluate_every": result.config.evaluate_every}
            difference = first_difference(result.config.to_json(), asked)
            if difference is not None:
                raise InputError(f"{str(folder / name)!r} is not of this comparison: {difference}")
        return _comparison(head, results[TUNING], results[JUDGING])


def compare(
    cfg: Config,
    *labels: str,
    space: Space | None = None,
    search: str = "random",
    trials: int | None = None,
    search_seed: int = 0,
    tuning_seeds: int | Sequence[int] = 3,
    validation: int | None = None,
    tune_by: str | None = None,
    learning_rate: float | Schedule | None = None,
    effective_learning_rate: float | None = None,
    judge_by: Sequence[str] | None = None,
    target: float | None = None,
    margin: float | None = None,
    level: float = 0.95,
    folder: str | pathlib.Path | None = None,
    task: Task | None = None,
    layout: str = "auto",
    cluster: str | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compares optimizers in three ways: at one learning rate, at one effective learning rate, and each at its best.

    At its best: every optimizer is tuned with the same number of trials over the space, on training examples held out
    for that and with seeds of its own; the trial with the least median loss over those seeds is then trained on all
    training examples with the config's seeds, beside the other two ways, and judged on the test set. So the choice
    flatters nobody. The runs of two optimizers with the same seed share initial weights and batches, and are judged
    by their differences.

    Args:
      cfg: the task, the optimizers, and the seeds to judge with: 20 give the intervals their full use.
      *labels: which of the config's optimizers, the one that others are held against first; by default all.
      space: what the tuning varies, as in `sweep`; by default the learning rate from 0.001 to 1.
      search: "random", "sobol" or "grid".
      trials: trials of each optimizer in the tuning, 16 by default; a grid must have as many for each.
      search_seed: of the search's draws.
      tuning_seeds: how many seeds each trial is run with, none of them the config's, or which.
      validation: how many training examples the tuning holds out, by default a sixth; 0 tunes on all of them by the
        training loss, as is the default of a task whose evaluation gives no "test_loss".
      tune_by: the metric that chooses, by default the loss on what is held out.
      learning_rate: of the first comparison; by default that of the first optimizer.
      effective_learning_rate: of the second; by default the largest among the optimizers as they are configured.
      judge_by: metrics; by default all in `momentum_jax.comparison.judging.METRICS` and others that the task evaluates.
      target: the smoothed loss before the update whose time is taken; by default the lowest that the median run of
        every optimizer reaches in every comparison.
      margin: differences of at most this share are called equivalent.
      level: of the intervals of a metric, together.
      folder: where the runs are kept, and from where the same call goes on; by default nowhere.
      task: your own problem, in place of the config's dataset and network.
      layout: as in `train`.
      cluster: as in `sweep`; what a step costs is measured here all the same.
      progress: as in `sweep`, with the phases "tuning", "judging" and "timing" beside "compiling".

    Raises:
      InputError: something that was given cannot be used; nothing has been trained then, unless it is the metric.
      Interrupted: a KeyboardInterrupt; the same call goes on from there if there is a folder.

    >>> cfg = Config(iterations=20, hidden_sizes=(10,), seeds=2)
    >>> comparison = compare(cfg, "sgd", "momentum", trials=2, tuning_seeds=1)
    >>> comparison.protocols["matched"].title
    'same effective learning rate, 0.1'
    >>> print(comparison.verdict("matched", "test_loss", "momentum", "sgd").outcome)  # two seeds say nothing
    no verdict
    """
    progress = progress or default_progress()
    cfg = _with_labels(cfg, labels)
    # Numbers of NumPy are as good as Python's.
    target, margin, level, validation, trials = map(plain, (target, margin, level, validation, trials))
    learning_rate, effective_learning_rate = map(plain, (learning_rate, effective_learning_rate))
    _check_judging(judge_by, target, margin, level)
    if effective_learning_rate is not None:
        check_real("effective_learning_rate", effective_learning_rate, 1e-300, math.inf)
    own_task = task is not None
    task = resolve_task(cfg, task)
    plan = plan_tuning(
        cfg,
        task,
        SPACE if space is None else space,
        search=search,
        trials=trials,
        search_seed=search_seed,
        tuning_seeds=tuning_seeds,
        validation=validation,
        tune_by=tune_by,
    )
    known = {*evaluation_names(cfg, task), "mean_loss", "failed", *TIMES}
    for name in judge_by or ():
        if name not in known:
            raise unknown("metric to judge by", name, known)
    settings = _fixed_settings(cfg, learning_rate, effective_learning_rate)
    check_trials(plan.tuning_cfg, plan.trials, plan.tuning_task)
    check_trials(cfg, _trials_of(cfg, settings), task)
    judging = {
        "judge_by": None if judge_by is None else list(judge_by),
        "target": target,
        "margin": margin,
        "level": level,
    }
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()) if folder is None else folder)
        rates = {"learning_rate": learning_rate, "effective_learning_rate": effective_learning_rate}
        head = _open_head(
            folder,
            plan.values
            | {name: None if rate is None else value_text(rate) for name, rate in rates.items()}
            | {"own_task": own_task},
        )
        tuning = sweep_trials(
            plan.tuning_cfg,
            plan.trials,
            folder=folder / TUNING,
            task=plan.tuning_task,
            layout=layout,
            cluster=cluster,
            progress=_named(progress, "tuning"),
        )
        settings["tuned"] = _tuned(plan, tuning)
        chosen = _trials_of(cfg, settings)
        if not all(chosen.values()):
            raise InputError("nothing can be compared: " + "; ".join(str(s.skipped) for s in settings.values()))
        head |= {"judging": judging, "protocols": {name: _positions(s, chosen) for name, s in settings.items()}}
        _write_head(folder, head)
        judged = sweep_trials(
            cfg,
            chosen,
            folder=folder / JUDGING,
            task=task,
            layout=layout,
            cluster=cluster,
            progress=_named(progress, "judging"),
        )
        if "seconds_per_step" not in head:
            try:
                head["seconds_per_step"] = measure_steps(cfg, chosen, task, progress)
            except Interrupted:
                runs = sum(map(len, chosen.values())) * len(cfg.seed_tuple)
                raise Interrupted(judged, runs) from None
            _write_head(folder, head)
        return _comparison(head, tuning, judged)


def compare_results(
    *results: Result,
    judge_by: Sequence[str] | None = None,
    target: float | None = None,
    margin: float | None = None,
    level: float = 0.95,
) -> Comparison:
    """Judges what `train` returned: the optimizers as they were given, of one result or of several of one task.

    Args, raises: as `compare`; results of other tasks, data or with a label in common are refused.
    """
    if not results:
        raise InputError("there is no result to judge")
    _check_judging(judge_by, target, margin, level)
    check_same_task(results)
    optimizers: dict[str, OptimizerConfig] = {}
    arms: dict[str, Arm] = {}
    for result in results:
        if result.trials is not None:
            raise InputError(
                "the best trial of a sweep, judged by the runs that it was chosen by, is flattered: compare tunes with "
                "one set of seeds and judges with another"
            )
        if result.iterations[-1] != result.config.iterations - 1:
            raise InputError(
                f"a result that was interrupted after iteration {result.iterations[-1]} of {result.config.iterations} "
                "cannot be compared"
            )
        for label, optimizer in result.config.optimizers.items():
            if label in arms:
                raise InputError(f"two results have an optimizer with the label {label!r}")
            optimizers[label] = optimizer
            arms[label] = arm_of(result, label, None)
    if len(optimizers) < 2:
        raise InputError(f"a comparison needs two or more optimizers, not only {next(iter(optimizers))!r}")
    config = dataclasses.replace(results[0].config, optimizers=optimizers)
    known = {name for arm in arms.values() for name in arm.values} | {"iterations_to_target"}
    for name in judge_by or ():
        if name not in known:
            raise unknown("metric to judge by", name, known)
    judging = {"judge_by": judge_by, "target": target, "margin": margin, "level": level}
    return _judged(config, {"given": Protocol("as configured", arms, None)}, [], results, judging, None, {})


class _Setting(NamedTuple):
    """A protocol before its runs."""

    title: str
    trials: dict[str, Trial]
    skipped: str | None


def _with_labels(cfg: Config, labels: Sequence[str]) -> Config:
    for label in labels:
        if label not in cfg.optimizers:
            raise unknown("optimizer's label", label, cfg.optimizers)
    chosen = dict.fromkeys(labels or cfg.optimizers)
    if len(chosen) < 2:
        raise InputError(f"a comparison needs two or more optimizers, not only {next(iter(chosen))!r}")
    return dataclasses.replace(cfg, optimizers={label: cfg.optimizers[label] for label in chosen})


def _check_judging(judge_by: Sequence[str] | None, target: float | None, margin: float | None, level: float) -> None:
    if isinstance(judge_by, str) or (judge_by is not None and not judge_by):
        raise InputError(f"judge_by must be one or more metrics in a sequence, not {judge_by!r}")
    if target is not None:
        check_real("target", target, -math.inf, math.inf)
    if margin is not None:
        check_real("margin", margin, 0, np.inf)
    check_real("level", level, 0.5, 1, below_high=True)


def _fixed_settings(
    cfg: Config, learning_rate: float | Schedule | None, effective: float | None
) -> dict[str, _Setting]:
    """How the optimizers are set in the comparisons that need no tuning, or why not."""
    optimizers = cfg.optimizers
    if learning_rate is None:
        learning_rate = next(iter(optimizers.values())).hyperparameters.get("learning_rate")

    def setting(title: str, make: Callable[[], dict[str, OptimizerConfig]]) -> _Setting:
        try:
            return _Setting(
                title, {label: Trial(optimizer, cfg.batch_size) for label, optimizer in make().items()}, None
            )
        except InputError as error:
            return _Setting(title, {}, str(error))

    def at_one_rate() -> dict[str, OptimizerConfig]:
        if learning_rate is None:
            raise InputError(f"{next(iter(optimizers))!r} has no learning rate that others could have too")
        return at_learning_rate(optimizers, learning_rate)

    skipped = None
    if effective is None:
        try:
            effective = max(effective_learning_rate_of(label, optimizer) for label, optimizer in optimizers.items())
        except InputError as error:
            skipped = str(error)
    same = "same learning rate" if learning_rate is None else f"same learning rate, {text_of(learning_rate)}"
    matched = "same effective learning rate"
    return {
        "same": setting(same, at_one_rate),
        "matched": _Setting(matched, {}, skipped)
        if effective is None
        else setting(f"{matched}, {text_of(effective)}", lambda: at_effective_learning_rate(optimizers, effective)),
    }


def _trials_of(cfg: Config, settings: Mapping[str, _Setting]) -> dict[str, tuple[Trial, ...]]:
    """All trials of some protocols, by label, each once."""
    return {
        label: tuple(dict.fromkeys(s.trials[label] for s in settings.values() if label in s.trials))
        for label in cfg.optimizers
    }


def _tuned(plan: Plan, tuning: Result) -> _Setting:
    """The best trial of each optimizer."""
    title = f"each at its best of {plan.values['trials']} trials"
    trials = {}
    for label, losses in tuning_losses(tuning, plan.values["tune_by"]).items():
        medians = median_of_trials(losses, tuning.failed[label], tuning.missing[label])
        if not np.isfinite(medians).any():
            continue
        trials[label] = plan.trials[label][int(np.argmin(medians))]
    return _Setting(title, trials, None if trials else "every trial of every optimizer failed")


def _positions(setting: _Setting, trials: Mapping[str, Sequence[Trial]]) -> dict[str, Any]:
    """A protocol as JSON: which trials of the judged sweep are in it."""
    return {
        "title": setting.title,
        "skipped": setting.skipped,
        "trials": {label: trials[label].index(trial) for label, trial in setting.trials.items()},
    }


def _comparison(head: Mapping[str, Any], tuning: Result, judged: Result) -> Comparison:
    protocols, plan = {}, head["plan"]
    for name, entry in head["protocols"].items():
        arms = {label: arm_of(judged, label, position) for label, position in entry["trials"].items()}
        if "seconds_per_step" in head:
            for label, position in entry["trials"].items():
                rounds = np.asarray(head["seconds_per_step"][label][position])
                arms[label] = arms[label]._replace(seconds_per_step=rounds)
        protocols[name] = Protocol(entry["title"], arms, entry["skipped"])
    notes = [f"{s.title}: left out, since {s.skipped}" for s in protocols.values() if s.skipped]
    notes += [
        f"tuning: the schedule of {label} gives way to the constants of the space"
        for label in plan.get("schedules_replaced", ())
    ]
    warned = warnings_of_trials(tuning, tuning_losses(tuning, plan["tune_by"]))
    notes += [f"tuning: {warning}" for warning in warned]
    if tuning.missing and any(missing.any() for missing in tuning.missing.values()):
        notes.append("the tuning is unfinished; the best are those of the trials that are there")
    return _judged(judged.config, protocols, notes, (judged,), head["judging"], tuning, plan)


def _judged(
    config: Config,
    protocols: Mapping[str, Protocol],
    notes: Sequence[str],
    results: Sequence[Result],
    judging: Mapping[str, Any],
    tuning: Result | None,
    plan: Mapping[str, Any],
) -> Comparison:
    """All verdicts."""
    arms = [arm for protocol in protocols.values() for arm in protocol.arms.values()]
    iterations = results[0].iterations
    target = judging["target"] if judging["target"] is not None else common_target(arms)
    if target is not None:
        protocols = {
            name: s._replace(arms={label: with_times(arm, iterations, target) for label, arm in s.arms.items()})
            for name, s in protocols.items()
        }
    there = {name: s for name, s in protocols.items() if s.arms}
    pairs = [
        (name, a, b)
        for name, protocol in there.items()
        for b, a in itertools.combinations(config.optimizers, 2)
        if a in protocol.arms and b in protocol.arms
    ]
    level = simultaneous_level(judging["level"], max(len(pairs), 1))
    verdicts = [
        judge(name, metric, there[name].arms, a, b, level=level, margin=judging["margin"], target=target)
        for name, a, b in pairs
        for metric in _metrics(judging["judge_by"], there[name].arms)
    ]
    notes = [*notes, *_notes_on_runs(there), *_notes_on_target(there, target), *_notes_on_budget(there, plan, level)]
    return Comparison(
        config=config,
        protocols=dict(protocols),
        verdicts=tuple(verdicts),
        notes=tuple(notes),
        iterations=iterations,
        target=target,
        tuning=tuning,
        judged=tuple(results),
        plan=dict(plan) | dict(judging),
    )


def _metrics(judge_by: Sequence[str] | None, arms: Mapping[str, Arm]) -> list[str]:
    """What all arms have, of what was asked for."""
    names = dict.fromkeys([*METRICS, *next(iter(arms.values())).values])
    return [name for name in judge_by or names if all(name in arm.values for arm in arms.values())]


def _notes_on_runs(protocols: Mapping[str, Protocol]) -> Iterator[str]:
    for protocol in protocols.values():
        counts = {label: len(arm.seeds) for label, arm in protocol.arms.items()}
        missing = sum(arm.missing for arm in protocol.arms.values())
        if missing:
            yield f"{protocol.title}: unfinished, {missing} runs are still to come; this is of those that are there"
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{label} {count}" for label, count in counts.items())
            yield f"{protocol.title}: the numbers of runs differ ({listed}); pairs are the seeds that both have"
        if set(counts.values()) == {1}:
            yield f"{protocol.title}: a single seed gives no interval; use more to judge"


def _notes_on_target(protocols: Mapping[str, Protocol], target: float | None) -> Iterator[str]:
    if target is None:
        yield "most runs failed, so there is no loss whose time could be taken; give a target"
        return
    for protocol in protocols.values():
        times = [arm.values["iterations_to_target"] for arm in protocol.arms.values()]
        if not any(np.isfinite(own).any() for own in times):
            yield f"{protocol.title}: no run reaches the target loss {target:g}"


def _notes_on_budget(protocols: Mapping[str, Protocol], plan: Mapping[str, Any], level: float) -> Iterator[str]:
    """A method whose space contains another's cannot lose to it when it is tuned enough, whatever it is judged by."""
    arms = protocols["tuned"].arms if "tuned" in protocols else {}
    for outer, inner in plan.get("contained", ()):
        if outer not in arms or inner not in arms:
            continue
        lost = [
            metric_of(metric).title
            for metric in dict.fromkeys(["train_loss", "test_loss", "test_accuracy", plan["tune_by"]])
            if metric in arms[outer].values
            and judge("tuned", metric, arms, outer, inner, level=level, margin=None, target=None).outcome == "worse"
        ]
        if lost:
            yield (
                f"the tuning budget was too small, or its choice unlucky: {outer}, whose space contains that of "
                f"{inner}, loses to it after {plan['trials']} trials of each ({', '.join(lost)})"
            )


def _named(progress: Progress, stage: str) -> Progress:
    """Runs of a stage are shown under its name."""
    return lambda phase, *rest: progress(stage if phase == "runs" else phase, *rest)


def _open_head(folder: pathlib.Path, plan: Mapping[str, Any]) -> dict[str, Any]:
    """What the folder holds of this comparison.

    Raises:
      InputError: it cannot be written, or holds something else or another comparison.
    """
    plan = json.loads(json_bytes(dict(plan)))
    try:
        if not (folder / HEAD).exists():
            if folder.exists() and any(folder.iterdir()):
                raise InputError(
                    f"output folder {str(folder)!r} holds files that are not a comparison of this program; choose "
                    "another"
                )
            folder.mkdir(parents=True, exist_ok=True)
            head = {"format": FORMAT, "plan": plan}
            _write_head(folder, head)
            return head
        head = read_head(folder, HEAD, "comparison")
    except OSError as error:
        raise InputError(f"output folder {str(folder)!r} cannot be written: {error.strerror}") from error
    difference = first_difference(head["plan"], plan)
    if difference is not None:
        raise InputError(f"output folder {str(folder)!r} holds another comparison: {difference}; choose another folder")
    return head


def _write_head(folder: pathlib.Path, head: Mapping[str, Any]) -> None:
    try:
        write_atomically(folder / HEAD, json_bytes(dict(head)))
    except OSError as error:
        raise InputError(f"cannot write to {str(folder)!r}: {error.strerror}") from error
