"""Runs of `optax.sgd` that `momentum` and `nesterov` continue, and the reverse, against uninterrupted runs."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import momentum_jax as mj
from momentum_jax._base.errors import InputError
from momentum_jax.optimizers import (
    CorrectedMomentumState,
    MomentumState,
    from_optax,
    to_optax,
)
from tests.compiling import jit

HALF = 50
RATE = 0.05
exhaustive = pytest.mark.exhaustive
OURS = (MomentumState, CorrectedMomentumState)
CONVENTIONS = ["inside", "outside", "corrected"]
every_convention = pytest.mark.parametrize("convention", CONVENTIONS)
both_forms = pytest.mark.parametrize("nesterov", [False, True])


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def params_and_grads(steps=2 * HALF, seed=0):
    """Parameters whose names are those of fields of Optax's states, and a gradient for each step."""
    rng = np.random.default_rng(seed)
    shapes = {"trace": (3,), "count": (), "nested": {"trace": (2, 1)}}

    def draw(*leading):
        is_shape = {"is_leaf": lambda node: isinstance(node, tuple)}
        return jax.tree.map(lambda shape: jnp.asarray(rng.normal(size=(*leading, *shape))), shapes, **is_shape)

    return draw(), draw(steps)


@functools.cache
def compiled(optimizer):
    def step(carry, g):
        params, state = carry
        updates, state = optimizer.update(g, state, params)
        return (optax.apply_updates(params, updates), state), None

    return jit(lambda *carry, grads: jax.lax.scan(step, carry, grads)[0])


def go(optimizer, params, state, grads):
    """The parameters and the state after the gradients, which are stacked along their first axis."""
    return compiled(optimizer)(params, state, grads=grads)


def halves(grads):
    return jax.tree.map(lambda g: g[:HALF], grads), jax.tree.map(lambda g: g[HALF:], grads)


def assert_same(a, b, rtol=1e-12):
    """Equal but for rounding, of some 1e2 steps in float64 unless it is said otherwise."""
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol), a, b)


def is_ours(node):
    return isinstance(node, OURS)


def put(tree, state):
    """The tree with our state, of which there is one in it, replaced."""
    assert find(tree)
    return jax.tree.map(lambda node: state if is_ours(node) else node, tree, is_leaf=is_ours)


def find(tree):
    (state,) = filter(is_ours, jax.tree.leaves(tree, is_leaf=is_ours))
    return state


def method(nesterov, *args, **arguments):
    return (mj.nesterov if nesterov else mj.momentum)(*args, **arguments)


def schedule(count):
    return 0.1 / (1 + jnp.asarray(count, float) / 20)


def clipped(optimizer):
    return optax.chain(optax.clip_by_global_norm(1.5), optimizer)


def on_two_leaves(optimizer):
    return optax.masked(optimizer, {"trace": True, "count": False, "nested": True})


SETTINGS = {"alone": lambda optimizer: optimizer, "in a chain": clipped, "masked": on_two_leaves}
IN_THE_DEFAULT_RUN = [("alone", False, "inside"), ("in a chain", False, "outside"), ("masked", True, "corrected")]
in_every_setting = pytest.mark.parametrize(
    ("setting", "nesterov", "convention"),
    [
        pytest.param(*case, convention, marks=() if (*case, convention) in IN_THE_DEFAULT_RUN else exhaustive)
        for case in (("alone", False), ("alone", True), ("in a chain", False), ("masked", True))
        for convention in CONVENTIONS
    ],
)


@functools.cache
def in_optax(setting, nesterov):
    return SETTINGS[setting](optax.sgd(RATE, 0.9, nesterov=nesterov))


@functools.cache
def here(setting, nesterov, convention):
    return SETTINGS[setting](method(nesterov, RATE, 0.9, convention=convention))


@in_every_setting
def test_this_package_goes_on_where_optax_stopped(setting, nesterov, convention):
    params, grads = params_and_grads()
    first, second = halves(grads)
    theirs, ours = in_optax(setting, nesterov), here(setting, nesterov, convention)
    there, state = go(theirs, params, theirs.init(params), first)
    adopted = from_optax(state, None if convention == "outside" else RATE, count=HALF, convention=convention)
    assert isinstance(adopted, CorrectedMomentumState if convention == "corrected" else MomentumState)
    ended, last = go(ours, there, put(ours.init(params), adopted), second)
    assert_same(ended, go(theirs, there, state, second)[0])
    assert find(last).count == 2 * HALF


