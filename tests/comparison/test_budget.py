"""`compare(within=…)`: what is chosen, by a clock that is turned by what runs cost."""

import dataclasses
import pathlib
import types

import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax._base.progress import no_progress
from momentum_jax.comparison import across_tasks, budget, procedure
from momentum_jax.comparison.budget import Budget, Costs, resolved_difference, seeds_that_fit
from momentum_jax.comparison.folder import read_plan
from momentum_jax.comparison.wording import notes_on_time
from momentum_jax.space import Trial
from momentum_jax.sweeps.driver import run_sweep
from momentum_jax.sweeps.plan import plan_sweep
from momentum_jax.sweeps.workers import LocalDevices
from momentum_jax.training.loop import Interrupted
from tests.comparison.small import OPTIMIZERS, SPACE
from tests.sweeps import host_runs
from tests.training.small import quadratic_task

pytestmark = pytest.mark.usefixtures("compiled_quickly")

CFG = mj.Config(iterations=200, batch_size=16, optimizers=OPTIMIZERS)
# No space contains another: 7 seeds for verdicts in 3 protocols.
OPTIONS = {"space": SPACE, "tuning_seeds": 1, "rerun_trials": 1, "rerun_seeds": 1, "task": quadratic_task()}
COSTS = Costs(beginning=5.0, iteration=0.01, evaluation=0.5)
# Each of two sweeps has 16 runs, of 100 and of all 200 iterations.
PILOT = 2 * 5 + 16 * (1 + 0.5) + 16 * (2 + 0.5)


def seconds_of_plan(trials, seeds, iterations=200, evaluations=1):
    """Two optimizers with one run of each trial and each rerun, five trials to judge, one device of two to time."""
    run = iterations * 0.01 + 0.5
    judged = iterations * 0.01 + evaluations * 0.5
    timing = 2 * 6 * min(1, 300 / iterations) * 2 * iterations * 0.01
    return 4 * 5 + (2 * trials + 2) * run + 5 * seeds * judged + timing


class StoppedError(Exception):
    """Raised where the tuning would begin."""


@pytest.fixture
def clock(monkeypatch):
    """A clock that each sweep turns by its costs, after the pilot by `slower` times as much."""
    clock = types.SimpleNamespace(now=100.0, slower=1.0, pilots=[], stopped=False)

    def costing(slower):
        def timed(plan, workers, report, *folder):
            if folder and clock.stopped:
                raise StoppedError
            if not folder:
                clock.pilots.append(plan.cfg.iterations)
            runs = sum(map(len, plan.trials.values())) * len(plan.cfg.seed_tuple)
            clock.now += slower() * COSTS.beginning
            report("runs", 0, runs, "", whole=0.0)
            clock.now += slower() * runs * (plan.cfg.iterations * COSTS.iteration + COSTS.evaluation)
            return run_sweep(plan, workers, report, *folder)

        return timed

    monkeypatch.setattr(budget, "now", lambda: clock.now)
    monkeypatch.setattr(budget, "run_sweep", costing(lambda: 1.0))
    monkeypatch.setattr(procedure, "run_sweep", costing(lambda: clock.slower))
    seconds = lambda cfg, trials, *_: {label: [[0.001] * 5] * len(own) for label, own in trials.items()}  # noqa: E731
    monkeypatch.setattr(procedure, "measure_steps", seconds)
    return clock


@pytest.fixture
def planned(clock, tmp_path):
    """The plan that is chosen. Nothing but the pilot is trained."""
    clock.stopped = True

    def plan(within, cfg=CFG, **options):
        with pytest.raises(StoppedError):
            mj.compare(cfg, within=within, **OPTIONS | options, folder=tmp_path / "c")
        return read_plan(tmp_path / "c")

    return plan


def enough_for(*plan, **options):
    return PILOT + seconds_of_plan(*plan, **options) / 0.8


