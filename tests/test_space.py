"""From a space to trials: every combination once, or draws that fill it."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import qmc

import momentum_jax as mj
from momentum_jax._base.errors import InputError
from momentum_jax.optimizers.description import quote_if_needed
from momentum_jax.space import make_trials, parse_axis, text_of_axis
from tests.configs import SCALARS

WARMUP = mj.Schedule("warmup_cosine", peak_value=0.3, warmup_steps=5, decay_steps=100)
OPTIMIZERS = {
    "sgd": mj.OptimizerConfig("sgd", learning_rate=0.1),
    "momentum": mj.OptimizerConfig("momentum", learning_rate=0.1, momentum=0.9),
    "scheduled": mj.OptimizerConfig("momentum", learning_rate=WARMUP),
}
CFG = mj.Config(batch_size=16, optimizers=OPTIMIZERS)


def values(trials, *names):
    """The hyperparameters of these names, trial by trial."""
    return [tuple(trial.optimizer.hyperparameters[name] for name in names) for trial in trials]


def test_a_grid_is_all_combinations_in_the_order_of_the_values():
    trials = make_trials(CFG, {"momentum": {"learning_rate": [0.3, 0.1], "momentum": [0.5, 0.9, 0]}})
    expected = list(itertools.product([0.3, 0.1], [0.5, 0.9, 0]))
    assert values(trials["momentum"], "learning_rate", "momentum") == expected


def test_an_optimizer_without_anything_to_vary_is_one_trial_as_the_config_has_it():
    trials = make_trials(CFG, {"momentum": {"momentum": [0.5, 0.9]}})
    assert list(trials) == ["sgd", "momentum", "scheduled"]
    for label in ("sgd", "scheduled"):
        assert [(trial.optimizer, trial.batch_size) for trial in trials[label]] == [(OPTIMIZERS[label], 16)]


def test_a_bare_name_is_for_every_optimizer_that_has_it():
    trials = make_trials(CFG, {"learning_rate": [0.1, 0.2], "momentum": [0.5, 0.6]})
    # The label "momentum" has the name of a hyperparameter; a list of values tells which is meant.
    assert {label: len(own) for label, own in trials.items()} == {"sgd": 2, "momentum": 4, "scheduled": 4}


def test_the_values_of_a_label_go_before_those_of_the_bare_name():
    trials = make_trials(CFG, {"learning_rate": [0.1, 0.2], "sgd": {"learning_rate": [0.5]}})
    assert values(trials["sgd"], "learning_rate") == [(0.5,)]
    assert values(trials["momentum"], "learning_rate") == [(0.1,), (0.2,)]


def test_batch_sizes_vary_like_hyperparameters():
    trials = make_trials(CFG, {"batch_size": [8, np.int64(32)], "sgd": {"learning_rate": [0.1, 0.2]}})
    assert [trial.batch_size for trial in trials["momentum"]] == [8, 32]
    # Grids go through the bare names first.
    assert [trial.batch_size for trial in trials["sgd"]] == [8, 8, 32, 32]
    assert all(type(trial.batch_size) is int for own in trials.values() for trial in own)
    assert all("batch_size" not in trial.optimizer.hyperparameters for own in trials.values() for trial in own)


def test_schedules_are_values_and_their_parameters_vary_by_name():
    constant = mj.Schedule("constant", value=0.2)
    trials = make_trials(
        CFG, {"sgd": {"learning_rate": [0.1, constant]}, "learning_rate.peak_value": [0.1, np.float32(0.5)]}
    )
    assert values(trials["sgd"], "learning_rate") == [(0.1,), (constant,)]
    assert [schedule.hyperparameters["peak_value"] for (schedule,) in values(trials["scheduled"], "learning_rate")] == [
        0.1,
        0.5,
    ]
    assert len(trials["momentum"]) == 1


def test_no_two_trials_are_the_same_and_equal_values_of_other_types_are_not_the_same():
    trials = make_trials(CFG, {"momentum": {"learning_rate": np.array([0.1, 0.2, 0.1]), "momentum": [0.5, 0.5]}})
    assert values(trials["momentum"], "learning_rate", "momentum") == [(0.1, 0.5), (0.2, 0.5)]
    trials = make_trials(CFG, {"momentum": {"mask": [True, False, True, 1]}})
    assert [repr(value) for (value,) in values(trials["momentum"], "mask")] == ["True", "False", "1"]
    # Where the default is a boolean, 1 is one too.
    trials = make_trials(CFG, {"momentum": {"decoupled_weight_decay": [True, False, 1, 0]}})
    assert values(trials["momentum"], "decoupled_weight_decay") == [(True,), (False,)]


SCALARS_OF_AN_AXIS = st.lists(SCALARS, min_size=1, max_size=4)


@given(st.sampled_from(["learning_rate", "a b.momentum", "a=b.momentum", "'.nesterov", '"x".mask']), SCALARS_OF_AN_AXIS)
def test_the_text_of_an_axis_is_read_back(name, axis):
    label, point, hyperparameter = name.rpartition(".")
    written = f"{quote_if_needed(label, '=')}.{hyperparameter}" if point else name
    assert repr(parse_axis(f"{written}={text_of_axis(axis)}")) == repr((name, tuple(axis)))


DISTRIBUTIONS = [mj.Uniform(0, 1), mj.LogUniform(np.float32(0.5), np.int64(2)), mj.ReverseLogUniform(-1.5, 0.99)]


@pytest.mark.parametrize("axis", DISTRIBUTIONS, ids=repr)
def test_the_text_of_a_distribution_is_read_back(axis):
    assert parse_axis(f"x={text_of_axis(axis)}") == ("x", axis)


def test_a_string_with_a_colon_is_no_range():
    assert parse_axis("x='a:b',2") == ("x", ("a:b", 2))


NUMBERS = st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=4)


@given(NUMBERS, NUMBERS, st.lists(st.integers(1, 64), min_size=1, max_size=3))
def test_the_trials_of_a_grid_are_its_combinations_each_once(rates, momenta, sizes):
    trials = make_trials(CFG, {"momentum": {"learning_rate": rates, "momentum": momenta, "batch_size": sizes}})
    found = [
        (
            trial.optimizer.hyperparameters["learning_rate"],
            trial.optimizer.hyperparameters["momentum"],
            trial.batch_size,
        )
        for trial in trials["momentum"]
    ]
    assert set(found) == set(itertools.product(rates, momenta, sizes))
    # 0.0 and −0.0 are equal but not the same.
    distinct = [len({repr(value) for value in of_one}) for of_one in (rates, momenta, sizes)]
    assert len(found) == np.prod(distinct)


SPACE = {"learning_rate": mj.LogUniform(1e-4, 1), "momentum": mj.Uniform(0.2, 0.9)}


@pytest.mark.parametrize("search", ["random", "sobol"])
@pytest.mark.parametrize("budget", [1, 7, 32])
def test_a_search_has_as_many_distinct_trials_as_its_budget_within_the_bounds(search, budget):
    trials = make_trials(CFG, {"momentum": SPACE}, search=search, budget=budget)
    assert {label: len(own) for label, own in trials.items()} == {"sgd": 1, "momentum": budget, "scheduled": 1}
    drawn = values(trials["momentum"], "learning_rate", "momentum")
    assert len(set(drawn)) == budget
    assert all(1e-4 <= rate <= 1 and 0.2 <= momentum <= 0.9 for rate, momentum in drawn)


@pytest.mark.parametrize("search", ["random", "sobol"])
def test_a_search_among_few_values_fills_its_budget_without_repeating_itself(search):
    space = {"learning_rate": list(np.arange(1, 7) / 10), "momentum": list(np.arange(6) / 10)}
    for seed in range(5):
        trials = make_trials(CFG, {"momentum": space}, search=search, budget=35, search_seed=seed)["momentum"]
        assert len({repr(trial) for trial in trials}) == len(trials) == 35
    everything = make_trials(CFG, {"momentum": space}, search=search, budget=40)["momentum"]
    assert set(everything) == set(make_trials(CFG, {"momentum": space})["momentum"])
    assert len(everything) == 36


@pytest.mark.parametrize("search", ["random", "sobol"])
@pytest.mark.parametrize(
    "space", [SPACE, {"learning_rate": [0.1, 0.2, 0.3], "momentum": [0.5, 0.9]}], ids=["ranges", "values"]
)
def test_a_larger_budget_begins_with_the_trials_of_a_smaller_one(search, space):
    budgets = [1, 2, 5, 6, 7, 40]
    drawn = [make_trials(CFG, {"momentum": space}, search=search, budget=n, search_seed=3)["momentum"] for n in budgets]
    for fewer, more in itertools.pairwise(drawn):
        assert more[: len(fewer)] == fewer


@pytest.mark.parametrize("search", ["random", "sobol"])
def test_a_search_among_fewer_distinct_values_than_its_budget_finds_them_all(search):
    space = {"learning_rate": [0.1, 0.1, 0.2, 0.1], "momentum": [0.5, 0.5]}
    trials = make_trials(CFG, {"momentum": space}, search=search, budget=3)["momentum"]
    assert sorted(values(trials, "learning_rate", "momentum")) == [(0.1, 0.5), (0.2, 0.5)]


@pytest.mark.parametrize("search", ["random", "sobol"])
def test_what_is_drawn_for_a_label_depends_on_the_search_seed_but_not_on_other_labels(search):
    def draw(cfg, space, seed):
        return make_trials(cfg, space, search=search, budget=8, search_seed=seed)["momentum"]

    alone = mj.Config(batch_size=16, optimizers={"momentum": OPTIMIZERS["momentum"]})
    beside = {"momentum": SPACE, "sgd": {"learning_rate": mj.LogUniform(0.1, 1)}}
    reordered = mj.Config(batch_size=16, optimizers=dict(reversed(OPTIMIZERS.items())))
    assert draw(CFG, beside, 3) == draw(alone, {"momentum": SPACE}, 3) == draw(reordered, beside, 3)
    assert draw(CFG, beside, 3) != draw(CFG, beside, 4)


def test_two_optimizers_draw_differently_from_the_same_bare_name():
    trials = make_trials(CFG, {"momentum": mj.Uniform(0, 0.9)}, search="random", budget=5)
    assert not {m for (m,) in values(trials["momentum"], "momentum")} & {
        m for (m,) in values(trials["scheduled"], "momentum")
    }


def test_a_sobol_sequence_fills_the_space_more_evenly_than_independent_draws():
    def discrepancies(search):
        for seed in range(5):
            trials = make_trials(CFG, {"momentum": SPACE}, search=search, budget=64, search_seed=seed)["momentum"]
            rates, momenta = np.transpose(values(trials, "learning_rate", "momentum"))
            yield qmc.discrepancy(np.stack([np.log10(rates) / 4 + 1, (momenta - 0.2) / 0.7], axis=1).clip(0, 1))

    assert max(discrepancies("sobol")) < min(discrepancies("random"))


@pytest.mark.parametrize("search", ["random", "sobol"])
def test_the_logarithms_of_log_uniform_draws_and_uniform_draws_themselves_are_uniform(search):
    trials = make_trials(CFG, {"momentum": SPACE}, search=search, budget=512, search_seed=1)["momentum"]
    rates, momenta = np.transpose(values(trials, "learning_rate", "momentum"))
    # Kolmogorov-Smirnov; with this seed nothing is left to chance.
    assert stats.kstest(np.log(rates), stats.uniform(np.log(1e-4), -np.log(1e-4)).cdf).pvalue > 0.05
    assert stats.kstest(momenta, stats.uniform(0.2, 0.7).cdf).pvalue > 0.05
    space = {"momentum": mj.ReverseLogUniform(0.0, 0.99)}
    trials = make_trials(CFG, {"momentum": space}, search=search, budget=512, search_seed=1)["momentum"]
    distances = 1 - np.ravel(values(trials, "momentum"))
    assert stats.kstest(np.log(distances), stats.uniform(np.log(0.01), -np.log(0.01)).cdf).pvalue > 0.05
    # What the test would find of draws that are not.
    assert stats.kstest(rates, stats.uniform(1e-4, 1).cdf).pvalue < 1e-9


def test_a_search_mixes_distributions_values_schedules_and_batch_sizes():
    space = {"learning_rate.peak_value": mj.LogUniform(0.01, 1), "batch_size": [8, 32], "nesterov_": [1]}
    with pytest.raises(InputError, match="nesterov_"):
        make_trials(CFG, space, search="random", budget=16)
    del space["nesterov_"]
    trials = make_trials(CFG, space, search="random", budget=16)
    assert {label: len(own) for label, own in trials.items()} == {"sgd": 2, "momentum": 2, "scheduled": 16}
    assert {trial.batch_size for trial in trials["scheduled"]} == {8, 32}
    assert len({schedule.hyperparameters["peak_value"] for (schedule,) in values(trials["scheduled"], "learning_rate")})


@given(st.floats(1e-300, 1e300), st.floats(1e-300, 1e300), st.floats(0, 1))
def test_what_a_distribution_gives_lies_between_its_ends_to_twelve_digits(a, b, u):
    low, high = sorted((a, b))
    if low == high:
        return
    for kind in (mj.Uniform, mj.LogUniform):
        # Logarithms up to 690 lose three digits of sixteen; the sum of two ends rounds at 2^-52.
        assert low * (1 - 1e-11) <= kind(low, high).at(u) <= high * (1 + 1e-11)
    if high < 1:
        # 1 − x is rounded at 1e-16 of 1, and x itself to twelve digits.
        x = mj.ReverseLogUniform(low, high).at(u)
        assert low * (1 - 1e-11) - 1e-15 <= x <= high * (1 + 1e-11) + 1e-15


def test_an_effective_learning_rate_gives_the_learning_rate_once_all_else_is_set():
    space = {
        "momentum": {"effective_learning_rate": [0.1, np.float32(0.5)], "momentum": [0.0, 0.5], "dampening": [0.5]},
        "sgd": {"effective_learning_rate": [0.1]},
    }
    trials = make_trials(CFG, space)
    # By hand: η = effective · (1 − m)/(1 − d), and effective at a momentum of 0, which nothing dampens.
    assert values(trials["momentum"], "learning_rate", "momentum") == [(0.1, 0.0), (0.1, 0.5), (0.5, 0.0), (0.5, 0.5)]
    assert values(trials["sgd"], "learning_rate") == [(0.1,)]
    # A constant takes the place of a schedule. A bare name is for those that have one.
    adam = {"adam": mj.OptimizerConfig("optax.adam", learning_rate=0.1), "scheduled": OPTIMIZERS["scheduled"]}
    trials = make_trials(mj.Config(optimizers=adam), {"effective_learning_rate": [1.0, 2.0]})
    assert values(trials["scheduled"], "learning_rate") == [(0.1,), (0.2,)]
    assert values(trials["adam"], "learning_rate") == [(0.1,)]


@pytest.mark.parametrize(
    ("space", "options", "words"),
    [
        ({"learning_rte": [0.1]}, {}, "unknown 'learning_rte'; did you mean 'learning_rate'?"),
        ({"momentun": {"learning_rate": [0.1]}}, {}, "optimizer's label: unknown 'momentun'; did you mean 'momentum'?"),
        ({"sgd": {"momentum": [0.9]}}, {}, "hyperparameter of 'sgd': unknown 'momentum'"),
        ({"momentum": {"momentm": [0.9]}}, {}, "hyperparameter of 'momentum': unknown 'momentm'; did you mean"),
        ({"batchsize": [8]}, {}, "did you mean 'batch_size'?"),
        ({"sgd": {"learning_rate.value": [0.1]}}, {}, "unknown 'learning_rate.value'"),
        ({"learning_rate.peak_vale": [0.1]}, {}, "did you mean 'learning_rate.peak_value'?"),
        ({"scheduled": {"learning_rate.peakvalue": [0.1]}}, {}, "did you mean 'learning_rate.peak_value'?"),
        ({"learning_rate": mj.Uniform(0, 1)}, {}, "a grid needs values: .grid(n) gives n of them"),
        ({"learning_rate": []}, {}, "learning_rate needs a sequence of at least one value, not []"),
        ({"learning_rate": 0.1}, {}, "learning_rate needs a sequence of at least one value, not 0.1"),
        ({"learning_rate": {0.1, 0.2}}, {}, "learning_rate needs a sequence"),
        ({"learning_rate": "0.1"}, {}, "learning_rate needs a sequence of at least one value, not '0.1'"),
        ({"learning_rate": ""}, {"search": "random", "budget": 2}, "learning_rate needs a sequence"),
        ({"batch_size": [0]}, {}, "batch_size of 'sgd' must be an integer of at least 1 and at most 2147483647, not 0"),
        ({"batch_size": [16.0]}, {}, "and at most 2147483647, not 16.0"),
        ({"batch_size": [8.5]}, {}, "batch_size of 'sgd' must be an int"),
        ({"scheduled": {"learning_rate.peak_value": [-1.0]}}, {}, "peak_value of schedule 'warmup_cosine' must be"),
        ({"learning_rate": [{0.1}]}, {}, "learning_rate must be a number"),
        (
            {"scheduled": {"learning_rate": [0.1], "learning_rate.peak_value": [1.0]}},
            {},
            "learning_rate is no schedule but 0.1",
        ),
        ([("learning_rate", [0.1])], {}, "what varies is a mapping from names to values"),
        (
            {"momentum": {"learning_rate": [0.1], "effective_learning_rate": [0.1]}},
            {},
            "the learning rate of 'momentum' varies twice",
        ),
        ({"effective_learning_rate": [-1.0]}, {}, "effective_learning_rate of 'sgd' must be finite and at least 0"),
        ({"effective_learning_rate": ["a"]}, {}, "effective_learning_rate of 'sgd' must be finite and at least 0"),
        ({"learning_rate": [0.1]}, {"budget": 3}, "budget is for search='random' or 'sobol'"),
        (
            {"learning_rate": [0.1]},
            {"search": "random"},
            "budget must be an integer of at least 1 and at most 100000, not None",
        ),
        (
            {"learning_rate": [0.1]},
            {"search": "sobol", "budget": 0},
            "budget must be an integer of at least 1 and at most 100000, not 0",
        ),
        ({"learning_rate": [0.1]}, {"search": "soboll", "budget": 2}, "search: unknown 'soboll'; did you mean 'sobol'"),
        ({"learning_rate": mj.Uniform(0, 1)}, {"search": "random", "budget": 10**30}, "at most 100000, not 1000000"),
        (
            {"learning_rate": np.arange(1000) / 1000, "batch_size": range(1, 1001)},
            {},
            "the number of combinations for 'sgd' must be an integer of at least 1 and at most 100000, not 1000000",
        ),
        ({"learning_rate": [0.1]}, {"search_seed": -1}, "search_seed must be an integer of at least 0, not -1"),
    ],
    ids=str,
)
def test_a_space_that_cannot_be_is_refused(space, options, words):
    with pytest.raises(InputError) as error:
        make_trials(CFG, space, **options)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: mj.Uniform(1, 1), "low must be less than high, not 1 to 1"),
        (lambda: mj.Uniform(2, 1), "low must be less than high, not 2 to 1"),
        (lambda: mj.Uniform(0, float("inf")), "high must be"),
        (lambda: mj.Uniform("0", 1), "low must be"),
        (lambda: mj.LogUniform(0, 1), "low must be more than 0 on a logarithmic scale, not 0"),
        (lambda: mj.ReverseLogUniform(0, 1), "high must be less than 1 on a reversed logarithmic scale, not 1"),
        (lambda: mj.Uniform(0, 1).grid(1), "count must be an integer of at least 2 and at most 100000, not 1"),
    ],
)
def test_a_distribution_that_cannot_be_is_refused(make, words):
    with pytest.raises(InputError) as error:
        make()
    assert words in str(error.value)