@in_every_setting
def test_optax_goes_on_where_this_package_stopped(setting, nesterov, convention):
    params, grads = params_and_grads()
    first, second = halves(grads)
    theirs, ours = in_optax(setting, nesterov), here(setting, nesterov, convention)
    there, state = go(ours, params, ours.init(params), first)
    rate = RATE if convention == "inside" else None
    adopted = to_optax(find(state), theirs.init(params), rate, convention=convention)
    assert_same(go(theirs, there, adopted, second)[0], go(ours, there, state, second)[0])


@functools.cache
def scheduled(nesterov):
    return optax.sgd(schedule, 0.9, nesterov=nesterov)


@functools.cache
def injected(nesterov):
    return optax.inject_hyperparams(optax.sgd)(schedule, 0.9, nesterov=nesterov)


@functools.cache
def scheduled_here(nesterov, convention):
    return method(nesterov, schedule, 0.9, convention=convention)


SCHEDULED = pytest.mark.parametrize(
    ("make", "nesterov", "convention"),
    [
        (scheduled, False, "outside"),
        (scheduled, True, "outside"),
        (scheduled, False, "corrected"),
        (injected, False, "outside"),
        (injected, True, "corrected"),
    ],
)


@SCHEDULED
def test_under_a_schedule_this_package_goes_on_at_the_count_where_optax_stopped(make, nesterov, convention):
    params, grads = params_and_grads()
    first, second = halves(grads)
    theirs, ours = make(nesterov), scheduled_here(nesterov, convention)
    there, state = go(theirs, params, theirs.init(params), first)
    adopted = from_optax(state, schedule(HALF), count=HALF, convention=convention)
    assert_same(go(ours, there, adopted, second)[0], go(theirs, there, state, second)[0])


@SCHEDULED
def test_under_a_schedule_optax_goes_on_at_the_count_where_this_package_stopped(make, nesterov, convention):
    params, grads = params_and_grads()
    first, second = halves(grads)
    theirs, ours = make(nesterov), scheduled_here(nesterov, convention)
    there, state = go(ours, params, ours.init(params), first)
    adopted = to_optax(find(state), theirs.init(params), convention=convention)
    ended, last = go(theirs, there, adopted, second)
    assert_same(ended, go(ours, there, state, second)[0])
    counts = optax.tree_utils.tree_get_all_with_path(last, "count", lambda path, value: value.dtype == "int32")
    assert {int(count) for _, count in counts} == {2 * HALF}


@both_forms
def test_inside_under_a_schedule_the_next_update_is_optaxs_and_those_after_it_are_not(nesterov):
    params, grads = params_and_grads()
    first, second = halves(grads)
    theirs, ours = scheduled(nesterov), scheduled_here(nesterov, "inside")
    there, state = go(theirs, params, theirs.init(params), first)
    adopted = from_optax(state, schedule(HALF), count=HALF)
    next_grads = jax.tree.map(lambda g: g[0], second)
    assert_same(ours.update(next_grads, adopted)[0], theirs.update(next_grads, state)[0])
    a, b = (go(*run, second)[0]["trace"] for run in ((ours, there, adopted), (theirs, there, state)))
    assert np.abs(a - b).min() > 1e-3
    # And back: after the rate of the next update the velocity is divided by, that update is the same.
    returned = to_optax(adopted, theirs.init(params), schedule(HALF))
    assert_same(theirs.update(next_grads, returned)[0], ours.update(next_grads, adopted)[0])


@every_convention
def test_each_group_of_a_multi_transform_goes_over_by_itself(convention):
    params, grads = params_and_grads()
    first, second = halves(grads)
    hyperparameters = {"trace": (0.05, 0.9), "count": (0.01, 0.5)}
    # The labels, too, are names of Optax's fields.
    labels = {"trace": "trace", "count": "count", "nested": "trace"}
    theirs = optax.multi_transform({k: optax.sgd(*v) for k, v in hyperparameters.items()}, labels)
    ours = optax.multi_transform(
        {k: mj.momentum(*v, convention=convention) for k, v in hyperparameters.items()}, labels
    )
    there, state = go(theirs, params, theirs.init(params), first)
    unbroken, _ = go(theirs, there, state, second)
    with pytest.raises(InputError, match="must have one trace in it, and has 2: PartitionState"):
        from_optax(state, 0.1, count=HALF, convention=convention)

    fresh = ours.init(params)
    adopted = fresh._replace(
        inner_states={
            label: put(
                inner,
                from_optax(state.inner_states[label], hyperparameters[label][0], count=HALF, convention=convention),
            )
            for label, inner in fresh.inner_states.items()
        }
    )
    ended, _ = go(ours, there, adopted, second)
    assert_same(ended, unbroken)

    template = theirs.init(params)
    returned = template._replace(
        inner_states={
            label: to_optax(
                find(adopted.inner_states[label]),
                inner,
                hyperparameters[label][0] if convention == "inside" else None,
                convention=convention,
            )
            for label, inner in template.inner_states.items()
        }
    )
    assert_same(go(theirs, there, returned, second)[0], unbroken)