@pytest.mark.parametrize(
    ("within", "trials", "seeds"),
    [
        (enough_for(4, 7) + 0.1, 4, 7),
        (enough_for(8, 10) - 0.1, 8, 7),
        (enough_for(8, 10) + 0.1, 8, 10),
        (10_000, 64, 30),
    ],
)
def test_the_largest_plan_is_chosen_that_takes_four_fifths_of_what_the_pilot_leaves(planned, within, trials, seeds):
    plan = planned(within)
    assert (plan["trials"], plan["config"]["seeds"]) == (trials, list(range(seeds)))
    assert plan["config"]["iterations"] == 200
    assert plan["within"]["predicted"] == pytest.approx(PILOT + seconds_of_plan(trials, seeds))


def test_what_is_given_is_kept_and_the_rest_is_chosen(planned):
    plan = planned(enough_for(5, 20) + 0.1, trials=5)
    assert (plan["trials"], len(plan["config"]["seeds"])) == (5, 20)


def test_seeds_that_are_given_are_kept_and_evaluations_along_the_way_are_counted(planned):
    cfg = dataclasses.replace(CFG, seeds=(4, 9, 2, 5, 6, 7, 8), evaluate_every=100)
    plan = planned(enough_for(24, 7, evaluations=2) + 0.1, cfg)
    assert (plan["trials"], plan["config"]["seeds"]) == (24, [4, 9, 2, 5, 6, 7, 8])


def test_a_grid_is_as_large_as_it_is(planned):
    plan = planned(enough_for(2, 12) + 0.1, search="grid", space={"learning_rate": [0.05, 0.1]})
    assert (plan["trials"], len(plan["config"]["seeds"])) == (2, 12)


def rates(count):
    return {"learning_rate": np.linspace(0.01, 0.1, count).tolist()}


@pytest.mark.parametrize(("space", "trials"), [(rates(3), 3), ({"sgd": rates(20), "momentum": rates(40)}, 20)])
def test_a_space_of_few_values_gives_no_more_trials_than_all_have(planned, space, trials):
    plan = planned(10_000, space=space)
    assert (plan["trials"], len(plan["config"]["seeds"])) == (trials, 30)


def test_larger_batches_of_a_space_count_by_their_size(planned):
    # Twice the 16 examples of the config on the average, which the timing of an iteration takes to be all alike.
    larger = {"space": {"batch_size": [16, 48], "learning_rate": [0.05, 0.1]}, "search": "grid"}
    slow = seconds_of_plan(4, 12) + (10 + 60) * 2 + 24 * 2
    plan = planned(PILOT + slow / 0.8 + 0.1, **larger)
    assert len(plan["config"]["seeds"]) == 12
    assert plan["within"]["predicted"] == pytest.approx(PILOT + slow)


def test_iterations_are_fewer_where_the_smallest_plan_does_not_fit(planned):
    plan = planned(enough_for(4, 7, iterations=150) + 0.1)
    assert (plan["trials"], len(plan["config"]["seeds"]), plan["config"]["iterations"]) == (4, 7, 150)


def test_too_little_time_is_refused_and_the_time_that_is_named_is_enough(clock, planned, tmp_path):
    with pytest.raises(
        mj.InputError, match=r"within must be about (\d+) s or more here, not 30 s: .* 100 iter"
    ) as error:
        mj.compare(CFG, within=30, **OPTIONS, folder=tmp_path / "c")
    enough = int(str(error.value).split()[4])
    assert enough == 10 * np.ceil(1.1 * enough_for(4, 7, iterations=100) / 10)
    assert 100 <= planned(enough)["config"]["iterations"] < 200


def test_what_a_plan_can_resolve_is_the_half_width_from_the_spread_of_runs_at_one_effective_rate(planned):
    within = planned(10_000)["within"]
    cfg = dataclasses.replace(
        CFG,
        seeds=tuple(range(3_000_000, 3_000_008)),
        optimizers=OPTIMIZERS | {"sgd": mj.OptimizerConfig("sgd", learning_rate=0.5)},
    )
    loss = mj.train(cfg, task=OPTIONS["task"].split_validation(33)).train_loss
    spread = np.std(loss["momentum"].astype(float) - loss["sgd"], ddof=1) / np.median(loss["sgd"])
    assert within["metric"] == "train_loss"
    # The widths of standard normal differences, 30 of them at 98.33 %, by simulation: see the test of the half width.
    assert within["resolves"] == pytest.approx(resolved_difference(spread, 30, 1 - 0.05 / 3), rel=1e-4)


