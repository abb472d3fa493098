"""What a display is told of the whole, while something is trained or compared."""

import itertools

import pytest

import momentum_jax as mj
from momentum_jax._base.progress import Display, Estimate, Lines
from momentum_jax.comparison.stages import Stages
from tests.comparison.small import OPTIMIZERS
from tests.training.small import quadratic_task

TASK = quadratic_task()
CFG = mj.Config(iterations=30, batch_size=16, seeds=8, optimizers=OPTIMIZERS, evaluate_every=10)


class Heard(Display):
    """A display that notes what it is told, and draws nothing."""

    def __init__(self):
        super().__init__(Lines(None))
        self.told = []

    def __call__(self, phase, done, total, note="", *, whole=None, pauses=0):
        self.told.append((phase, whole, pauses))


@pytest.mark.parametrize(
    ("run", "phases", "last"),
    [
        (lambda heard: mj.train(CFG, task=TASK, chunk=5, progress=heard), ["training", "evaluating"], 1),
        # Timing 2 programs in 6 rounds while one of 2 devices is idle costs as much as 24 runs, and the last report is
        # made before the last round. 4 runs are tuned with, 4 are reruns, and at most 6 trials are judged with 8 seeds.
        (
            lambda heard: mj.compare(CFG, trials=2, tuning_seeds=1, rerun_seeds=1, task=TASK, progress=heard),
            ["tuning", "rerunning", "judging", "timing"],
            1 - 4 / (4 + 4 + 48 + 24),
        ),
    ],
    ids=["train", "compare"],
)
def test_the_whole_goes_from_nothing_to_the_end_and_stands_still_while_something_compiles(run, phases, last):
    heard = Heard()
    run(heard)
    told = [(phase, whole) for phase, whole, _ in heard.told if whole is not None]
    wholes = [whole for _, whole in told]
    assert list(dict.fromkeys(phase for phase, _ in told)) == phases
    assert wholes[0] == 0
    assert wholes[-1] == pytest.approx(last)
    assert all(before <= after for before, after in itertools.pairwise(wholes))
    assert all(whole is None for phase, whole, _ in heard.told if phase == "compiling")


def test_the_first_estimate_of_a_comparison_is_within_a_tenth_where_runs_and_compiling_are_steady():
    # Oracle: a clock that is turned by 5 s for compiling, before each stage, and by 2 s for each run.
    now, estimate, firsts = 0.0, Estimate(0.0), []

    def report(phase, done, total, note="", *, whole=None, pauses=0):
        nonlocal estimate
        estimate = estimate.after(now, whole, pauses)
        if (left := estimate.left(now)) is not None:
            firsts.append((now, left))

    stages = Stages(report, {"tuning": 10.0, "judging": 8.0, "timing": 4.0})
    for stage, runs in stages.runs.items():
        of_stage = stages.report_of(stage)
        now += 5.0
        for done in range(int(runs) + 1):
            of_stage("runs", done, runs, whole=done / runs)
            now += 2.0 if done < runs else 0.0
    for at, left in firsts:
        assert left == pytest.approx(now - at, rel=0.1, abs=1e-6)