@every_convention
@pytest.mark.parametrize("make", [scheduled, injected])
def test_there_and_back_is_the_state_that_was(make, convention):
    params, grads = params_and_grads(steps=5)
    theirs = make(nesterov=False)
    _, state = go(theirs, params, theirs.init(params), grads)
    rate = schedule(4)
    ours = from_optax(state, rate, count=5, convention=convention)
    given = {} if convention == "corrected" else {"learning_rate": rate}
    back = to_optax(ours, theirs.init(params), convention=convention, **given)
    assert jax.tree.structure(back) == jax.tree.structure(state)
    # What inject_hyperparams shows of the last rate it takes anew from the schedule.
    back, state = (tree._replace(hyperparams={}) if make is injected else tree for tree in (back, state))
    # One product and one quotient, each rounded.
    assert_same(back, state, rtol=4e-16)
    again = from_optax(back, rate, count=5, convention=convention)
    assert type(again) is type(ours)
    assert_same(again, ours, rtol=4e-16)


@every_convention
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_a_state_that_went_over_has_the_dtypes_of_one_that_began_here(convention, dtype):
    params = {"w": jnp.ones([3], dtype), "b": jnp.ones([], "float32")}
    theirs, ours = optax.sgd(RATE, 0.9), mj.momentum(RATE, 0.9, convention=convention)
    _, state = theirs.update(params, theirs.init(params), params)
    adopted, fresh = from_optax(state, RATE, count=1, convention=convention), ours.init(params)
    assert shapes_and_dtypes(adopted) == shapes_and_dtypes(fresh)
    returned = to_optax(adopted, theirs.init(params), RATE, convention=convention)
    assert shapes_and_dtypes(returned) == shapes_and_dtypes(theirs.init(params))
    # Of what is 1 in all dtypes there and back leaves the rounding of v = −0.05 in bfloat16.
    assert_same(jax.tree.map(lambda a: a.astype(float), returned[0].trace), {"w": np.ones(3), "b": 1.0}, rtol=4e-3)


def shapes_and_dtypes(tree):
    return jax.tree.map(lambda a: (a.shape, a.dtype, a.weak_type), tree)


@every_convention
def test_an_accumulator_of_another_dtype_goes_over_as_it_is(convention):
    params, grads = params_and_grads()
    first, second = halves(grads)
    with jax.numpy_dtype_promotion("standard"):  # Optax multiplies its float32 trace and adds float64 gradients.
        theirs = optax.sgd(RATE, 0.9, accumulator_dtype="float32")
        there, state = go(theirs, params, theirs.init(params), first)
        unbroken, _ = go(theirs, there, state, second)
    ours = mj.momentum(RATE, 0.9, convention=convention, accumulator_dtype="float32")
    adopted = from_optax(state, RATE, count=HALF, convention=convention)
    assert shapes_and_dtypes(adopted) == shapes_and_dtypes(ours.init(params))
    # The traces are rounded to float32 in each of 100 steps, and b elsewhere than v = −η·b.
    assert_same(go(ours, there, adopted, second)[0], unbroken, rtol=1e-6)
    returned = to_optax(adopted, theirs.init(params), RATE, convention=convention)
    assert shapes_and_dtypes(returned) == shapes_and_dtypes(state)


def test_the_trace_takes_the_dtype_of_the_template_with_one_rounding():
    # v = −1 and η = 0.3: b = 1/0.3, which bfloat16 has as 3.328125 (float32 as 3.3333333).
    state = MomentumState(jnp.array(1, "int32"), jnp.array(-1.0, "float32"))
    trace = to_optax(state, optax.trace(0.9).init(jnp.array(0.0, "bfloat16")), 0.3).trace
    assert trace == jnp.array(1 / 0.3, "bfloat16")
    assert trace.dtype == "bfloat16"


@every_convention
def test_a_migration_may_be_part_of_a_compiled_program(convention):
    params, grads = params_and_grads(steps=3)
    theirs = optax.sgd(RATE, 0.9)
    _, state = go(theirs, params, theirs.init(params), grads)

    @jax.jit
    def there_and_back(state, rate):
        ours = from_optax(state, rate, count=3, convention=convention)
        return ours, to_optax(ours, state, rate, convention=convention)

    ours, back = there_and_back(state, RATE)
    assert_same(ours, from_optax(state, RATE, count=3, convention=convention), rtol=1e-15)
    assert_same(back, state, rtol=1e-15)


