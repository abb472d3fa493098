"""The command that repeats a result: read again, it is the same experiment."""

import dataclasses
import itertools
import shlex
import types

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import momentum_jax as mj
from momentum_jax.cli import compare, sweep
from momentum_jax.cli.arguments import config_flags, config_of, parse
from momentum_jax.report.command import compare_command, comparison_command, result_command
from momentum_jax.results.head import sweep_digest
from momentum_jax.space import make_trials, parse_axis, space_of
from tests.configs import CONFIGS

SGD = mj.OptimizerConfig("sgd", learning_rate=0.1)
WARMUP = mj.Schedule("warmup_cosine", peak_value=0.3, warmup_steps=5, decay_steps=100)


def read_again(command, name, flags):
    """The arguments that a printed command gives, when a shell has taken it apart."""
    words = shlex.split(command)
    assert words[:2] == ["momentum-jax", name]
    return parse(words[2:], "", "", flags)


@settings(deadline=None)
@given(CONFIGS)
@example(mj.Config(seeds=(5,)))
@example(mj.Config(seeds=(0,), l2=-0.0, weight_init=-0.0, hidden_sizes=()))
@example(mj.Config(task="convnet,channels=(8, 16),batch_norm=true", dataset="x y"))
@example(mj.Config(dataset="-x", optimizers={"-a": SGD, "a=b": SGD, "c, d": SGD, "'e'": SGD}))
@example(mj.Config(dataset="None", optimizers={"a": mj.OptimizerConfig("optax.sgd", learning_rate=0.1, x="none")}))
def test_the_printed_command_of_any_config_gives_the_same_digest(cfg):
    command = result_command(types.SimpleNamespace(provenance={}, config=cfg, trials=None))
    again = config_of(read_again(command, "train", config_flags()))
    assert again.digest == cfg.digest
    assert again == cfg
    assert list(again.optimizers) == list(cfg.optimizers)


@settings(deadline=None, max_examples=20)
@given(CONFIGS)
@example(mj.Config())
@example(mj.Config(dataset="x" * 100, optimizers={"a": SGD, "b": SGD}))
def test_the_printed_command_of_a_fair_comparison_has_the_config_with_other_seeds(cfg):
    arguments = read_again(compare_command(cfg, 20), "compare", [*config_flags(), *compare._FLAGS])
    assert config_of(arguments) == dataclasses.replace(cfg, seeds=20)


@pytest.mark.parametrize(
    ("words", "seeds"),
    [
        (["5"], (0, 1, 2, 3, 4)),
        (["5,"], (5,)),
        (["5,3"], (5, 3)),
        (["5", "3"], (5, 3)),
        (["5,", "3,"], (5, 3)),
        (["0,"], (0,)),
    ],
)
def test_a_number_with_a_comma_is_a_seed_and_one_without_a_count(words, seeds):
    assert config_of(parse(["--seeds", *words], "", "", config_flags())).seeds == seeds


@pytest.mark.parametrize(
    ("seeds", "read"), [((1_000_000, 1_000_001), 2), ((1_000_000,), 1), ((5,), (5,)), ((2, 3), (2, 3))]
)
@pytest.mark.parametrize(("again", "read_again_as"), [((), 0), ((2_000_000,), 1), ((7, 6), (7, 6))])
def test_the_printed_command_of_a_comparison_has_its_seeds_of_the_tuning(seeds, read, again, read_again_as):
    options = ("judge_by", "search", "trials", "search_seed", "rerun_trials", "validation", "tune_by", "learning_rate")
    plan = dict.fromkeys((*options, "effective_learning_rate", "target", "margin", "level"))
    plan |= {"space": {"a=b": {"momentum": "0.5,0.9"}}, "tuning_seeds": seeds, "own_task": False}
    plan |= {"rerun_seeds": again}
    compared = types.SimpleNamespace(provenance={}, config=mj.Config(seeds=2, optimizers={"a=b": SGD}), plan=plan)
    arguments = read_again(comparison_command(compared), "compare", [*config_flags(), *compare._FLAGS])
    assert (arguments.tuning_seeds, arguments.rerun_seeds) == (read, read_again_as)
    assert [parse_axis(text) for text in arguments.grid] == [("a=b.momentum", (0.5, 0.9))]


RATES = st.lists(st.floats(1e-6, 1), min_size=1, max_size=3, unique=True)
MOMENTA = st.lists(st.floats(0, 0.99), min_size=1, max_size=3, unique=True)
SIZES = st.lists(st.integers(1, 99), min_size=1, max_size=2, unique=True)
AXES = st.fixed_dictionaries(
    {},
    optional={
        "learning_rate": RATES | st.lists(st.sampled_from([0.1, WARMUP]), min_size=1, unique=True),
        "momentum": MOMENTA,
        "batch_size": SIZES,
        "convention": st.sampled_from([["inside", "outside"], ["outside"]]),
    },
).flatmap(lambda axes: st.permutations(list(axes.items())).map(dict))
LABELS = st.sampled_from(["a", "a.b", "a=b", "-a", "it's", "'q'", "learning_rate"])


@settings(deadline=None)
@given(st.lists(LABELS, min_size=1, max_size=2, unique=True), st.lists(AXES, min_size=2, max_size=2))
def test_the_printed_command_of_any_grid_gives_the_same_sweep(labels, axes):
    optimizers = {label: mj.OptimizerConfig("momentum", learning_rate=0.1) for label in labels}
    cfg = mj.Config(batch_size=16, optimizers=optimizers)
    trials = make_trials(cfg, dict(zip(labels, axes, strict=False)))
    command = result_command(types.SimpleNamespace(provenance={}, config=cfg, trials=trials))
    arguments = read_again(command, "sweep", [*config_flags(), *sweep._FLAGS])
    space = space_of([parse_axis(text) for text in arguments.grid], cfg.optimizers)
    assert sweep_digest(config_of(arguments), make_trials(cfg, space)) == sweep_digest(cfg, trials)


def test_parameters_of_a_schedule_that_vary_are_written_as_schedules():
    cfg = mj.Config(optimizers={"a": mj.OptimizerConfig("sgd", learning_rate=WARMUP)})
    axes = {"learning_rate.peak_value": [0.1, 0.2], "learning_rate.warmup_steps": [3, 4]}
    trials = make_trials(cfg, {"a": axes})
    command = result_command(types.SimpleNamespace(provenance={}, config=cfg, trials=trials))
    (text,) = read_again(command, "sweep", [*config_flags(), *sweep._FLAGS]).grid
    assert make_trials(cfg, space_of([parse_axis(text)], cfg.optimizers)) == trials
    assert len(trials["a"]) == len(list(itertools.product(*axes.values())))


def test_trials_that_are_no_grid_are_said_to_come_from_a_search():
    cfg = mj.Config(optimizers={"a": mj.OptimizerConfig("momentum", learning_rate=0.1)})
    trials = make_trials(
        cfg, {"a": {"learning_rate": mj.LogUniform(0.1, 1), "momentum": [0.1, 0.2]}}, search="random", budget=3
    )
    assert result_command(types.SimpleNamespace(provenance={}, config=cfg, trials=trials)).startswith("# a search: ")
