"""The comparison with the references finds mistakes: a rule with one wrong term fails it."""

import pathlib
import sys
import types
from typing import NamedTuple

import jax
import pytest

import momentum_jax.optimizers
from tests.optimizers.oracles import CASES, check
from tests.optimizers.table import in_the_default_run

# Each imports only from those before it.
MODULES = (
    "_trees",
    "_core",
    "_weight_decay",
    "_sgd",
    "_momentum",
    "_nesterov",
    "_qhm",
    "_aggmo",
    "_adaptive_restart",
    "_normalized_momentum",
    "_cautious",
    "_outer_momentum",
    "schedules",
    "_dana",
    "_yellowfin",
)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


class Mistake(NamedTuple):
    module: str
    right: str
    """A text that occurs once in the module."""
    wrong: str
    case: str
    """The one of `CASES` that finds the mistake."""


INSIDE, OUTSIDE, CORRECTED = (f"momentum, {convention}" for convention in ("inside", "outside", "corrected"))
DAMPENED = "momentum, inside, dampening, coupled decay"
DECOUPLED = "momentum, inside, dampening, decoupled decay"
NESTEROV = "nesterov, inside"
GRADIENT, FUNCTION = "adaptive_restart, gradient", "adaptive_restart, function"
NORMALIZED, TRANSPORTED = "normalized_momentum, coupled decay", "normalized_momentum, transported"
QHM, AGGMO = "qhm, coupled decay", "aggmo, coupled decay"

VELOCITY = "linear((m * correction, state.velocity), (gain, grads))"
NESTEROV_OR_NOT = "linear((m, velocity), (1, grads)) if nesterov else velocity"
RATIO = "jnp.where(before > 0, eta / jnp.where(before > 0, before, 1), 0)"
QHM_STEP = "linear((1 - nu_now, grads), (nu_now, average)), state"
AGGMO_VELOCITY = "linear((at_count(beta, state.count), velocity), (1, grads))"
BETA = "theta * (1 - theta) / (theta**2 + new_theta)"
UPHILL = "uphill = inner_product(grads, step) > 0"

