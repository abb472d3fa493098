"""QHM's family: what `convert` and the presets take, what they refuse, and what they say.

The oracles are the papers' algorithms in `papers.py`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentum_jax as mj
from momentum_jax import optimizers
from momentum_jax._base.errors import InputError
from momentum_jax.optimizers import FAMILY, convert
from momentum_jax.optimizers.family import QHM, to_qhm
from tests.optimizers.factories import message
from tests.optimizers.oracles import assert_same_path, flat, tree
from tests.optimizers.papers import EXAMPLES, mass
from tests.optimizers.test_family import START, every_example, every_member, of_paper, walk


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize(
    ("name", "option", "words"),
    [
        ("mars", {"clip": 1.0}, "mars with clip is no QHM: c is scaled to a norm of at most 1, which is not linear"),
        ("mars", {"beta2": 0.99}, "mars with beta2 is no QHM: the second moments of AdamW precondition the step"),
        ("grokfast", {"window_size": 100}, "grokfast with window_size is no QHM: Grokfast-MA averages a window"),
        ("mass", {"eta": 0.1}, "argument of mass: unknown 'eta'; did you mean 'eta2'?"),
    ],
)
def test_an_option_that_leaves_the_family_is_refused_with_what_qhm_lacks(name, option, words):
    assert message(convert, EXAMPLES[name][0] | option, name, "qhm").startswith(words)


OUTSIDE = [
    (
        "accelerated_sgd",
        {"learning_rate": 0.2, "gamma": 0.1, "alpha": 0.5, "beta": 0.5},
        "accelerated_sgd needs γ ≥ δ: with learning_rate=0.2, gamma=0.1, alpha=0.5, beta=0.5 it would be a QHM with "
        "learning_rate=0.133333, momentum=0.25, nu=-0.5",
    ),
    (
        "accsgd",
        {"learning_rate": 0.1, "kappa": 100.0, "xi": 1.0},
        "accsgd needs 1/0.7 ≤ ξ ≤ κ/0.49: with learning_rate=0.1, kappa=100, xi=1 it would be a QHM with "
        "learning_rate=0.0823529, momentum=0.988183, nu=-0.214286",
    ),
    (
        "accsgd",
        {"learning_rate": 0.1, "kappa": 4.0, "xi": 10.0},
        "accsgd needs 1/0.7 ≤ ξ ≤ κ/0.49: with learning_rate=0.1, kappa=4, xi=10 it would be a QHM with "
        "learning_rate=0.452941, momentum=-0.0818182, nu=0.779221",
    ),
    (
        "mass",
        {"learning_rate": 0.1, "eta2": 0.095, "gamma": 0.9},
        "mass needs η₂ ≤ γ·η₁: with learning_rate=0.1, eta2=0.095, gamma=0.9 it would be a QHM with "
        "learning_rate=0.05, momentum=0.9, nu=-1",
    ),
    (
        "mass",
        {"learning_rate": 0.0, "eta2": 0.1, "gamma": 0.9},
        "mass needs η₂ ≤ γ·η₁: with learning_rate=0, eta2=0.1, gamma=0.9 it would be a QHM with "
        "learning_rate=-1, momentum=0.9, nu=1",
    ),
    (
        "synthesized_nesterov",
        {"learning_rate": 0.1, "beta1": 0.5, "beta2": 1.5},
        "synthesized_nesterov needs β₂ ≤ β₁/(1 − β₁): with learning_rate=0.1, beta1=0.5, beta2=1.5 it would be a QHM "
        "with learning_rate=0.2, momentum=0.5, nu=-0.5",
    ),
    (
        "synthesized_nesterov",
        {"learning_rate": 0.1, "beta1": 0.0, "beta2": 0.1},
        "synthesized_nesterov needs β₂ ≤ β₁/(1 − β₁): with learning_rate=0.1, beta1=0, beta2=0.1 it would be a QHM "
        "with learning_rate=0.1, momentum=0, nu=-inf",
    ),
    (
        "primal_averaging",
        {"learning_rate": 0.1, "c": 0.0},
        "primal_averaging needs 0 < c ≤ 1: with learning_rate=0.1, c=0 it would be a QHM with learning_rate=0.1, "
        "momentum=1, nu=1",
    ),
    (
        "primal_averaging",
        {"learning_rate": 0.1, "c": 1.5},
        "c must be in [0, 1], not 1.5: primal_averaging needs 0 < c ≤ 1",
    ),
    (
        "mars",
        {"learning_rate": 0.1, "gamma": 1.5, "beta1": 0.9},
        "gamma must be in [0, 1], not 1.5: mars needs 0 ≤ γ ≤ 1",
    ),
    (
        "grokfast",
        {"learning_rate": 0.1, "alpha": 0.9, "lamb": -0.1},
        "lamb must be finite and at least 0, not -0.1: grokfast needs λ ≥ 0",
    ),
]


@pytest.mark.parametrize(("name", "values", "words"), OUTSIDE)
def test_what_would_leave_qhms_ranges_is_refused_with_the_papers_inequality(name, values, words):
    for arrays in (values, {key: jnp.asarray(value) for key, value in values.items()}):
        assert message(getattr(optimizers, name), **arrays) == words
        assert message(convert, arrays, name, "qhm") == words
    # Inside a compiled program a number is still one.
    assert message(jax.jit(lambda p: getattr(optimizers, name)(**values).init(p)), START) == words


def test_up_to_the_ends_of_the_inequalities_there_is_a_qhm():
    # Where 0.9·0.1 is not 0.09 by rounding, ν is 0 all the same.
    for name, values, nu in (
        ("mass", {"learning_rate": 0.1, "eta2": 0.09, "gamma": 0.9}, 0),
        ("mass", {"learning_rate": 0.3, "eta2": 0.3 * 0.7, "gamma": 0.7}, 0),
        ("accelerated_sgd", {"learning_rate": 0.1, "gamma": 0.1, "alpha": 0.5, "beta": 0.5}, 0),
        ("accelerated_sgd", {"learning_rate": 0.0, "gamma": 0.1, "alpha": 0.5, "beta": 0.5}, 1),
        ("accsgd", {"learning_rate": 0.1, "kappa": 100.0, "xi": 1 / 0.7}, 0),
        ("accsgd", {"learning_rate": 0.1, "kappa": 49.0, "xi": 100.0}, 0.69 / 0.707),
        ("synthesized_nesterov", {"learning_rate": 0.1, "beta1": 0.9, "beta2": 9.0}, 0),
        ("mars", {"learning_rate": 0.1, "gamma": 1.0, "beta1": 0.9}, 0),
    ):
        assert to_qhm(name, values).nu == pytest.approx(nu, abs=1e-12)
        getattr(optimizers, name)(**values)


HOLDS = {
    "accelerated_sgd": lambda m, nu: False,
    "accsgd": lambda m, nu: nu < 1 and 0.49 * (1 + 0.7 * nu) / (0.7 * (1 - nu)) >= 0.7 * (1 - m) / (0.7 + m),
    "mass": lambda m, nu: nu <= m,
    "synthesized_nesterov": lambda m, nu: True,
    "primal_averaging": lambda m, nu: nu in (0, 1),
    "mars": lambda m, nu: True,
    "grokfast": lambda m, nu: nu < 1,
    "outer_nesterov": lambda m, nu: nu in (0, m),
}


def holds(name, m, nu):
    # Without momentum every ν is gradient descent.
    return any(HOLDS[name](m, other) for other in ((nu, 0, 0.5) if m == 0 else (nu,)))


@every_member
def test_a_method_converts_to_another_with_the_same_points_or_is_refused_because_there_is_none(name):
    for m in (0.0, 0.3, 0.9):
        for nu in (0.0, 0.3, 0.7, 0.9, 1.0):
            qhm = QHM(0.1, m, nu)._asdict()
            if not holds(name, m, nu):
                with pytest.raises(InputError, match=name):
                    convert(qhm, "qhm", name)
                continue
            values = convert(qhm, "qhm", name)
            assert list(values) == list(FAMILY[name].symbols)
            assert_same_path(of_paper(name, values)[0], walk(QHM(**qhm))[0])


@every_example
def test_every_example_converts_to_every_method_that_holds_it(name, values):
    qhm = to_qhm(name, values)
    for target in FAMILY:
        if holds(target, round(qhm.momentum, 12), round(qhm.nu, 12)):
            converted = convert(values, name, target)
            assert_same_path(of_paper(target, converted)[0], of_paper(name, values)[0])
        else:
            with pytest.raises(InputError, match=target):
                convert(values, name, target)


def test_methods_of_other_papers_and_libraries_convert_to_each_other():
    nesterov = {"lr": 0.05, "momentum": 0.9, "nesterov": True}
    for name in ("mass", "synthesized_nesterov", "mars", "grokfast", "outer_nesterov"):
        there = convert(nesterov, "torch", name)
        back = convert(there, name, "torch")
        assert back == pytest.approx(nesterov | {"dampening": 0.0}, rel=1e-13)
        assert convert(there, name, name) == pytest.approx(there, rel=1e-12, abs=1e-15)
    assert convert({"learning_rate": 0.5, "c": 0.1}, "primal_averaging", "keras") == pytest.approx(
        {"learning_rate": 0.05, "momentum": 0.9, "nesterov": False}
    )
    default = EXAMPLES["mass"][0]
    matched = convert(default, "mass", "accsgd")
    assert_same_path(of_paper("accsgd", matched)[0], of_paper("mass", default)[0])


@pytest.mark.parametrize(
    ("values", "source", "target", "words"),
    [
        (EXAMPLES["mass"][1], "mass", "primal_averaging", "primal_averaging is a QHM at nu = 1 only, the heavy ball"),
        (
            EXAMPLES["mass"][1],
            "mass",
            "outer_nesterov",
            "outer_nesterov is a QHM at nu = momentum only, not at nu",
        ),
        (EXAMPLES["mass"][1], "mass", "torch", "qhm is another method only at nu = 0, the constant momentum or 1"),
        (EXAMPLES["mars"][2], "mars", "grokfast", "grokfast is a QHM at nu < 1 only: its step holds the gradient"),
        (EXAMPLES["mars"][2], "mars", "accsgd", "accsgd is a QHM at nu < 1 only: its step holds the gradient"),
        (EXAMPLES["grokfast"][1], "grokfast", "accelerated_sgd", "accelerated_sgd has four parameters"),
        (EXAMPLES["primal_averaging"][0], "primal_averaging", "mass", "eta2 must be finite and at least 0, not -0."),
    ],
)
def test_two_methods_that_differ_are_refused_by_what(values, source, target, words):
    assert message(convert, values, source, target).startswith(words)


def test_qhm_converts_to_itself_whatever_its_nu():
    values = {"learning_rate": 0.1, "momentum": 0.9, "nu": 0.3}
    assert convert(values, "qhm", "qhm") == values
    assert message(convert, values | {"nu": 2}, "qhm", "qhm") == "nu must be in [0, 1], not 2"
    assert message(convert, {"learning_rate": 0.1, "nu": 1}, "qhm", "qhm") == "qhm needs the argument 'momentum'"


@pytest.mark.parametrize("name", FAMILY)
def test_any_other_schedule_is_refused(name):
    for key in FAMILY[name].symbols:
        values = EXAMPLES[name][0] | {key: lambda count: 0.1}
        if key in FAMILY[name].scheduled:
            to_qhm(name, values)
        else:
            words = f"{key} of {name} must be a number: under a schedule its iterates are not those of a QHM"
            assert message(getattr(optimizers, name), **values) == words
    assert "constant nu only" in message(convert, QHM(0.1, 0.9, lambda count: 0.5)._asdict(), "qhm", name)


@pytest.mark.parametrize("target", ["mars", "grokfast", "outer_nesterov"])
def test_a_schedule_of_qhms_rate_converts_where_the_rate_stands_outside(target):
    rate = {"learning_rate": lambda count: 0.1 / (count + 1), "momentum": 0.9, "nu": 0.9}
    there = convert(rate, "qhm", target)
    back = convert(there, target, "qhm")
    for t in range(3):
        assert back["learning_rate"](t) == pytest.approx(0.1 / (t + 1), rel=1e-14)
    assert message(convert, rate, "qhm", "mass") == (
        "mass is a QHM at a constant learning_rate only, and this is a schedule"
    )


def test_a_preset_descends_a_tree_and_goes_by_name_in_a_config():
    name, values = mj.OptimizerConfig.parse("a=mass,learning_rate=0.1,eta2=0.05,gamma=0.9")[1].name, EXAMPLES["mass"][1]
    assert name == "mass"
    config = mj.OptimizerConfig("mass", **values)
    optimizers.registry.check(config)
    structure, traced = optimizers.registry.split(config)
    assert traced == values
    optimizer, params = optimizers.registry.build(structure, traced), tree(START)
    state = optimizer.init(params)
    updates, state = optimizer.update(params, state, params)
    expected = mass(lambda t, u: u, START, 1, **values)[0][1]
    got = optax.apply_updates(params, updates)
    np.testing.assert_allclose(flat(jax.tree.map(lambda leaf: leaf[None], got))[0], expected, rtol=1e-12)
    assert isinstance(state, optimizers.QHMState)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (mj.OptimizerConfig("mass", learning_rate=0.1, gamma=0.9), "optimizer 'mass' needs the hyperparameter 'eta2'"),
        (mj.OptimizerConfig("mass", learning_rate=0.1, eta2=0.095), "mass needs η₂ ≤ γ·η₁: "),
        (
            mj.OptimizerConfig("mars", learning_rate=0.1, gamma=1.5),
            "gamma must be in [0, 1], not 1.5: mars needs 0",
        ),
        (mj.OptimizerConfig("mas", learning_rate=0.1), "unknown 'mas'; did you mean 'mass'?"),
        (
            mj.OptimizerConfig("mass", learning_rate=mj.Schedule("constant", value=0.1), eta2=0.01),
            "learning_rate of mass must be a number: under a schedule",
        ),
        (
            mj.OptimizerConfig("grokfast", learning_rate=0.1, alpha=mj.Schedule("constant", value=1.5)),
            "alpha must be in [0, 1), not 1.5",
        ),
    ],
)
def test_a_description_of_a_preset_is_checked_as_that_of_any_method(config, words):
    assert words in message(optimizers.registry.check, config)


def test_traced_arguments_convert_where_the_numbers_would():
    def of_numbers(beta2):
        return optimizers.synthesized_nesterov(0.1, 0.0, beta2).init(jnp.ones(2))

    jax.eval_shape(of_numbers, jnp.float32(0.0))
    nesterov = jax.eval_shape(
        lambda m: convert({"lr": 0.1, "momentum": m, "nesterov": True}, "torch", "outer_nesterov"), jnp.float32(0.9)
    )
    assert set(nesterov) == set(FAMILY["outer_nesterov"].symbols)
