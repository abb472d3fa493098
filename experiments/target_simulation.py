"""How often do the times to the automatic target give no verdict, a false one or a true one? Prints a table.

Losses fall as 0.05 + 2.25 / (1 + s·t/20) over 400 iterations t, with 18 % noise on each batch. The speed s differs by
10 % from seed to seed for both optimizers alike, and by another 10 % for each. The target is that of 10 tuning runs.
One pair in three protocols is judged at 95 % together.
"""

import argparse
import collections
from collections.abc import Mapping

import numpy as np

import momentum_jax as mj
from momentum_jax.analysis import simultaneous_level
from momentum_jax.comparison.arms import Arm
from momentum_jax.comparison.judging import judge
from momentum_jax.comparison.target import LEAST_RUNS, reachable_loss, with_times
from momentum_jax.space import Trial

CONFIG = mj.Config(iterations=400)
TRIAL = Trial(mj.OptimizerConfig("sgd", learning_rate=0.1), CONFIG.batch_size)
FASTER = 1.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000, help="comparisons of each kind")
    simulations = parser.parse_args().simulations
    print("| seeds | alike: no verdict | alike: a difference found | 10 % faster: found |")
    print("|---|---|---|---|")
    for seeds in (10, 20, 30):
        alike, faster = (shares(seeds, speed, simulations) for speed in (1.0, FASTER))
        numbers = (alike["no verdict"], alike["better"] + alike["worse"], faster["better"])
        print(f"| {seeds} | " + " | ".join(f"{100 * share:.1f} %" for share in numbers) + " |")


def shares(seeds: int, speed: float, simulations: int) -> Mapping[str, float]:
    """The share of each outcome of a second optimizer, which is that much faster than the first."""
    rng = np.random.default_rng(0)
    outcomes = collections.Counter(outcome(seeds, speed, rng) for _ in range(simulations))
    return collections.defaultdict(float, {name: count / simulations for name, count in outcomes.items()})


def outcome(seeds: int, speed: float, rng: np.random.Generator) -> str:
    """The outcome of one comparison, whose target is taken from runs with other seeds."""
    target = reachable_loss(pair(LEAST_RUNS, speed, rng).values(), CONFIG)
    assert target is not None
    arms = {label: with_times(arm, CONFIG, target) for label, arm in pair(seeds, speed, rng).items()}
    level = simultaneous_level(0.95, 3)
    return judge("tuned", "iterations_to_target", arms, "b", "a", level=level, margin=None, target=target).outcome


def pair(seeds: int, speed: float, rng: np.random.Generator) -> dict[str, Arm]:
    """The runs of two optimizers with the same seeds."""
    shared = 0.1 * rng.standard_normal(seeds)
    return {"a": runs(shared, 1.0, rng), "b": runs(shared, speed, rng)}


def runs(shared: np.ndarray, speed: float, rng: np.random.Generator) -> Arm:
    seeds = len(shared)
    speeds = speed * np.exp(shared + 0.1 * rng.standard_normal(seeds))[:, None]
    means = 0.05 + 2.25 / (1 + speeds * np.arange(CONFIG.iterations) / 20)
    losses = means * np.exp(0.18 * rng.standard_normal(means.shape))
    return Arm(TRIAL, np.arange(seeds), 0, losses.astype(np.float32), np.zeros(seeds, bool), None, {})


if __name__ == "__main__":
    main()
