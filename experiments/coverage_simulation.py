"""How often does each interval cover what it is an interval of? Writes coverage.json, from which the pages have tables.

    python experiments/coverage_simulation.py

It draws data of known distributions, and counts how often the interval holds the truth. Intervals of runs: the median,
the mean, proportions and wins of paired differences. Intervals over tasks: tasks are drawn, and for each of them the
runs of two optimizers with the same seeds. The last table has identical optimizers, compared in three ways on three
tasks with targets from three tuning runs of the first one: every difference that is found is false.
"""

import argparse
import functools
import itertools
import json
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from target_simulation import CONFIG, pair

from momentum_jax.analysis import (
    Interval,
    interval_over_tasks,
    log_time_ratios,
    mean_interval,
    median_interval,
    paired_differences,
    performance_ratios,
    proportion_difference_interval,
    proportion_interval,
    simultaneous_level,
    task_scores,
    wins_interval,
)
from momentum_jax.comparison.judging import judge
from momentum_jax.comparison.target import reachable_loss, with_times

FILE = pathlib.Path(__file__).with_name("coverage.json")
LEVEL = 0.95
SEEDS = 10
# Spreads of the logarithm of a time: from seed to seed for both optimizers alike, and for each of them.
SHARED, OWN = 0.1, 0.1

Rng = np.random.Generator
Draw = Callable[[Rng, int], np.ndarray]
Measure = Callable[[np.ndarray], np.ndarray]

