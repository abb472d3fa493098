"""What wraps another optimizer: identities with what it becomes, any inner optimizer, and what is refused."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentum_jax as mj
from momentum_jax import optimizers
from momentum_jax.optimizers.registry import WRAPPERS, check
from tests.optimizers.factories import PARAMS, message
from tests.optimizers.oracles import STEPS, assert_same_path, constant, drawn, follower, start_and_gradients
from tests.optimizers.table import gradient_of_bowl, run, some_params

MAKE = {
    "cautious": mj.cautious,
    "outer_momentum": lambda inner, **options: mj.outer_momentum(inner, **{"every": 2, **options}),
}
every_wrapper = pytest.mark.parametrize("name", WRAPPERS)


def paths(make, values):
    """The paths of an optimizer in float64 on given gradients and on a curve."""
    start, gradients = start_and_gradients(STEPS)
    follow = follower(make)
    return [follow(values, start, bend * gradients, 1.0 - bend) for bend in (0.0, 1.0)]


def assert_same_paths(one, other, values):
    # float64: the same sums in another order.
    for path, expected in zip(paths(one, values), paths(other, values), strict=True):
        assert_same_path(path, expected)


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.usefixtures("float64")
def test_outer_momentum_of_every_step_of_gradient_descent_is_nesterov():
    # Under an outer schedule the rate stands outside of the velocity.
    assert_same_paths(
        lambda s: mj.outer_momentum(mj.sgd(0.5), 1, s["rate"], s["momentum"]),
        lambda s: mj.nesterov(lambda t: 0.5 * s["rate"](t), s["momentum"], convention="outside"),
        {"rate": drawn(0.02, 0.3, 0, STEPS), "momentum": drawn(0.3, 0.95, 1, STEPS)},
    )
    assert_same_paths(
        lambda s: mj.outer_momentum(mj.sgd(0.5), 1, 0.3, 0.9),
        lambda s: optimizers.outer_nesterov(0.5, 0.3, 0.9),
        {"none": constant(0, STEPS)},
    )


@pytest.mark.usefixtures("float64")
def test_without_its_momentum_it_is_optaxs_lookahead_and_at_the_rate_1_the_inner_optimizer():
    inner = mj.momentum(0.05, 0.9)
    looking = optax.lookahead(inner, sync_period=5, slow_step_size=0.6)
    params = jnp.asarray(start_and_gradients(1)[0])
    both = optax.LookaheadParams.init_synced(params)
    state = looking.init(both)
    expected = []
    for _ in range(12):
        with jax.numpy_dtype_promotion("standard"):
            updates, state = looking.update(both.fast, state, both)
        both = optax.apply_updates(both, updates)
        expected.append(both.fast)
    optimizer, ours = mj.outer_momentum(inner, 5, 0.6, 0.0), params
    state = optimizer.init(params)
    for there in expected:
        updates, state = optimizer.update(ours, state, ours)
        ours = optax.apply_updates(ours, updates)
        # float64, some dozens of roundings.
        np.testing.assert_allclose(ours, there, rtol=1e-12, atol=1e-14)
    assert_same_paths(
        lambda s: mj.outer_momentum(mj.momentum(s["rate"], 0.9), 5, 1.0, 0.0),
        lambda s: mj.momentum(s["rate"], 0.9),
        {"rate": drawn(0.01, 0.2, 0, STEPS)},
    )


def test_the_slow_weights_are_the_parameters_after_the_last_outer_step():
    optimizer, params = mj.outer_momentum(mj.momentum(0.1), 3), jnp.array([1.0, -2.0])
    state, slow = optimizer.init(params), params
    for t in range(7):
        if t % 3 == 0:
            slow = params
        updates, state = optimizer.update(params, state, params)
        params = optax.apply_updates(params, updates)
        np.testing.assert_array_equal(state.slow, slow)
        assert (int(state.inner_count), int(state.outer_count)) == ((t + 1) % 3, (t + 1) // 3)


@pytest.mark.parametrize("accumulator_dtype", [None, "float32"])
def test_inner_steps_that_are_lost_in_rounding_make_no_outer_step(accumulator_dtype):
    optimizer = mj.outer_momentum(mj.sgd(0.001), 12, 0.3, 0.5, accumulator_dtype=accumulator_dtype)
    params = jnp.ones(2, "bfloat16")
    state = optimizer.init(params)
    for _ in range(36):
        updates, state = optimizer.update(params, state, params)
        params = optax.apply_updates(params, updates)
        # From 1 down to the next number of bfloat16 it is 2⁻⁸, of which 0.001 is less than a half. Twelve such steps
        # would be a displacement of 0.012 if they were not lost, and the way back from there leads uphill.
        np.testing.assert_array_equal(params, 1)


@pytest.mark.parametrize("of_params", ["bfloat16", "float32"])
def test_the_displacement_is_the_way_of_the_rounded_parameters(of_params):
    every, eta, mu = 4, 0.7, 0.5
    inner = mj.sgd(0.02)
    optimizer = mj.outer_momentum(inner, every, eta, mu, accumulator_dtype="float32")
    params = jnp.array([1.0, -3.0], of_params)
    state, slow, b = optimizer.init(params), params, np.zeros(2)
    for t in range(1, 25):
        grads = params.astype("bfloat16")
        step, _ = inner.update(grads, inner.init(params))
        updates, state = optimizer.update(grads, state, params)
        before, params = params, (params.astype("float32") + updates.astype("float32")).astype(of_params)
        if t % every == 0:
            delta = np.asarray(slow, float) - (np.asarray(before, float) + np.asarray(step, float))
            b = mu * b + delta
            # float32 holds numbers of bfloat16, and rounds their sums.
            np.testing.assert_allclose(state.velocity, b, rtol=1e-5)
            # The update is rounded to the 8 bits of the gradients, and then added to the parameters in theirs.
            new = np.asarray(slow, float) - eta * (delta + mu * b)
            np.testing.assert_allclose(np.asarray(params, float), new, rtol=2**-7 if of_params == "bfloat16" else 2**-9)
            slow = params


def test_outer_momentum_needs_the_parameters():
    optimizer, params = mj.outer_momentum(mj.sgd(0.1), 2), jnp.ones(2)
    words = "outer_momentum needs the parameters: call update(gradients, state, params)"
    assert message(optimizer.update, params, optimizer.init(params)) == words


def test_an_injected_number_of_inner_steps_is_refused_inside_jit_with_what_keeps_it():
    params, arguments = jnp.ones(2), {"inner": mj.sgd(0.1), "every": 8}
    assert message(jax.jit(optax.inject_hyperparams(mj.outer_momentum)(**arguments).init), params) == (
        "every must be an integer of at least 1, not a traced array: optax.inject_hyperparams makes one of an integer "
        'that its static_args do not name: give static_args=("every",)'
    )
    kept = optax.inject_hyperparams(mj.outer_momentum, static_args=("every",))(**arguments)
    jax.jit(kept.update)(params, jax.jit(kept.init)(params), params)


@every_wrapper
def test_any_optimizer_of_optax_may_be_inside(name):
    optimizer, params = MAKE[name](optax.adam(0.1)), some_params()
    with jax.numpy_dtype_promotion("standard"):
        actual = run(optimizer, params, 3)
        inner = run(optax.with_extra_args_support(optax.adam(0.1)), params, 1)
    # Of the first step of Adam no entry goes uphill; of the only entry of an array a half is left.
    first = (
        jax.tree.map(lambda u: u * u.size / (u.size + 1), inner.updates[0]) if name == "cautious" else inner.updates[0]
    )
    jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-6), actual.updates[0], first)


def test_caution_keeps_a_descent_where_the_momentum_went_uphill():
    optimizer, params = mj.cautious(mj.momentum(0.1, 0.99), xi=0.0), jnp.array([1.0, 0.3])
    state = optimizer.init(params)
    for _ in range(60):
        grads = jnp.array([1.0, 0.5]) * params
        updates, state = optimizer.update(grads, state)
        assert float(updates @ grads) <= 0
        params = optax.apply_updates(params, updates)
    assert float(jnp.sum(run(mj.momentum(0.1, 0.99), jnp.array([1.0, 0.3]), 60).params ** 2)) > float(params @ params)


@pytest.mark.parametrize(("xi", "expected"), [(1.0, [-0.75, 0.0]), (0.0, [-1.5, 0.0])])
def test_what_remains_is_scaled_by_all_over_what_remains_and_xi(xi, expected):
    optimizer, params = mj.cautious(mj.momentum(0.5, 0.5), xi=xi), jnp.ones(2)
    _, state = optimizer.update(params, optimizer.init(params))
    updates, _ = optimizer.update(jnp.array([1.0, -0.25]), state)
    # v = −0.75 and −0.125, and one of two entries goes down: times 2/(1 + ξ).
    np.testing.assert_array_equal(updates, expected)
    nothing, _ = optimizer.update(jnp.zeros(2), state)
    np.testing.assert_array_equal(nothing, 0)


def test_what_is_not_finite_is_not_left_out():
    for value in (jnp.nan, jnp.inf):
        optimizer, params = mj.cautious(mj.momentum(0.1)), jnp.ones(2)
        grads = jnp.array([value, 1.0])
        updates, _ = optimizer.update(grads, optimizer.init(params))
        assert not np.isfinite(updates[0])


@every_wrapper
def test_an_inner_optimizer_that_is_none_is_refused(name):
    for inner, words in (
        (mj.momentum, "<function momentum"),
        (mj.OptimizerConfig("sgd", learning_rate=0.1), "OptimizerConfig('sgd', learning_rate=0.1)"),
        ("sgd", "'sgd'"),
        (None, "None"),
        (0.1, "0.1"),
    ):
        said = message(MAKE[name], inner)
        assert said.startswith(
            "inner must be an optax.GradientTransformation, such as mj.momentum(0.1) or optax.adam(0.001), not "
        )
        assert words in said


@pytest.mark.parametrize(
    ("make", "allowed", "values"),
    [
        (
            lambda xi: mj.cautious(mj.sgd(0.1), xi=xi),
            "xi must be finite and at least 0",
            (-1e-9, math.nan, "1", True, None),
        ),
        (
            lambda every: mj.outer_momentum(mj.sgd(0.1), every),
            "every must be an integer of at least 1",
            (0, -1, 2.0, True, None, "8"),
        ),
        (
            lambda rate: mj.outer_momentum(mj.sgd(0.1), 2, rate),
            "learning_rate must be finite and at least 0",
            (-0.1, math.inf, "0.7"),
        ),
        (lambda mu: mj.outer_momentum(mj.sgd(0.1), 2, 0.7, mu), "momentum must be in [0, 1)", (1.0, -0.1, math.nan)),
    ],
    ids=["xi", "every", "learning_rate", "momentum"],
)
def test_a_number_outside_of_its_range_is_refused(make, allowed, values):
    for value in values:
        assert message(make, value) == f"{allowed}, not {value!r}"


def test_a_schedule_of_xi_is_refused():
    assert message(mj.cautious, mj.sgd(0.1), xi=math.sqrt).startswith("xi must be a number, not the schedule <built-in")


@every_wrapper
def test_gradients_and_states_that_do_not_fit_are_refused_by_path(name):
    optimizer = MAKE[name](mj.momentum(0.1))
    state = optimizer.init(PARAMS)
    words = "the gradient at ['bias'] has the shape (4,) and the state there (3,)"
    assert message(optimizer.update, PARAMS | {"bias": jnp.ones(4)}, state, PARAMS) == words
    words = "the gradient at ['bias'] is int32, and must be real floating-point"
    assert words in message(optimizer.update, PARAMS | {"bias": jnp.ones(3, int)}, state, PARAMS)
    assert "is int32" in message(optimizer.init, PARAMS | {"bias": jnp.ones(3, int)})
    own = type(state).__name__
    said = message(optimizer.update, PARAMS, mj.sgd(0.1).init(PARAMS))
    assert f"the state is a SGDState, and this optimizer's is a {own}: " in said


@every_wrapper
def test_a_name_in_a_config_cannot_hold_it_and_a_function_in_python_can(name):
    said = message(check, mj.OptimizerConfig(name, learning_rate=0.1))
    assert said.startswith(
        f"optimizer {name!r} wraps another one, which a name cannot hold: in Python give a function "
    )
    assert f"did you mean {name!r}?" in message(check, mj.OptimizerConfig(name.replace("u", "o"), learning_rate=0.1))
    config = mj.OptimizerConfig(lambda rate: MAKE[name](mj.momentum(rate)), rate=0.1)
    check(config)
    assert said.count(f"mj.{name}(mj.momentum(rate)") == 1


@every_wrapper
def test_the_inner_optimizer_is_given_what_it_asks_for(name):
    optimizer = MAKE[name](mj.adaptive_restart(0.5, scheme="function"))
    params = jnp.ones(2)
    state = optimizer.init(params)
    assert "needs update(gradients, state, params, value_fn=f)" in message(optimizer.update, params, state, params)
    optimizer.update(gradient_of_bowl(params), state, params, value_fn=lambda p: jnp.sum(p**2))