def test_the_count_may_be_the_one_that_optax_keeps():
    params, grads = params_and_grads(steps=3)
    theirs = scheduled(nesterov=False)
    _, state = go(theirs, params, theirs.init(params), grads)
    count = optax.tree_utils.tree_get(state[1], "ScaleByScheduleState").count
    for same in (count, np.asarray(count), np.int64(3)):
        adopted = from_optax(state, count=same, convention="outside")
        assert (adopted.count, adopted.count.dtype) == (3, "int32")


def test_what_the_template_held_is_not_looked_at_and_the_template_is_left_alone():
    params, grads = params_and_grads(steps=3)
    theirs = scheduled(False)
    fresh = theirs.init(params)
    _, used = go(theirs, params, fresh, grads)
    state = MomentumState(jnp.array(7, "int32"), params)
    a, b = (to_optax(state, template, convention="outside") for template in (fresh, used))
    jax.tree.map(np.testing.assert_array_equal, a, b)
    assert fresh[1].count == 0


class Layer(NamedTuple):
    """Parameters in a NamedTuple, as some programs keep them."""

    trace: jax.Array
    count: jax.Array


def test_parameters_in_a_named_tuple_may_have_a_field_called_trace():
    params = Layer(jnp.ones(2), jnp.ones(3))
    theirs = optax.sgd(RATE, 0.9)
    _, state = theirs.update(params, theirs.init(params), params)
    adopted = from_optax(state, RATE, count=1)
    np.testing.assert_array_equal(adopted.velocity.trace, np.full(2, -RATE))
    returned = to_optax(adopted, theirs.init(params), RATE)
    np.testing.assert_allclose(returned[0].trace.trace, np.ones(2), rtol=1e-15)


class CountedLayer(NamedTuple):
    kernel: jax.Array
    count: jax.Array


def test_parameters_in_a_named_tuple_may_have_a_field_called_count():
    params = CountedLayer(jnp.ones(2), jnp.ones(3))
    theirs = optax.chain(optax.ema(0.5), optax.sgd(schedule, 0.9))
    state = MomentumState(jnp.array(7, "int32"), params)
    returned = to_optax(state, theirs.init(params), convention="outside")
    assert optax.tree_utils.tree_get(returned[1], "ScaleByScheduleState").count == 7
    # The average of a chain's other part is none of its counts.
    np.testing.assert_array_equal(returned[0].ema.count, np.zeros(3))


@every_convention
def test_a_run_that_has_not_begun_goes_over_too(convention):
    params, grads = params_and_grads(steps=3)
    theirs, ours = optax.sgd(RATE, 0.9), mj.momentum(RATE, 0.9, convention=convention)
    adopted = from_optax(theirs.init(params), RATE, count=0, convention=convention)
    assert_same(go(ours, params, adopted, grads)[0], go(theirs, params, theirs.init(params), grads)[0])


@every_convention
def test_a_run_that_has_not_begun_goes_over_at_a_rate_of_zero_too(convention):
    # As at the start of a warm-up. The rate of "corrected" is 0 before the first update whatever the schedule.
    params, _ = params_and_grads()
    theirs, ours = optax.sgd(RATE, 0.9), mj.momentum(RATE, 0.9, convention=convention)
    for rate in (0.0, jnp.array(0.0)):

        def there(state, rate=rate):
            return from_optax(state, rate, count=0, convention=convention)

        def back(state, rate=rate):
            return to_optax(state, theirs.init(params), rate, convention=convention)

        assert_same(there(theirs.init(params)), ours.init(params))
        assert_same(back(ours.init(params)), theirs.init(params))
        # Traced, where nothing can be refused.
        assert_same(jax.jit(there)(theirs.init(params), rate), ours.init(params))
        assert_same(jax.jit(back)(ours.init(params), rate), theirs.init(params))


@pytest.mark.parametrize("compiled", [False, True])
def test_a_corrected_velocity_that_a_rate_of_zero_has_set_back_is_a_trace_of_zeros(compiled):
    params, grads = params_and_grads(steps=4)
    theirs = optax.sgd(RATE, 0.9)
    stopped = mj.momentum(lambda count: jnp.where(count == 3, 0.0, RATE), 0.9, convention="corrected")
    there, state = go(stopped, params, stopped.init(params), grads)
    convert = functools.partial(to_optax, template=theirs.init(params), convention="corrected")
    adopted = (jax.jit(convert) if compiled else convert)(state)
    assert_same(go(theirs, there, adopted, grads)[0], go(stopped, there, state, grads)[0])
