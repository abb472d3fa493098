"""A comparison made by hand, which nothing had to be trained for."""

import numpy as np

import momentum_jax as mj
from momentum_jax.comparison.arms import arm_of
from momentum_jax.comparison.protocols import Protocol
from momentum_jax.comparison.result import Comparison, JudgingOptions, judge_protocols
from momentum_jax.results.record import Record
from momentum_jax.results.result import Result
from momentum_jax.space import Trial
from tests.results.made import NATS, from_records

LABELS = ("sgd", "<b>momentum</b>")


def record(level, iterations, rng, *, failed=False):
    falling = level + np.exp(-np.arange(iterations) / 20) + 0.01 * rng.standard_normal(iterations)
    finals = {"train_loss": level, "test_loss": 1.1 * level, "test_accuracy": 1 - level / 3}
    return Record(
        losses=None,
        losses_before=falling.astype(np.float32),
        metrics={},
        diverged_at=-1,
        evaluations={name: np.asarray([value]) for name, value in finals.items()},
        failed=failed,
        params=None,
    )


def sweep_of(trials, seeds, *, iterations=60, missing=()) -> Result:
    """A sweep in which the loss is that far from the best as the learning rate; the rate 1 fails."""
    rng = np.random.default_rng(0)
    cfg = mj.Config(
        iterations=iterations,
        seeds=tuple(seeds),
        optimizers={label: mj.OptimizerConfig("momentum", learning_rate=0.01, momentum=0.9) for label in trials},
    )
    runs = {
        label: [
            [
                None
                if (label, position, seed) in missing
                else record(
                    0.2 + abs(np.log10(trial["learning_rate"]) + 1) + 0.02 * rng.random(),
                    iterations,
                    rng,
                    failed=trial["learning_rate"] == 1,
                )
                for seed in seeds
            ]
            for position, trial in enumerate(own)
        ]
        for label, own in trials.items()
    }
    made = {
        label: tuple(Trial(mj.OptimizerConfig("momentum", **trial), 128) for trial in own)
        for label, own in trials.items()
    }
    return from_records(cfg, runs, np.arange(iterations), [iterations], {"data": "d"} | NATS, made)


def trained(label, rate, seeds=8) -> Result:
    """A training of one optimizer; the rate 1 fails."""
    sweep = sweep_of({label: [{"learning_rate": rate}]}, range(seeds), iterations=300)
    own = {name: {label: values[label][0]} for name, values in sweep.evaluations.items()}
    flat = {name: {label: getattr(sweep, name)[label][0]} for name in ("losses_before", "failed", "diverged_at")}
    return Result(
        **flat,
        config=sweep.config,
        iterations=sweep.iterations,
        losses_after={},
        metrics={},
        evaluations=own,
        evaluation_iterations=sweep.evaluation_iterations,
        params={},
        provenance=sweep.provenance,
    )


def comparison_among(labels, seeds=12, *, failed=False) -> Comparison:
    """A comparison of many optimizers in three protocols, of which some are better and some worse than the first."""
    rng = np.random.default_rng(1)
    optimizers = {label: mj.OptimizerConfig("momentum", learning_rate=0.01, momentum=0.9) for label in labels}
    cfg = mj.Config(iterations=60, seeds=tuple(range(seeds)), optimizers=optimizers)
    runs = {
        label: [
            [
                record((0.1 + 0.3 / (1 + (i + t) % 5)) * rng.lognormal(0, 0.05), 60, rng, failed=failed)
                for _ in range(seeds)
            ]
            for t in range(3)
        ]
        for i, label in enumerate(labels)
    }
    rates = (0.01, 0.1, 0.03)
    trials = {
        label: tuple(Trial(mj.OptimizerConfig("momentum", learning_rate=r, momentum=0.9), 128) for r in rates)
        for label in labels
    }
    judged = from_records(cfg, runs, np.arange(60), [60], {"data": "d"} | NATS, trials)
    titles = {
        "same": "same learning rate, 0.01",
        "matched": "same effective learning rate, 0.1",
        "tuned": "each at its best of 24 trials",
    }
    protocols = {
        name: Protocol(title, {label: arm_of(judged, label, i) for label in labels}, None)
        for i, (name, title) in enumerate(titles.items())
    }
    options = JudgingOptions(judge_by=None, target=None, margin=None, level=0.95)
    plan = {"contained": [], "trials": 24, "tune_by": "test_loss"}
    return judge_protocols(cfg, protocols, options, None, judged=(judged,), tuning=None, plan=plan, notes=[])


def comparison_of(seeds=8, trials=6) -> Comparison:
    rates = np.geomspace(0.001, 1, trials).tolist()
    draws = {label: [{"learning_rate": r, "momentum": 0.1 * i} for i, r in enumerate(rates)] for label in LABELS}
    judged = sweep_of(
        {LABELS[0]: [{"learning_rate": 0.05}, {"learning_rate": 0.1}], LABELS[1]: [{"learning_rate": 0.1}]},
        range(seeds),
    )
    protocols = {
        "same": Protocol(
            "same learning rate, 0.1",
            {LABELS[0]: arm_of(judged, LABELS[0], 1), LABELS[1]: arm_of(judged, LABELS[1], 0)},
            None,
        ),
        "matched": Protocol("same effective learning rate", {}, "it is not defined"),
        "tuned": Protocol(
            "each at its best", {LABELS[0]: arm_of(judged, LABELS[0], 0), LABELS[1]: arm_of(judged, LABELS[1], 0)}, None
        ),
    }
    options = JudgingOptions(judge_by=None, target=None, margin=None, level=0.95)
    plan = {
        "tune_by": "test_loss",
        "trials": trials,
        "validation": 10,
        "tuning_seeds": [8, 9],
        "rerun_trials": 3,
        "rerun_seeds": [],
        "search": "random",
        "search_seed": 0,
        "space": {LABELS[0]: {"learning_rate": "0.001:1.0:log"}, LABELS[1]: {}},
        "learning_rate": None,
        "effective_learning_rate": None,
        "contained": [],
        "own_task": False,
    }
    tuning = sweep_of(draws, (8, 9))
    return judge_protocols(
        judged.config, protocols, options, None, judged=(judged,), tuning=tuning, plan=plan, notes=["a note"]
    )