def test_where_the_runs_of_the_pilot_fail_nothing_is_said_of_what_can_be_resolved(clock, tmp_path):
    cfg = dataclasses.replace(CFG, optimizers=OPTIMIZERS | {"sgd": mj.OptimizerConfig("sgd", learning_rate=1e9)})
    clock.stopped = True
    with pytest.raises(StoppedError):
        mj.compare(cfg, within=10_000, **OPTIONS, folder=tmp_path)
    assert read_plan(tmp_path)["within"]["resolves"] is None


def test_a_run_that_diverges_is_trained_to_the_end_of_its_chunk():
    optimizers = OPTIMIZERS | {"sgd": mj.OptimizerConfig("sgd", learning_rate=1e9)}
    cfg = dataclasses.replace(CFG, iterations=150, seeds=2, optimizers=optimizers)
    trials = {label: (Trial(own, 16),) for label, own in optimizers.items()}
    plan = plan_sweep(cfg, trials, OPTIONS["task"])
    assert budget._timed_sweep(plan, LocalDevices(None, "auto"), no_progress).iterations == 2 * (100 + 150)


def test_the_second_sweep_of_the_pilot_takes_a_twentieth_of_the_time(clock, planned):
    # The first has 16 runs of 1.5 s, and 72 s are three times as much.
    planned(1440, dataclasses.replace(CFG, iterations=1000))
    assert clock.pilots == [100, 300]


@pytest.mark.parametrize(
    ("second", "costs"),
    [
        # 100 more iterations of 16 runs take 16 s more, and 8 of the first 24 s do not grow.
        ((40.0, 3200), Costs(2.0, 0.01, 0.5)),
        # What grows more than in proportion has no evaluation, and what does not grow is all iterations.
        ((60.0, 3200), Costs(2.0, 60 / 3200, 0.0)),
        ((20.0, 3200), Costs(2.0, 20 / 3200, 0.0)),
        ((20.0, 1600), Costs(2.0, 20 / 1600, 0.0)),
    ],
)
def test_costs_are_those_of_the_line_through_two_sweeps(second, costs):
    first, longer = (budget._Timed(None, *own) for own in ((2.0, 24.0, 1600), (1.0, *second)))
    assert budget._costs(first, longer, 16) == pytest.approx(costs)


@pytest.fixture
def options(tmp_path):
    return {"within": enough_for(8, 10) + 0.1, **OPTIONS, "folder": tmp_path / "c"}


def test_an_interrupted_comparison_goes_on_with_its_plan_to_the_same_bits(clock, options, tmp_path):
    def stop(phase, done, total, note=""):
        if phase == "rerunning" and done:
            raise KeyboardInterrupt

    whole = mj.compare(CFG, **options)
    assert (clock.pilots, whole.plan["trials"], len(whole.config.seeds)) == ([100, 200], 8, 10)
    other = options | {"folder": tmp_path / "other"}
    with pytest.raises(Interrupted):
        mj.compare(CFG, **other, progress=stop)
    resumed = mj.compare(CFG, **other)
    # The second folder had a pilot of its own, and the call that went on had none.
    assert clock.pilots == 2 * [100, 200]
    assert resumed.plan == whole.plan
    for one, two in zip(
        (whole.tuning, whole.rerun, *whole.judged), (resumed.tuning, resumed.rerun, *resumed.judged), strict=True
    ):
        np.testing.assert_array_equal(one.losses_before["momentum"], two.losses_before["momentum"])
        assert one.evaluations.keys() == two.evaluations.keys()
    assert repr(resumed.verdicts) == repr(whole.verdicts)
    assert any(note.startswith("all of it took ") and ", of " in note for note in whole.notes)
    # Nobody knows how long two calls took.
    assert [note for note in whole.notes if not note.startswith("all of it took ")] == list(resumed.notes)
    assert repr(mj.Comparison.load(options["folder"]).verdicts) == repr(whole.verdicts)