MISTAKES = {
    "arithmetic in float32": Mistake("_trees", "jnp.float64 if any(", "jnp.float32 if any(", INSIDE),
    "an inner product of the first leaf alone": Mistake(
        "_trees", "jax.tree.reduce(jnp.add, products, jnp.zeros([], float))", "jax.tree.leaves(products)[0]", GRADIENT
    ),
    "the count stands still": Mistake("_core", "optax.safe_increment(state.count)", "state.count", INSIDE),
    "the count runs twice as fast": Mistake(
        "_core", "optax.safe_increment(state.count)", "optax.safe_increment(state.count) + 1", OUTSIDE
    ),
    "steps uphill": Mistake("_core", "core.update(linear((-eta, grads))", "core.update(linear((eta, grads))", INSIDE),
    "the rate of the first step for ever": Mistake(
        "_core", "eta = at_count(learning_rate, state.count)", "eta = at_count(learning_rate, 0)", INSIDE
    ),
    "descent along the parameters": Mistake("_sgd", "(grads, state)", "(params, state)", "sgd"),
    "gradient descent without its decay": Mistake(
        "_sgd", "learning_rate, weight_decay, False", "learning_rate, 0.0, False", "sgd, decay"
    ),
    "gradient descent without its mask": Mistake("_sgd", "False, mask)", "False, None)", "sgd, decay"),
    "a dead velocity": Mistake("_momentum", VELOCITY, "linear((gain, grads))", INSIDE),
    "a velocity that is not carried": Mistake("_momentum", "state._replace(velocity=velocity)", "state", INSIDE),
    "the step before the velocity": Mistake(
        "_momentum", NESTEROV_OR_NOT, NESTEROV_OR_NOT.replace("else velocity", "else state.velocity"), INSIDE
    ),
    "no look-ahead": Mistake("_momentum", NESTEROV_OR_NOT, "velocity", NESTEROV),
    "the look-ahead of the old velocity": Mistake(
        "_momentum", NESTEROV_OR_NOT, NESTEROV_OR_NOT.replace("(m, velocity)", "(m, state.velocity)"), NESTEROV
    ),
    "a look-ahead with a dampened gradient": Mistake(
        "_momentum",
        NESTEROV_OR_NOT,
        NESTEROV_OR_NOT.replace("(1, grads)", "(gain, grads)"),
        "nesterov, inside, dampening, coupled decay",
    ),
    "the first gradient dampened": Mistake("_momentum", "state.count == 0", "state.count < 0", DAMPENED),
    "the second gradient spared as well": Mistake("_momentum", "state.count == 0", "state.count <= 1", DAMPENED),
    "dampening ignored": Mistake("_momentum", "if not is_zero(dampening)", "if False", DAMPENED),
    "dampening by its complement": Mistake("_momentum", "1, 1 - jnp", "1, jnp", DAMPENED),
    "outside taken for inside": Mistake("_momentum", '"outside": outside', '"outside": inside', OUTSIDE),
    "inside taken for outside": Mistake("_momentum", '"inside": inside', '"inside": outside', INSIDE),
    "corrected taken for inside": Mistake("_momentum", '"corrected": corrected', '"corrected": inside', CORRECTED),
    "no correction": Mistake("_momentum", "correction=ratio", "correction=1", CORRECTED),
    "the correction upside down": Mistake(
        "_momentum", RATIO, "jnp.where(eta > 0, before / jnp.where(eta > 0, eta, 1), 0)", CORRECTED
    ),
    "a correction that divides by zero": Mistake("_momentum", RATIO, "eta / before", CORRECTED),
    "a rate that the correction does not remember": Mistake(
        "_momentum", "learning_rate=eta)", "learning_rate=before)", CORRECTED
    ),
    "coupled decay that lets weights grow": Mistake("_weight_decay", "add(1, grads)", "add(-1, grads)", DAMPENED),
    "decoupled decay that lets weights grow": Mistake("_weight_decay", "add(-at_count(", "add(at_count(", DECOUPLED),
    "decoupled decay in the velocity": Mistake("_weight_decay", "if not decoupled", "if True", DECOUPLED),
    "coupled decay beside the velocity": Mistake("_weight_decay", "if not decoupled", "if False", DAMPENED),
    "decoupled decay without the learning rate": Mistake(
        "_weight_decay", "add(-at_count(learning_rate, state.count), updates)", "add(-0.1, updates)", DECOUPLED
    ),
    "decay of the parameters after the step": Mistake(
        "_weight_decay",
        "        return add(-at_count(",
        "        params = jax.tree.map(lambda p, u: p + u, params, updates)\n        return add(-at_count(",
        DECOUPLED,
    ),
    "the mask ignored": Mistake("_weight_decay", "if decays else x", "if True else x", DAMPENED),
    "the mask upside down": Mistake("_weight_decay", "if decays else x", "if not decays else x", DAMPENED),
    "nu and its complement swapped": Mistake(
        "_qhm", QHM_STEP, "linear((nu_now, grads), (1 - nu_now, average)), state", QHM
    ),
    "an average that is a sum": Mistake(
        "_qhm", "(m, state.average), (1 - m, grads)", "(m, state.average), (1, grads)", QHM
    ),
    "the step before the average": Mistake("_qhm", QHM_STEP, QHM_STEP.replace("average)", "state.average)"), QHM),
    "an average that is not carried": Mistake("_qhm", "state._replace(average=average)", "state", QHM),
    "a sum of velocities": Mistake("_aggmo", "(1 / number,) * number", "(1,) * number", AGGMO),
    "one weight for all velocities": Mistake(
        "_aggmo", "(at_count(w, state.count), b)", "(at_count(factors[0], state.count), b)", "aggmo, weights"
    ),
    "one beta for all velocities": Mistake(
        "_aggmo", AGGMO_VELOCITY, AGGMO_VELOCITY.replace("(beta,", "(betas[-1],"), AGGMO
    ),
    "one velocity for all betas": Mistake(
        "_aggmo", "zip(betas, state.velocities,", "zip(betas, state.velocities[:1] * len(betas),", AGGMO
    ),
    "velocities that are not carried": Mistake("_aggmo", "state._replace(velocities=velocities)", "state", AGGMO),
    "dampened velocities": Mistake(
        "_aggmo",
        AGGMO_VELOCITY,
        AGGMO_VELOCITY.replace("(1, grads)", "(1 - at_count(beta, state.count), grads)"),
        AGGMO,
    ),
    "never a restart": Mistake("_adaptive_restart", UPHILL, "uphill = jnp.zeros([], bool)", GRADIENT),
    "always a restart": Mistake("_adaptive_restart", UPHILL, "uphill = jnp.ones([], bool)", GRADIENT),
    "a restart when downhill": Mistake("_adaptive_restart", UPHILL, UPHILL.replace(">", "<"), GRADIENT),
    "a condition on the step of the last time": Mistake(
        "_adaptive_restart", UPHILL, "uphill = inner_product(grads, state.lookahead) > 0", GRADIENT
    ),
    "a restart that keeps its velocity": Mistake("_adaptive_restart", f"jnp.where(uphill, 0, {BETA})", BETA, GRADIENT),
    "a restart that keeps its theta": Mistake(
        "_adaptive_restart", "theta=jnp.where(uphill, 1, new_theta)", "theta=new_theta", GRADIENT
    ),
    "the beta of the next step": Mistake(
        "_adaptive_restart", BETA, "new_theta * (1 - new_theta) / (new_theta**2 + new_theta)", GRADIENT
    ),
    "a theta that stands still": Mistake(
        "_adaptive_restart", "theta=jnp.where(uphill, 1, new_theta)", "theta=theta", GRADIENT
    ),
    "a look-ahead from the point before": Mistake(
        "_adaptive_restart", "lookahead = linear((beta, step))", "lookahead = linear((beta, state.lookahead))", GRADIENT
    ),
    "q ignored": Mistake("_adaptive_restart", "at_count(q, state.count)", "0.0", GRADIENT),
    "a function that is not remembered": Mistake("_adaptive_restart", ", value=value)", ")", FUNCTION),
    "the function at the point ahead": Mistake(
        "_adaptive_restart", "linear((1, params), (1, descent))", "params", FUNCTION
    ),
    "an average that begins at 0": Mistake(
        "_normalized_momentum", "jnp.where(state.count == 0, 0, m)", "m", NORMALIZED
    ),
    "a step as long as its average": Mistake("_normalized_momentum", "direction(average)", "average", NORMALIZED),
    "a look-ahead that is not taken back": Mistake(
        "_normalized_momentum", "(-1, state.lookahead)", "(0, state.lookahead)", TRANSPORTED
    ),
    "a look-ahead of the momentum alone": Mistake(
        "_normalized_momentum", "(m_next / (1 - m_next), step)", "(m_next, step)", TRANSPORTED
    ),
    "a look-ahead of the momentum before": Mistake(
        "_normalized_momentum", "(m_next / (1 - m_next), step)", "(m / (1 - m), step)", TRANSPORTED
    ),
    "caution the wrong way round": Mistake("_cautious", "((u < 0) & (g > 0))", "((u < 0) & (g < 0))", "cautious"),
    "caution in one direction alone": Mistake("_cautious", " | ((u > 0) & (g < 0))", "", "cautious"),
    "caution without its scale": Mistake("_cautious", "goes_down.size / ", "1 / ", "cautious"),
    "a scale without its xi": Mistake("_cautious", " + jnp.asarray(xi, float)", "", "cautious"),
    "the step before the outer velocity": Mistake(
        "_outer_momentum", "(-eta * mu, velocity)", "(-eta * mu, state.velocity)", "outer_momentum"
    ),
    "an outer heavy ball": Mistake(
        "_outer_momentum", "(-eta, delta), (-eta * mu, velocity)", "(-eta, velocity)", "outer_momentum"
    ),
    "fast weights that go on": Mistake(
        "_outer_momentum", "linear((1, to_slow), (-eta,", "linear((-eta,", "outer_momentum"
    ),
    "slow weights of the last inner step": Mistake(
        "_outer_momentum", "state.inner_count == 0", "state.inner_count >= 0", "outer_momentum"
    ),
    "an outer velocity of the last inner step": Mistake(
        "_outer_momentum", "state.velocity), (1, delta)", "state.velocity), (-1, steps)", "outer_momentum"
    ),
    "an outer step too late": Mistake("_outer_momentum", "+ 1 >= every", ">= every", "outer_momentum"),
    "outer schedules of the inner steps": Mistake(
        "_outer_momentum",
        "at_count(learning_rate, state.outer_count)",
        "at_count(learning_rate, state.inner_count)",
        "outer_momentum",
    ),
    "demon without its denominator": Mistake("schedules", "m * left / ((1 - m) + m * left)", "m * left", "demon"),
    "demon at half its pace": Mistake(
        "schedules", "m * left / ((1 - m) + m * left)", "m * (1 + left) / (2 * (1 - m) + m * (1 + left))", "demon"
    ),
    "a cycle that rises first": Mistake("schedules", "high = (1 + jnp.cos(", "high = (1 - jnp.cos(", "one_cycle"),
    "a cycle of two equal halves": Mistake("schedules", "jnp.asarray(pct_start, float) *", "0.5 *", "one_cycle"),
    "a cycle that begins again": Mistake("schedules", "float), 0, transition_steps)", "float), 0, None)", "one_cycle"),
    "log time an iteration ahead": Mistake(
        "schedules", "t / (jnp.asarray(delta, float) + t)", "(t + 1) / (jnp.asarray(delta, float) + t + 1)", "log_time"
    ),
    "dana in the log time of its delta": Mistake("_dana", "log_time(1.0 + delta)", "log_time(delta)", "dana, constant"),
    "dana's sum an iteration behind": Mistake("_dana", "(later + t) /", "(later - 1 + t) /", "dana, constant"),
    "dana without its decay": Mistake("_dana", " * decay * ", " * ", "dana, decaying"),
    "dana without its gradient": Mistake(
        "_dana", "at_count(learning_rate, count) + of_average(count)", "of_average(count)", "dana, constant"
    ),
    "averages that are not debiased": Mistake(
        "_yellowfin", "(1 - beta) / -jnp.expm1(steps * jnp.log(beta))", "(1 - beta)", "yellowfin"
    ),
    "a window of all gradients": Mistake("_yellowfin", "WINDOW = 20", "WINDOW = 200", "yellowfin"),
    "a smallest curvature of what was not seen": Mistake("_yellowfin", "<= state.count", "< 2 * WINDOW", "yellowfin"),
    "the newest curvature for the largest": Mistake("_yellowfin", "jnp.max(window)", "square", "yellowfin"),
    "no variance": Mistake("_yellowfin", "_sqrt(6 * variance)", "_sqrt(0 * variance)", "yellowfin"),
    "a variance without its mean": Mistake("_yellowfin", " - inner_product(average, average)", "", "yellowfin"),
    "a distance that is not averaged": Mistake(
        "_yellowfin",
        "smooth(state.distance, _ratio(mean_norm, mean_square))",
        "_ratio(mean_norm, mean_square)",
        "yellowfin",
    ),
    "no range of curvatures": Mistake("_yellowfin", "jnp.minimum(free, bound)", "free", "yellowfin"),
    "no single step": Mistake("_yellowfin", "jnp.minimum(free, bound)", "bound", "yellowfin"),
    "a momentum that is not averaged": Mistake(
        "_yellowfin", "smooth(state.momentum, (1 - step) ** 2)", "(1 - step) ** 2", "yellowfin"
    ),
    "a fast start": Mistake("_yellowfin", "slow_start * _ratio", "_ratio", "yellowfin"),
    "a step of the whole gradient": Mistake(
        "_yellowfin", "-alpha * of_step", "-alpha * of_measured", "yellowfin, clip"
    ),
    "a curvature of the whole gradient": Mistake("_yellowfin", "of_measured * size", "size", "yellowfin, clip"),
    "an average of the whole gradient": Mistake(
        "_yellowfin", "linear((of_measured, gradient))", "gradient", "yellowfin, clip"
    ),
    "a largest curvature that cannot grow": Mistake("_yellowfin", "in (1, 10)", "in (1, 1)", "yellowfin, clip"),
    "sutskever a stage ahead": Mistake("schedules", "1 - 0.5 / (stage + 1)", "1 - 0.5 / (stage + 2)", "sutskever"),
    "sutskever beyond its limit": Mistake(
        "schedules",
        "jnp.minimum(1 - 0.5 / (stage + 1), jnp.asarray(max_value, float))",
        "1 - 0.5 / (stage + 1)",
        "sutskever",
    ),
}


