"""How often does tuned momentum lose to tuned SGD, which its space contains? Repeats a comparison with search seeds.

Each comparison is `mj.compare` with its defaults for the tuning. Its check fires if momentum comes out behind by a loss
or by the accuracy, where it chose among the trials of both, or among its own alone. The limit is what a note says that
the best trial of another search does not exceed, in all pairs of searches.
"""

import argparse
import itertools
import pathlib

import jax
import numpy as np

import momentum_jax as mj
from momentum_jax._base.machine import cores
from momentum_jax.analysis import best_of_another_search, median_of_trials
from momentum_jax.comparison.result import notes_on_budget
from momentum_jax.comparison.tuning import tuning_losses

OPTIMIZERS = {label: mj.Config().optimizers[label] for label in ("sgd", "momentum")}
LEVEL = 0.95


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=int, default=10, help="search seeds")
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=20, help="runs of each trial that is judged")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("runs") / "search_sanity")
    arguments = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", cores())
    cfg = mj.Config(iterations=arguments.iterations, seeds=arguments.seeds, optimizers=OPTIMIZERS)
    searches = [
        mj.compare(cfg, search_seed=seed, judge_by=["train_loss", "test_accuracy"], folder=arguments.folder / str(seed))
        for seed in range(arguments.searches)
    ]
    fired, alone = (sum(fires(compared, name) for compared in searches) for name in ("tuned", "tuned_alone"))
    shared = sum("tuned_alone" in compared.protocols for compared in searches)
    print("| searches | fires | fires by own trials | momentum took a trial of SGD | other searches within the limit |")
    print("|---|---|---|---|---|")
    kept = " and ".join(f"{100 * share:.0f} % ({label})" for label, share in limits_kept(searches).items())
    print(f"| {len(searches)} | {fired} | {alone} | {shared} | {kept} |")


def fires(compared: mj.Comparison, protocol: str) -> bool:
    """Whether momentum loses to SGD; "tuned_alone" is "tuned" where it is not there."""
    arms = compared.protocols.get(protocol, compared.protocols["tuned"]).arms
    level = compared.verdicts[0].difference.level
    return any(notes_on_budget(arms, compared.plan, level))


def limits_kept(searches: list[mj.Comparison]) -> dict[str, float]:
    """By label, the share of all pairs of searches in which the second's best trial is within the first one's limit."""
    kept = {}
    for label in OPTIMIZERS:
        medians = []
        for tuning, plan in ((compared.tuning, compared.plan) for compared in searches):
            assert tuning is not None
            losses = tuning_losses(tuning, plan["tune_by"])[label]
            medians.append(median_of_trials(losses, tuning.failed[label], tuning.missing[label]))
        pairs = itertools.permutations(medians, 2)
        kept[label] = float(np.mean([b.min() <= best_of_another_search(a, LEVEL) for a, b in pairs]))
    return kept


if __name__ == "__main__":
    main()