# By name: how to draw n differences, their median, and their mean.
DIFFERENCES: dict[str, tuple[Draw, float, float]] = {
    "normal": (lambda rng, n: rng.normal(size=n), 0.0, 0.0),
    "exponential": (lambda rng, n: rng.exponential(size=n), float(np.log(2)), 1.0),
    "difference of lognormals": (lambda rng, n: rng.lognormal(size=n) - rng.lognormal(size=n), 0.0, 0.0),
}
# By name: the logarithm of the second optimizer's time over the first's, on each of n tasks.
TASKS: dict[str, Draw] = {
    "equal on every task": lambda rng, n: np.zeros(n),
    "normal": lambda rng, n: rng.normal(-0.3, 0.3, n),
    "half equal, half twice as fast": lambda rng, n: np.log(rng.choice([1.0, 0.5], n)),
    "exponential": lambda rng, n: -0.3 * rng.exponential(size=n),
    "a fifth never gets there": lambda rng, n: np.where(rng.random(n) < 0.2, np.inf, rng.normal(-0.3, 0.3, n)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--simulations", type=int, default=10_000, help="of each row; a fifth of it over tasks, a tenth of comparisons"
    )
    simulations = parser.parse_args().simulations
    tables = {
        "simulations": simulations,
        "runs": list(rows_of_runs(simulations)),
        "tasks": list(rows_of_tasks(simulations // 5)),
        "family": family(simulations // 10),
    }
    FILE.write_text(json.dumps(tables, indent=1, ensure_ascii=False) + "\n")


def rows_of_runs(simulations: int) -> Iterable[dict[str, Any]]:
    """The coverage of the intervals of paired runs."""
    cases: list[tuple[str, str, Callable[[Rng, int], Interval], float]] = []
    for name, (draw, median, mean) in DIFFERENCES.items():
        cases.append(("median", name, functools.partial(of_differences, median_interval, draw), median))
        cases.append(("mean", name, functools.partial(of_differences, mean_interval, draw), mean))
    cases += [
        ("median", "times, of which 20 % are censored", censored, 0.0),
        ("wins", "normal", lambda rng, n: wins_interval(rng.normal(size=n)), 0.5),
        ("proportion", "10 %", lambda rng, n: proportion_interval(int(rng.binomial(n, 0.1)), n), 0.1),
        ("proportion", "50 %", lambda rng, n: proportion_interval(int(rng.binomial(n, 0.5)), n), 0.5),
        ("difference of proportions", "30 % and 10 %", failures, 0.2),
    ]
    for (what, name, interval, truth), n in itertools.product(cases, (7, 20)):
        yield row(what, name, n, simulations, interval, truth)


def of_differences(interval: Callable[[np.ndarray], Interval], draw: Draw, rng: Rng, n: int) -> Interval:
    return interval(draw(rng, n))


def failures(rng: Rng, n: int) -> Interval:
    return proportion_difference_interval(rng.random(n) < 0.3, rng.random(n) < 0.1)


def censored(rng: Rng, n: int) -> Interval:
    """The interval of the median difference of two times of the same distribution, each of which 20 % never reach."""
    times = np.exp(SHARED * rng.normal(size=n) + OWN * rng.normal(size=(2, n)))
    times[rng.random((2, n)) < 0.2] = np.inf
    return median_interval(*paired_differences(*times))


def rows_of_tasks(simulations: int) -> Iterable[dict[str, Any]]:
    """The coverage of the intervals over tasks, each of which has ten seeds."""
    measures: dict[str, Measure] = {"relative time": relative_time, "score": score}
    for (what, measure), (name, draw) in itertools.product(measures.items(), TASKS.items()):
        # The truth is that of runs without noise, over very many tasks.
        without_noise = np.stack([np.ones(200_000), np.exp(draw(np.random.default_rng(1), 200_000))])
        truth = float(measure(without_noise).mean())
        for n in (3, 6, 12):
            yield row(what, name, n, simulations, functools.partial(over_tasks, measure, draw), truth)


def relative_time(medians: np.ndarray) -> np.ndarray:
    return log_time_ratios(medians[1], medians[0])


def score(medians: np.ndarray) -> np.ndarray:
    return np.asarray(task_scores(performance_ratios(medians))[1])


def over_tasks(measure: Measure, draw: Draw, rng: Rng, n: int) -> Interval:
    return interval_over_tasks([times_on(ratio, rng) for ratio in draw(rng, n)], measure, LEVEL, 200)


def times_on(log_ratio: float, rng: Rng) -> np.ndarray:
    """The times of two optimizers on a task, with the same seeds."""
    shared = SHARED * rng.normal(size=SEEDS) + OWN * rng.normal(size=(2, SEEDS))
    return np.asarray(np.exp(shared + np.array([[0.0], [log_ratio]])))


def row(
    what: str, name: str, n: int, simulations: int, interval: Callable[[Rng, int], Interval], truth: float
) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    covered = sum(low <= truth <= high for _, low, high, _ in (interval(rng, n) for _ in range(simulations)))
    return {"what": what, "distribution": name, "n": n, "level": LEVEL, "coverage": covered / simulations}


def family(simulations: int, tasks: int = 3, protocols: int = 3, seeds: int = 12) -> dict[str, Any]:
    """How often any difference in the time to the target is found between identical optimizers, over all tasks."""
    rng = np.random.default_rng(0)
    level = simultaneous_level(LEVEL, tasks * protocols)
    found = sum(any(finds_on_task(rng, protocols, seeds, level) for _ in range(tasks)) for _ in range(simulations))
    numbers = {"tasks": tasks, "protocols": protocols, "seeds": seeds, "simulations": simulations}
    return numbers | {"level": LEVEL, "false": found / simulations}


def finds_on_task(rng: Rng, protocols: int, seeds: int, level: float) -> bool:
    target = reachable_loss([pair(3, 1.0, rng)["a"]], CONFIG)
    assert target is not None
    outcomes = []
    for _ in range(protocols):
        arms = {label: with_times(arm, CONFIG, target) for label, arm in pair(seeds, 1.0, rng).items()}
        verdict = judge("tuned", "iterations_to_target", arms, "b", "a", level=level, margin=None, target=target)
        outcomes.append(verdict.outcome)
    return bool({"better", "worse"} & set(outcomes))


if __name__ == "__main__":
    main()