def test_a_pilot_that_is_interrupted_hands_out_and_leaves_nothing(clock, options):
    def stop(phase, done, total, note=""):
        if phase == "planning" and done == total:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as stopped:
        mj.compare(CFG, **options, progress=stop)
    assert (stopped.value.result, clock.pilots) == (None, [100])
    assert not options["folder"].exists()


def test_a_folder_with_another_time_or_without_one_is_refused_before_a_pilot(clock, options, tmp_path):
    def refused(words, **changes):
        with pytest.raises(mj.InputError, match=words):
            mj.compare(CFG, **options | changes)

    clock.stopped = True
    without = {name: own for name, own in options.items() if name != "within"}
    # The numbers that were chosen go on from the folder as well, and with more seeds.
    for cfg, own in ((CFG, options), (dataclasses.replace(CFG, seeds=12), without | {"trials": 8})):
        with pytest.raises(StoppedError):
            mj.compare(cfg, **own)
    refused(r"holds another comparison: within\.seconds is 3.*, not 500\.0; choose", within=500)
    refused(r"within\.asked\.trials is null, not 3", trials=3)
    with pytest.raises(StoppedError):
        mj.compare(dataclasses.replace(CFG, seeds=7), **without | {"folder": tmp_path / "timeless"})
    refused(r"within\.seconds is null", folder=tmp_path / "timeless")
    (tmp_path / "file").touch()
    refused("holds files that are not a comparison", folder=tmp_path)
    assert len(clock.pilots) == 2


def test_where_the_tuning_is_slower_than_the_pilot_fewer_seeds_judge_but_never_fewer_than_verdicts_take(clock, options):
    clock.slower = 1.4
    compared = mj.compare(CFG, **options)
    # Tuning and reruns were to take 18 runs and two beginnings, 55 s.
    left = options["within"] - PILOT - 1.4 * 55 - 1.4 * (5 + 48)
    fit = int(left / (1.4 * (5 + 50 * 2.5) / 10))
    assert 7 < fit < 10
    assert compared.config.seeds == tuple(range(fit))
    assert compared.findings
    assert f"the tuning was slower than the pilot: {fit} seeds judge, not 10" in compared.notes
    assert mj.Comparison.load(options["folder"]).config == compared.config


def test_seeds_that_were_given_judge_however_slow_the_runs_are():
    given = Budget(100.0, 4, 20, 20, 200, 10.0, {"tuning": 20.0, "judging": 40.0}, "train_loss", None, None)
    assert seeds_that_fit(given, 99.0) == 20
    assert seeds_that_fit(given._replace(least_seeds=8), 40.0) == 20
    # The tuning took twice its time, so that a seed takes 4 s, and 50 s are left.
    assert seeds_that_fit(given._replace(least_seeds=8), 50.0) == 12


def test_notes_say_what_was_cut_and_what_took_too_long():
    asked = {"trials": None, "seeds": [0], "iterations": 2000}
    within = {"seconds": 600.0, "asked": asked, "seeds": 8, "predicted": 450.0, "metric": "train_loss"}
    plan = {
        "trials": 4,
        "config": {"seeds": list(range(8)), "iterations": 640},
        "within": within | {"resolves": 0.0427},
    }
    assert list(notes_on_time(plan, 660.0)) == [
        "planned by a pilot to fit into 10 min: 4 trials of each optimizer, 8 seeds to judge with, 640 iterations; "
        "they can resolve differences in the training loss over about 4.3 %",
        "in 10 min there is no time for the 2,000 iterations that were asked for",
        "all of it took 11 min, more than the 10 min; the pilot predicted 7.5 min",
    ]
    assert list(notes_on_time({"config": plan["config"]}, None)) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"within": 0}, "within must be finite and at least 1, not 0"),
        ({"within": "10m"}, "within must be finite and at least 1, not '10m'"),
        ({"within": 60, "cluster": "auto"}, "within is for runs on this machine; with a cluster give trials"),
        ({"within": 60, "trials": 0}, "trials must be an integer of at least 1"),
        ({"within": 60, "judge_by": ["test_los"]}, "did you mean 'test_loss'"),
    ],
)
def test_what_cannot_be_is_refused_before_the_pilot(clock, change, words):
    with pytest.raises(mj.InputError, match=words):
        mj.compare(CFG, **OPTIONS | change)
    assert not clock.pilots