def copy_of_the_package(mistake=None):
    """The factories of the package, executed from its source with one text replaced."""
    folder = pathlib.Path(momentum_jax.optimizers.__file__).parent
    names: dict[str, object] = {}
    with pytest.MonkeyPatch.context() as patch:
        for name in MODULES:
            path = folder / f"{name}.py"
            source = path.read_text("utf-8")
            if mistake is not None and mistake.module == name:
                assert source.count(mistake.right) == 1, f"{path.name} must have once: {mistake.right}"
                source = source.replace(mistake.right, mistake.wrong)
            module = types.ModuleType(f"momentum_jax.optimizers.{name}")
            # The modules after it import the copy.
            patch.setitem(sys.modules, module.__name__, module)
            exec(compile(source, str(path), "exec"), vars(module))
            names |= vars(module)
    return types.SimpleNamespace(**names)


# One of each module.
IN_THE_DEFAULT_RUN = [
    "arithmetic in float32",
    "the count stands still",
    "decoupled decay in the velocity",
    "gradient descent without its mask",
    "no look-ahead",
    "the step before the average",
    "one beta for all velocities",
    "never a restart",
    "demon at half its pace",
    "a look-ahead that is not taken back",
    "a scale without its xi",
    "no single step",
    "dana's sum an iteration behind",
    "fast weights that go on",
]


@pytest.mark.parametrize(
    "case", in_the_default_run([CORRECTED, NESTEROV, DECOUPLED, AGGMO, GRADIENT, "demon"], [DECOUPLED])
)
def test_a_copy_without_a_mistake_passes(case):
    # This shows that the next test fails because of the mistakes. test_oracles checks the package itself.
    check(CASES[case], copy_of_the_package())


@pytest.mark.parametrize("name", in_the_default_run(MISTAKES, IN_THE_DEFAULT_RUN))
def test_a_copy_with_a_mistake_is_found_out(name):
    mistake = MISTAKES[name]
    package = copy_of_the_package(mistake)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check(CASES[mistake.case], package)


def test_the_package_itself_is_left_as_it_was():
    before = {name: module for name, module in sys.modules.items() if name.startswith("momentum_jax")}
    copy = copy_of_the_package(MISTAKES["a dead velocity"])
    assert {name: module for name, module in sys.modules.items() if name.startswith("momentum_jax")} == before
    assert copy.momentum is not momentum_jax.optimizers.momentum
