"""QHM's family: each method is the QHM that it says it is, from the start that it says, or is refused.

The oracles are the papers' algorithms in `papers.py`. All paths are 200 steps in float64 with noisy gradients of a
curved function.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax import optimizers
from momentum_jax.optimizers import FAMILY, convert
from momentum_jax.optimizers.family import QHM, to_qhm
from tests.compiling import jit
from tests.optimizers.factories import message
from tests.optimizers.oracles import assert_same_path, follower, slope, start_and_gradients
from tests.optimizers.papers import EXAMPLES, PAPERS

STEPS = 200
START, NOISE = start_and_gradients(STEPS)
EVERY_EXAMPLE = [(name, values) for name, examples in EXAMPLES.items() for values in examples]
every_member = pytest.mark.parametrize("name", FAMILY)
every_example = pytest.mark.parametrize(("name", "values"), EVERY_EXAMPLE)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def gradient(t, w):
    return slope(w) + NOISE[t]


def of_paper(name, values, **options):
    return PAPERS[name](gradient, START, STEPS, **values, **options)


@jit
def _walk(qhm, average, start, noise):
    """The points and averages of QHM, whose hyperparameters and first average are arguments."""
    optimizer = mj.qhm(*qhm)

    def step(carry, given):
        params, state = carry
        updates, state = optimizer.update(slope(params) + given, state, params)
        return (params + updates, state), (params + updates, state.average)

    state = optimizer.init(start)._replace(average=average)
    return jax.lax.scan(step, (start, state), noise)[1]


def walk(qhm, average=None):
    """The points (STEPS + 1, n) of a QHM, and its averages, from the zero start or another."""
    average = np.zeros_like(START) if average is None else average
    points, averages = _walk(QHM(*map(np.float64, qhm)), average, START, NOISE)
    return np.vstack([START, points]), np.vstack([average, averages])


def test_every_method_of_the_family_has_its_paper_and_examples():
    assert list(FAMILY) == list(PAPERS) == list(EXAMPLES)
    for name, examples in EXAMPLES.items():
        assert all(list(values) == list(FAMILY[name].symbols) for values in examples)


@every_member
def test_a_preset_walks_the_points_of_its_paper(name):
    # Its numbers are traced, so that one program serves all examples.
    factory = getattr(optimizers, name)
    follow = follower(lambda traced: factory(**{key: value(0) for key, value in traced.items()}))
    for values in EXAMPLES[name]:
        path = follow({key: np.full(STEPS, value) for key, value in values.items()}, START, NOISE, 1.0)
        assert_same_path(path, of_paper(name, values)[0])


@every_example
def test_the_qhm_that_convert_gives_walks_the_points_of_the_paper(name, values):
    qhm = QHM(**convert(values, name, "qhm"))
    assert_same_path(walk(qhm)[0], of_paper(name, values)[0])


def evaluate(text, symbols):
    """The value of a formula in the table, such as "α/(1 − β₁)"."""
    names = {symbol: f"x{i}" for i, symbol in enumerate(symbols)}
    longest_first = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    source = re.sub(longest_first, lambda match: names[match[0]], text)
    source = source.replace("·", "*").replace("−", "-")
    return eval(source, {names[symbol]: value for symbol, value in symbols.items()})


def symbols_of(name, values):
    return {FAMILY[name].symbols[key]: value for key, value in values.items()}


@every_example
def test_the_papers_other_sequence_is_where_the_table_says(name, values):
    p, a = walk(to_qhm(name, values))
    if name == "grokfast":
        assert FAMILY[name].params == "the parameters; e is a"
        factor, p = 1.0, 0.0
    elif other := re.search(r" is p ([+−]) (.+)·a$", FAMILY[name].params):
        factor = evaluate(other[2], symbols_of(name, values)) * {"+": 1, "−": -1}[other[1]]
    else:
        assert name in ("accsgd", "mars", "outer_nesterov")
        return
    assert_same_path(p + factor * a, of_paper(name, values)[1])


@every_example
def test_the_formulas_of_the_table_are_those_that_are_computed(name, values):
    expected = [evaluate(text, symbols_of(name, values)) for text in FAMILY[name].qhm]
    np.testing.assert_allclose(to_qhm(name, values), expected, rtol=1e-13, atol=1e-15)


# The first is γ = 0.7·ξ·δ of accelerated SGD, the second the form in which the authors' code writes MaSS.
def test_accsgd_and_mass_are_accelerated_sgd_under_other_parameters():
    delta, kappa, xi = 0.02, 500.0, 6.0
    A = 0.7**2 * xi / kappa
    long = {"learning_rate": delta, "gamma": A * kappa * delta / 0.7, "alpha": 0.7 / (0.7 + A), "beta": A}
    accsgd = {"learning_rate": delta, "kappa": kappa, "xi": xi}
    np.testing.assert_allclose(to_qhm("accsgd", accsgd), to_qhm("accelerated_sgd", long), rtol=1e-13)
    alpha, kappa_t = 0.05, 12
    code = {"learning_rate": 0.1, "gamma": 0.1 / alpha / kappa_t, "alpha": 1 / (1 + alpha), "beta": alpha}
    ours = {"learning_rate": 0.1, "eta2": 0.1 * (1 - 1 / kappa_t) / (1 + alpha), "gamma": (1 - alpha) / (1 + alpha)}
    np.testing.assert_allclose(to_qhm("mass", ours), to_qhm("accelerated_sgd", code), rtol=1e-13)


EDGES = {
    "mass": {"learning_rate": 0.1, "eta2": 0.09, "gamma": 0.9},
    "synthesized_nesterov": {"learning_rate": 0.1, "beta1": 0.99, "beta2": 99.0},
    "accsgd": {"learning_rate": 0.1, "kappa": 500.0, "xi": 1 / 0.7},
    "accelerated_sgd": {"learning_rate": 0.1, "gamma": 0.1, "alpha": 0.9, "beta": 0.1},
}


@pytest.mark.parametrize("name", EDGES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("library", [jnp, np])
def test_on_the_edge_of_the_family_a_narrow_dtype_is_gradient_descent(name, dtype, library):
    # Some of these numbers are rounded across the edge. Rounded back to it ν is 0, which it is in float64.
    values = {key: library.asarray(value, jnp.dtype(dtype)) for key, value in EDGES[name].items()}
    digits = 1 - float(jnp.finfo(dtype).eps)
    assert to_qhm(name, EDGES[name]).nu <= 1e-12
    assert 0 <= to_qhm(name, values).nu <= 4 * (1 - digits) / (1 - to_qhm(name, values).momentum)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_beyond_the_edge_of_the_family_a_narrow_dtype_is_refused_too(dtype):
    values = {key: jnp.asarray(value, dtype) for key, value in (EDGES["mass"] | {"eta2": 0.09001}).items()}
    assert message(to_qhm, "mass", values).startswith("mass needs η₂ ≤ γ·η₁: with ")


@every_member
def test_every_rate_without_a_step_is_one(name):
    # 0/0 in ν = 1 − γ₂/η, for numbers and where they are traced.
    values = EXAMPLES[name][0] | {key: 0.0 for key in ("learning_rate", "gamma", "eta2") if key in EXAMPLES[name][0]}
    if name == "accelerated_sgd":
        values["gamma"] = 0.0
    for qhm in (to_qhm(name, values), jax.jit(lambda traced: to_qhm(name, traced))(values)):
        assert np.isfinite(qhm).all()
        assert qhm.learning_rate == 0


@pytest.mark.parametrize("values", EXAMPLES["grokfast"])
def test_grokfasts_code_starts_where_the_average_is_the_first_gradient(values):
    code = of_paper("grokfast", values, first=True)[0]
    qhm = to_qhm("grokfast", values)
    assert_same_path(walk(qhm, average=gradient(0, START))[0], code)
    if values["lamb"]:
        # The first step differs by η·λ·α·g₁.
        first = values["learning_rate"] * values["lamb"] * values["alpha"] * gradient(0, START)
        np.testing.assert_allclose((walk(qhm)[0] - code)[1], first, rtol=1e-12)


@pytest.mark.parametrize("values", [values for values in EXAMPLES["mars"] if values["gamma"] < 1])
def test_the_start_of_mars_in_its_paper_is_an_average_against_the_first_gradient(values):
    paper = of_paper("mars", values, same_start=True)[0]
    qhm, gamma = to_qhm("mars", values), values["gamma"]
    assert_same_path(walk(qhm, average=-gamma / (1 - gamma) * gradient(0, START))[0], paper)
    # From zero the first step differs by η·γ·β₁·g₁.
    first = values["learning_rate"] * gamma * values["beta1"] * gradient(0, START)
    np.testing.assert_allclose((paper - walk(qhm)[0])[1], first, rtol=1e-12, atol=1e-15)


def test_at_gamma_1_no_average_is_the_start_of_mars_in_its_paper():
    values = {"learning_rate": 0.1, "gamma": 1.0, "beta1": 0.9}
    paper, m = of_paper("mars", values, same_start=True)
    qhm = to_qhm("mars", values)
    # It is gradient descent, from whatever average, and the paper's first step is a tenth of that.
    for average in (np.zeros_like(START), START, -1e3 * gradient(0, START)):
        path = walk(qhm, average)[0]
        np.testing.assert_allclose((paper[1] - START) / (path[1] - START), 0.1, rtol=1e-12)
    # What is left of the start shrinks by β₁ in each step, as fast as with any other γ.
    left = m[1:] - [gradient(t, paper[t]) for t in range(STEPS)]
    np.testing.assert_allclose(left, -(0.9 ** np.arange(1, STEPS + 1))[:, None] * gradient(0, START), atol=1e-12)


def test_more_inner_steps_are_no_qhm():
    # With g = p from 1, η = 0.5, η_outer = 1, μ = 0.5: by hand with K = 2, s = 0.75, b = 0.75, w = 1 − 1.125.
    w = PAPERS["outer_nesterov"](lambda t, p: p, np.ones(1), 2, 0.5, 1.0, 0.5, every=2)[0]
    assert w[1] == -0.125
    values = {"learning_rate": 0.5, "outer_learning_rate": 1.0, "momentum": 0.5}
    assert convert(values | {"every": 1}, "outer_nesterov", "qhm") == convert(values, "outer_nesterov", "qhm")
    assert message(convert, values | {"every": 2}, "outer_nesterov", "qhm") == (
        "outer_nesterov with every is no QHM: K > 1 inner steps start from the last outer step, whose parameters QHM "
        "does not keep: use mj.outer_momentum"
    )


SCHEDULED = {
    "mars": {"learning_rate": 0.1, "gamma": 0.3, "beta1": 0.9},
    "grokfast": {"learning_rate": 0.05, "alpha": 0.9, "lamb": 2.0},
    "outer_nesterov": {"learning_rate": 0.2, "outer_learning_rate": 0.5, "momentum": 0.8},
}


@pytest.mark.parametrize("name", SCHEDULED)
def test_where_the_rate_stands_outside_schedules_give_the_points_of_the_paper_too(name):
    # From step to step by up to a half.
    factors = np.random.default_rng(1).uniform(0.5, 1, STEPS)
    scheduled = {key: value * factors for key, value in SCHEDULED[name].items() if key in FAMILY[name].scheduled}
    factory, constants = getattr(optimizers, name), {k: v for k, v in SCHEDULED[name].items() if k not in scheduled}
    path = follower(lambda schedules: factory(**schedules, **constants))(scheduled, START, NOISE, 1.0)
    assert_same_path(path, of_paper(name, SCHEDULED[name] | scheduled)[0])


def test_a_scheduled_rate_that_stands_inside_is_no_scheduled_rate_of_qhm():
    # Primal averaging with γ = 1, then none, c = 0.5, g = 1: z = −1 for good, x = −0.5, then −0.75.
    rates = np.array([1.0, 0.0])
    z, x = 0.0, [0.0]
    for t in range(2):
        z -= rates[t]
        x.append(0.5 * x[-1] + 0.5 * z)
    # QHM, at the rate 0, stands still.
    state = mj.qhm(lambda count: jnp.asarray(rates)[count], 0.5, 1.0)
    p, s = jnp.zeros(()), state.init(jnp.zeros(()))
    for _ in range(2):
        updates, s = state.update(jnp.ones(()), s)
        p = p + updates
    assert (x[-1], float(p)) == (-0.75, -0.5)