@pytest.mark.exhaustive
def test_a_training_loop_of_ones_own_is_planned_too_without_a_timing(clock, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(pathlib.Path(__file__).parents[2]))
    clock.stopped = True
    own = {"task": mj.HostTask(host_runs.quadratic), "folder": tmp_path}
    # At the rates of the other tests this loop diverges.
    rules = {
        label: mj.OptimizerConfig(rule.name, **rule.hyperparameters | {"learning_rate": 0.005})
        for label, rule in OPTIMIZERS.items()
    }
    cfg = dataclasses.replace(CFG, optimizers=rules)
    with pytest.raises(StoppedError):
        mj.compare(cfg, within=PILOT + (seconds_of_plan(8, 10) - 5 - 48) / 0.8 + 0.1, **OPTIONS | own)
    plan = read_plan(tmp_path)
    assert (plan["trials"], len(plan["config"]["seeds"])) == (8, 10)
    assert plan["within"]["resolves"] > 0


def test_tasks_get_equal_parts_and_what_one_leaves_goes_to_those_after_it(monkeypatch, tmp_path):
    clock, given = types.SimpleNamespace(now=0.0), []

    def choose(within, trials, planned, *_):
        given.append((planned.cfg.seed_tuple, within))
        return planned, None

    def run_comparison(*_, **__):
        clock.now += 40.0

    monkeypatch.setattr(budget, "now", lambda: clock.now)
    monkeypatch.setattr(across_tasks, "choose", choose)
    monkeypatch.setattr(across_tasks, "run_comparison", run_comparison)
    monkeypatch.setattr(across_tasks, "with_reference", lambda *_: None)
    tasks = dict.fromkeys("abc", OPTIONS["task"])
    mj.compare_tasks(tasks, OPTIMIZERS, within=300, folder=tmp_path)
    assert given == [((0,), 100.0), ((0,), 130.0), ((0,), 220.0)]
    # A task that was begun keeps its part, and a call that goes on leaves as much to the others.
    monkeypatch.setattr(across_tasks, "seconds_within", lambda folder: 100.0 if folder.name == "a" else None)
    given.clear()
    mj.compare_tasks(tasks, OPTIMIZERS, within=300, folder=tmp_path, cfg=dataclasses.replace(CFG, seeds=9))
    assert given == [(tuple(range(9)), 100.0), (tuple(range(9)), 100.0), (tuple(range(9)), 160.0)]


def test_the_plans_of_tasks_are_checked_before_the_pilot_of_the_first_and_gone_on_with(clock, tmp_path):
    options = {"within": 10_000, **OPTIONS, "cfg": CFG, "folder": tmp_path / "t"}
    tasks = dict.fromkeys("ab", options.pop("task"))

    def refused(words, **changes):
        with pytest.raises(mj.InputError, match=words):
            mj.compare_tasks(tasks, OPTIMIZERS, **options | changes)

    clock.stopped = True
    refused("task 'a': within must be about", within=60)
    clock.pilots.clear()
    for _ in range(2):
        with pytest.raises(StoppedError):
            mj.compare_tasks(tasks, OPTIMIZERS, **options)
    plan = read_plan(tmp_path / "t" / "a")
    assert (plan["within"]["seconds"], plan["trials"]) == (5000, 64)
    (tmp_path / "t" / "a").rename(tmp_path / "t" / "b")
    refused(r"b' holds another comparison: within\.asked\.trials is null, not 3", trials=3)
    refused(r"b' holds another comparison: search_seed is 0, not 1", search_seed=1)
    refused("within is for runs on this machine", cluster="auto")
    refused("within must be finite and at least 1, not 0", within=0)
    assert clock.pilots == [100, 200]
