"""How far a comparison is: its stages as proportions of all its work."""

from typing import Any, NamedTuple

from momentum_jax._base.progress import Report
from momentum_jax.comparison.counts import PlannedRuns
from momentum_jax.config import Config
from momentum_jax.training.cost import runs_of_measuring


class Stages(NamedTuple):
    """What each stage of a comparison costs, in runs.

    Attributes:
      report: what is told how far the comparison is.
      runs: by stage, in their order.
    """

    report: Report
    runs: dict[str, float]

    def report_of(self, stage: str) -> Report:
        """What a stage reports to: under its own name, and as a part of the whole."""
        total, names = sum(self.runs.values()), list(self.runs)
        number = names.index(stage)
        before = sum(self.runs[name] for name in names[:number])
        # Each stage compiles anew.
        pauses = len(names) - 1 - number

        def report(phase: str, *reported: Any, whole: float | None = None) -> None:
            of_all = None if whole is None else (before + self.runs[stage] * whole) / total
            self.report(stage if phase == "runs" else phase, *reported, whole=of_all, pauses=pauses)

        # What is there from an earlier call was not done between the last report and the next.
        report(stage, 0, max(1, round(self.runs[stage])), "")
        return report


def plan_stages(report: Report, cfg: Config, planned: PlannedRuns, *, timed: bool) -> Stages:
    """The stages of a comparison; with `timed`, the last one measures how long an iteration takes."""
    runs: dict[str, float] = {"tuning": planned.tuning, "rerunning": planned.rerunning, "judging": planned.judging}
    if timed:
        runs["timing"] = runs_of_measuring(cfg, len(cfg.optimizers))
    return Stages(report, {stage: count for stage, count in runs.items() if count})
