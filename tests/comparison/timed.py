"""Comparisons on several tasks that nothing is trained for: each run's loss falls at the iteration that is given."""

import numpy as np

import momentum_jax as mj
from momentum_jax.comparison.protocols import Protocol
from momentum_jax.comparison.result import JudgingOptions, judge_protocols
from momentum_jax.comparison.task_comparison import task_comparison_of
from momentum_jax.results.record import Record
from tests.comparison.by_hand import TRIAL, arm
from tests.results.made import from_records

ITERATIONS = 100
TARGET = 0.5
TITLES = {"same": "same learning rate, 0.05", "tuned": "each at its best of 4 trials"}


def timed(times, *, target=TARGET, level=0.95):
    """A comparison from, by label, the iterations at which its runs fall; None for a run that never does."""
    seeds = range(len(next(iter(times.values()))))
    cfg = mj.Config(
        iterations=ITERATIONS,
        seeds=len(seeds),
        optimizers={label: mj.OptimizerConfig("sgd", learning_rate=0.05) for label in times},
    )
    arms = {
        label: arm(seeds, curves=[np.arange(ITERATIONS) < (ITERATIONS if time is None else time) for time in own])
        for label, own in times.items()
    }
    # Nothing is read from these runs.
    history = np.zeros(ITERATIONS, np.float32)
    runs = [Record(None, history, {}, -1, {}, False, None) for _ in seeds]
    trials = dict.fromkeys(times, (TRIAL,))
    judged = from_records(cfg, {label: [runs] for label in times}, np.arange(ITERATIONS), [], {}, trials)
    protocols = {name: Protocol(title, arms, None) for name, title in TITLES.items()}
    options = JudgingOptions(None, target, None, level)
    plan = {"contained": [], "trials": 4, "tune_by": "test_loss", "tuning_seeds": [50], "rerun_seeds": list(range(9))}
    return judge_protocols(cfg, protocols, options, target, judged=(judged,), tuning=None, plan=plan, notes=[])


def sooner(ratio, *, seeds=10):
    """The times of two optimizers of which the second takes that many times as long; spread over the seeds."""
    first = np.linspace(36, 44, seeds).round().astype(int)
    return {"sgd": first.tolist(), "momentum": (ratio * first).round().astype(int).tolist()}


def three_tasks(**options):
    """Twice as fast, a fifth faster, and never there."""
    never = sooner(1) | {"momentum": [None] * 10}
    return task_comparison_of({"a": timed(sooner(0.5)), "b": timed(sooner(0.8)), "c": timed(never)}, 0.95, **options)
