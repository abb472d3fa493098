"""What `momentum-jax compare` says before it tunes: how many runs it trains, and whether the seeds suffice."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from momentum_jax._base.display import counted, time_text
from momentum_jax.comparison.counts import planned_runs
from momentum_jax.comparison.protocols import plan_untuned
from momentum_jax.comparison.tuning import plan_search
from momentum_jax.comparison.wording import resolution_text
from momentum_jax.config import Config


def announcement(cfg: Config, options: Mapping[str, Any], finished: int, plan: Mapping[str, Any] | None = None) -> str:
    """The lines that say what is to be trained.

    Args:
      cfg: with the optimizers that are compared.
      options: what `compare` is given.
      finished: how many runs are there from before.
      plan: what was chosen to keep within a time, as the folder has it.

    Raises:
      InputError: `compare` would refuse them.
    """
    if plan is not None:
        cfg = dataclasses.replace(cfg, seeds=tuple(plan["config"]["seeds"]), iterations=plan["config"]["iterations"])
        options = {**options, "trials": plan["trials"]}
    names = ("space", "search", "trials", "search_seed", "tuning_seeds", "rerun_trials", "rerun_seeds")
    search = plan_search(cfg, *(options[name] for name in names))
    untuned = plan_untuned(cfg, options["learning_rate"], options["effective_learning_rate"])
    planned = planned_runs(search, cfg, untuned, options["level"])
    seeds, level = len(cfg.seed_tuple), f"{100 * options['level']:g} %"
    runs = counted(planned.tuning + planned.rerunning + planned.judging, "run")
    again = counted(len(search.rerun_seeds), "seed")
    lines = [
        f"trains at most {runs} of {counted(cfg.iterations, 'iteration')}: {planned.tuning} to tune "
        f"({counted(len(cfg.optimizers), 'optimizer')} x {counted(planned.trials, 'trial')} x "
        f"{counted(planned.tuning_seeds, 'seed')}), "
        + (f"{planned.rerunning} to rerun the best {planned.rerun_trials} ({again}), " if planned.rerunning else "")
        + f"then {planned.judging} to judge ({counted(seeds, 'seed')})"
        + (f"; {finished:,} are there already" if finished else "")
        + "; at the end it times an iteration of each optimizer"
    ]
    # `compare` itself warns of too few.
    if seeds >= planned.seeds_needed:
        lines.append(
            f"{counted(seeds, 'seed')} to judge with are enough for verdicts at {level}, which take "
            f"{planned.seeds_needed}"
        )
    if plan is not None:
        within = plan["within"]
        lines.append(
            f"planned to take about {time_text(within['predicted'])} of {time_text(within['seconds'])}; "
            f"{resolution_text(within)}"
        )
    return "\n".join(lines)
