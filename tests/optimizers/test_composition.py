"""The optimizers of the table in Optax's wrappers, in Flax's training states and on several devices."""

import functools

import flax.linen as nn
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import momentum_jax as mj
from momentum_jax import optimizers
from tests.compiling import jit
from tests.optimizers.table import (
    FEW,
    ONE_OF_EACH,
    TABLE,
    assert_close,
    bowl,
    entries_where,
    every_entry,
    gradient_of,
    gradient_of_bowl,
    injected,
    one_of_each,
    run,
    scanned,
    some_params,
    step,
)

# Optax's wrappers need JAX's default promotion rules.
as_optax_promotes = functools.partial(jax.numpy_dtype_promotion, "standard")


@entries_where(lambda name: True, default=FEW)
def test_a_chain_hands_gradients_in_and_updates_on(name):
    optimizer, params = TABLE[name].make(), some_params()
    actual = run(optax.chain(optax.clip_by_global_norm(0.1), optimizer, optax.scale(0.5)), params)
    state = optimizer.init(params)
    for updates in actual.updates:
        flat, unravel = ravel_pytree(gradient_of_bowl(params))
        norm = jnp.sqrt(jnp.sum(flat**2))
        assert norm > 0.1
        expected, state = optimizer.update(unravel(0.1 / norm * flat), state, params, value_fn=bowl)
        expected = jax.tree.map(lambda u: u / 2, expected)
        # float32, clipped in another order of operations.
        assert_close(updates, expected, rtol=1e-5, atol=1e-7)
        params = optax.apply_updates(params, expected)


def test_a_core_and_gradient_descent_in_a_chain_are_the_method_outside():
    for core, method in (
        (optimizers.scale_by_momentum, mj.momentum),
        (optimizers.scale_by_nesterov, mj.nesterov),
    ):
        actual = run(optax.chain(core(0.9), mj.sgd(0.05)), some_params())
        expected = run(method(0.05, 0.9, convention="outside"), some_params())
        assert_close(actual.updates, expected.updates, rtol=1e-6)


@every_entry
def test_an_injected_hyperparameter_can_be_changed_in_mid_run(name):
    entry = TABLE[name]
    optimizer = injected(entry)
    params, state, _ = run(optimizer, some_params(), 1)
    unchanged = run(optimizer, params, 1, state=state)
    for key, value in state.hyperparams.items():
        other = 0.4 * value + 0.05
        changed = state._replace(hyperparams=state.hyperparams | {key: other})
        actual = run(optimizer, params, 1, state=changed)
        expected = run(entry.make(**{key: float(other)}), params, 1, state=state.inner_state)
        # float32: a hyperparameter is rounded to it a few operations earlier.
        assert_close(actual.updates, expected.updates, rtol=1e-5, atol=1e-7)
        assert not np.allclose(ravel_pytree(actual.updates)[0], ravel_pytree(unchanged.updates)[0], rtol=1e-3)


@pytest.mark.parametrize("method", [mj.sgd, mj.momentum, mj.nesterov, mj.qhm, mj.aggmo, mj.adaptive_restart])
def test_an_injected_schedule_is_the_schedule_itself(method):
    def schedule(count):
        return jnp.where(count < 2, 0.1, 0.05)

    actual = run(optax.inject_hyperparams(method)(learning_rate=schedule), some_params())
    expected = run(method(schedule), some_params())
    # float32: as above.
    assert_close(actual.updates, expected.updates, rtol=1e-5, atol=1e-7)
    assert actual.state.hyperparams["learning_rate"] == np.float32(0.05)


@pytest.mark.parametrize("method", [mj.sgd, mj.momentum, mj.nesterov, mj.qhm, mj.aggmo])
def test_injected_hyperparameters_without_weight_decay_need_no_parameters(method):
    optimizer, params = optax.inject_hyperparams(method)(learning_rate=0.1), some_params()
    updates, _ = optimizer.update(gradient_of_bowl(params), optimizer.init(params))
    # float32: as above.
    assert_close(updates, run(method(0.1), params, 1).updates[0], rtol=1e-5)


@entries_where(lambda name: True, default=FEW)
def test_each_of_two_methods_moves_its_part_of_the_parameters(name):
    optimizer, params = TABLE[name].make(), some_params()
    partition = optax.multi_transform({"ours": optimizer, "other": mj.sgd(0.1)}, {"dense": "ours", "scale": "other"})
    actual = run(partition, params)
    # Each leaf has a loss of its own, so that the parts do not see each other; the operations are the same.
    assert_close(actual.params["dense"], run(optimizer, params["dense"]).params, rtol=1e-6)
    assert_close(actual.params["scale"], run(mj.sgd(0.1), params["scale"]).params, rtol=1e-6)


@every_entry
def test_masked_leaves_out_what_the_mask_leaves_out(name):
    optimizer, params = TABLE[name].make(), some_params()
    actual = run(optax.masked(optimizer, {"dense": True, "scale": False}), params, 1)
    expected = {"dense": run(optimizer, params["dense"], 1).updates[0], "scale": gradient_of_bowl(params["scale"])}
    assert_close(actual.updates[0], expected, rtol=1e-6)


def test_a_mask_that_is_a_tree_does_not_hide_what_the_state_holds():
    optimizer = mj.momentum(0.1, weight_decay=0.1, mask={"w": True, "b": False})
    state = optimizer.init({"w": jnp.ones((3, 2)), "b": jnp.ones(2)})
    assert optax.tree.map_params(optimizer, lambda leaf: leaf.ndim, state).velocity == {"w": 2, "b": 1}


@pytest.mark.parametrize("decoupled", [False, True])
def test_a_mask_of_all_parameters_fits_a_part_of_them(decoupled):
    params = {"w": jnp.array([1.0, 2.0]), "b": jnp.array([3.0]), "frozen": jnp.array(4.0)}
    mask = {"w": True, "b": False, "frozen": True}
    optimizer = mj.momentum(0.1, 0.9, weight_decay=0.5, decoupled_weight_decay=decoupled, mask=mask)
    labels = {"w": "ours", "b": "ours", "frozen": "nothing"}
    actual = run(optax.multi_transform({"ours": optimizer, "nothing": optax.set_to_zero()}, labels), params)
    expected = run(optimizer, params)
    assert_close(actual.params, expected.params | {"frozen": params["frozen"]}, rtol=1e-6)


@one_of_each
def test_a_gradient_that_is_not_finite_is_as_if_it_had_not_been(name):
    optimizer, params = TABLE[name].make(), jnp.array([1.0, -2.0])
    expected = run(optimizer, params, 4)
    guarded = optax.apply_if_finite(optimizer, 3)
    update = jit(functools.partial(guarded.update, value_fn=bowl))
    state = guarded.init(params)
    for factor in (1, 1, np.array([1, np.nan], "float32"), 1, 1):
        before = params, state.inner_state
        updates, state = update(factor * gradient_of_bowl(params), state, params)
        params = optax.apply_updates(params, updates)
        if np.any(np.isnan(factor)):
            assert_close((params, state.inner_state), before, rtol=0)
    assert state.total_notfinite == 1
    # float32: a compiled step may round a product and a sum once where eager operations round twice.
    assert_close((params, state.inner_state), (expected.params, expected.state), rtol=1e-5, atol=1e-6)


@one_of_each
def test_gradients_accumulated_over_two_steps_are_their_mean_in_one(name):
    optimizer, params = TABLE[name].make(), jnp.array([1.0, -2.0])
    expected = run(optimizer, params, 3)
    accumulating = optax.MultiSteps(optimizer, every_k_schedule=2)
    with as_optax_promotes():
        update = jit(functools.partial(accumulating.update, value_fn=bowl))
        state = accumulating.init(params)
        for _ in range(3):
            for weight in (0.5, 1.5):
                updates, state = update(weight * gradient_of_bowl(params), state, params)
                params = optax.apply_updates(params, updates)
                assert np.any(updates) == (weight == 1.5)
    # float32: compiled, and the mean of a half and three halves of a gradient is rounded.
    assert_close((params, state.inner_opt_state), (expected.params, expected.state), rtol=1e-5, atol=1e-6)


# Optax's wrappers that call the optimizer in their own way, or need something of its updates.
WRAPPERS = {
    "mechanize": lambda optimizer: optax.contrib.mechanize(optimizer, weight_decay=0.0),
    "schedule_free": lambda optimizer: optax.contrib.schedule_free(optimizer, learning_rate=0.05),
    "reduce_on_plateau": lambda optimizer: optax.chain(optimizer, optax.contrib.reduce_on_plateau(patience=1)),
    "conditionally_transform": lambda optimizer: optax.conditionally_transform(optimizer, lambda step: step % 2 == 0),
    "conditionally_mask": lambda optimizer: optax.conditionally_mask(optimizer, lambda step: step % 2 == 0),
    "add_noise": lambda optimizer: optax.chain(optax.add_noise(0.1, 0.5, 0), optimizer),
    "zero_nans": lambda optimizer: optax.chain(optax.zero_nans(), optimizer),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("nesterov", [False, True])
def test_a_wrapper_trains_a_method_outside_as_it_trains_optaxs(wrapper, nesterov):
    def trained(optimizer):
        wrapped = WRAPPERS[wrapper](optimizer)

        @jit
        def train(params):
            def one(carry, _):
                params, state = carry
                value, grads = jax.value_and_grad(bowl)(params)
                updates, state = wrapped.update(grads, state, params, value=value)
                return (optax.apply_updates(params, updates), state), None

            return jax.lax.scan(one, (params, wrapped.init(params)), length=6)[0][0]

        with as_optax_promotes():
            return train(some_params())

    ours = (mj.nesterov if nesterov else mj.momentum)(0.05, 0.9, convention="outside")
    # float32: the same products and sums.
    assert_close(trained(ours), trained(optax.sgd(0.05, 0.9, nesterov=nesterov)), rtol=1e-5, atol=1e-6)


@every_entry
def test_an_update_may_be_one_branch_of_a_condition_and_nothing_the_other(name):
    optimizer, params = TABLE[name].make(), some_params("bfloat16", "float32")

    def conditional(params, state, holds):
        return jax.lax.cond(
            holds,
            lambda: optimizer.update(params, state, params, value_fn=bowl),
            lambda: (jax.tree.map(jnp.zeros_like, params), state),
        )

    # Branches must agree in shapes, dtypes and weak types.
    with as_optax_promotes():
        jax.eval_shape(conditional, params, optimizer.init(params), True)


@jax.jit
def complex_loss(params):
    off = params["z"] - jnp.array([1 + 2j, 0.5j], "complex64")
    return bowl({"re": off.real, "im": off.imag, "x": params["x"] - off.imag})


@jax.jit
def complex_loss_of_parts(parts):
    return complex_loss({"z": jax.lax.complex(parts["re"], parts["im"]), "x": parts["x"]})


# Optax's wrapper passes no value_fn.
@entries_where(lambda name: "function" not in name, default=FEW)
def test_complex_parameters_are_trained_like_their_two_parts(name):
    optimizer = TABLE[name].make()
    params = {"z": jnp.array([0.5 - 1j, 2 + 1j], "complex64"), "x": jnp.array([1.0, -1.0])}
    expected = run(
        optimizer, {"re": params["z"].real, "im": params["z"].imag, "x": params["x"]}, 4, complex_loss_of_parts
    )
    split = optax.contrib.split_real_and_imaginary(optimizer)
    state = split.init(params)
    for updates in expected.updates:
        # JAX's gradient of a real function is the conjugate of the direction of steepest ascent.
        grads = jax.tree.map(jnp.conj, gradient_of(complex_loss)(params))
        with as_optax_promotes():
            actual, state = split.update(grads, state, params)
        # float32: the two losses are differentiated by other operations.
        parts = {"re": actual["z"].real, "im": actual["z"].imag, "x": actual["x"]}
        assert_close(parts, updates, rtol=1e-5, atol=1e-6)
        params = optax.apply_updates(params, actual)


# A vector has no scalars to mask, and is one array, of which caution leaves a share.
@entries_where(lambda name: "mask" not in TABLE[name].options and name != "cautious")
def test_a_flattened_tree_is_trained_like_the_tree(name):
    optimizer, params = TABLE[name].make(), some_params()
    flattened = optax.flatten(optimizer)
    # The order in which Optax flattens is that of ravel_pytree.
    unravel = ravel_pytree(params)[1]
    state = flattened.init(params)
    for updates in run(optimizer, params).updates:
        grads = gradient_of_bowl(params)
        actual, state = flattened.update(grads, state, params, value_fn=lambda flat: bowl(unravel(flat)))
        # float32: the operations are the same but for the order of an inner product.
        assert_close(actual, updates, rtol=1e-5, atol=1e-7)
        params = optax.apply_updates(params, actual)


@every_entry
@pytest.mark.parametrize("wrap", [lambda entry: entry.make(), injected], ids=["plain", "injected"])
def test_what_the_state_holds_for_each_parameter_is_found(name, wrap):
    optimizer = wrap(TABLE[name])
    params = {"w": jnp.ones((3, 2)), "b": jnp.ones(2)}
    state = optimizer.init(params)
    specs = optax.tree.map_params(
        optimizer, lambda _, spec: spec, state, {"w": "of w", "b": "of b"}, transform_non_params=lambda _: "none"
    )
    for (path, leaf), spec in zip(jax.tree.leaves_with_path(state), jax.tree.leaves(specs), strict=True):
        # The last measurements of YellowFin are as many for any parameters.
        of_a_parameter = leaf.ndim and "window" not in jax.tree_util.keystr(path)
        assert spec == (f"of {path[-1].key}" if of_a_parameter else "none"), jax.tree_util.keystr(path)


@every_entry
def test_a_state_survives_flaxs_serialization(name):
    optimizer = TABLE[name].make()
    params, state, _ = run(optimizer, some_params("bfloat16", "float32"), 3)
    read = flax.serialization.from_bytes(optimizer.init(params), flax.serialization.to_bytes(state))
    # To the bit: nothing but copies. What is read are arrays of NumPy, which a step takes.
    assert_close(read, state, rtol=0)
    assert_close(run(optimizer, params, 1, state=read), run(optimizer, params, 1, state=state), rtol=0)


INPUTS = np.linspace(-1, 1, 6, dtype="float32").reshape(3, 2)


# Its apply_gradients passes no value_fn.
@entries_where(lambda name: "function" not in name, ONE_OF_EACH, default=FEW)
def test_flax_linens_train_state_trains_with_it(name):
    optimizer, model = TABLE[name].make(), nn.Dense(1)
    variables = model.init(jax.random.key(0), INPUTS)

    def loss(variables):
        return jnp.mean((model.apply(variables, INPUTS) - 1) ** 2)

    state = TrainState.create(apply_fn=model.apply, params=variables, tx=optimizer)
    for _ in range(3):
        state = state.apply_gradients(grads=gradient_of(loss)(state.params))
    expected = run(optimizer, variables, 3, loss)
    assert_close(state.params, expected.params, rtol=1e-6)
    assert_close(state.opt_state, expected.state, rtol=1e-6)


@one_of_each
def test_flax_nnxs_optimizer_trains_with_it(name):
    def loss(model):
        return jnp.mean((model(INPUTS) - 1) ** 2)

    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    graph, start = nnx.split(model)

    def loss_of_params(params):
        return loss(nnx.merge(graph, params))

    # Before the model, whose arrays are replaced in place.
    expected = nnx.to_pure_dict(run(TABLE[name].make(), nnx.as_pure(start), 3, loss_of_params).params)
    optimizer = nnx.Optimizer(model, TABLE[name].make(), wrt=nnx.Param)
    for _ in range(3):
        optimizer.update(model, nnx.grad(loss)(model), value_fn=loss_of_params)
    # float32: both differentiate the same function.
    assert_close(nnx.to_pure_dict(nnx.state(model)), expected, rtol=1e-6)


def two_devices(axis_type):
    assert len(jax.devices()) >= 2
    return jax.make_mesh((2,), ("devices",), axis_types=(axis_type,), devices=jax.devices()[:2])


@pytest.mark.parametrize(
    ("name", "axis_type"),
    [
        pytest.param(name, axis_type, marks=() if name in default else pytest.mark.exhaustive)
        for axis_type, default in ((AxisType.Auto, FEW), (AxisType.Explicit, ["momentum,corrected"]))
        for name in ONE_OF_EACH
    ],
)
def test_sharded_parameters_have_sharded_states_and_the_same_updates(name, axis_type):
    optimizer, mesh = TABLE[name].make(), two_devices(axis_type)
    rng = np.random.default_rng(0)
    params = {"w": jnp.asarray(rng.normal(size=(4, 3)), "float32"), "b": jnp.asarray(rng.normal(size=3), "float32")}
    expected = run(optimizer, params)

    shardings = {"w": NamedSharding(mesh, P("devices")), "b": NamedSharding(mesh, P())}
    with jax.set_mesh(mesh):
        params = jax.device_put(params, shardings)
        state_shardings = optax.tree.map_params(
            optimizer,
            lambda _, sharding: sharding,
            jax.eval_shape(optimizer.init, params),
            shardings,
            transform_non_params=lambda _: NamedSharding(mesh, P()),
        )

        def assert_sharded(state):
            for leaf, sharding in zip(jax.tree.leaves(state), jax.tree.leaves(state_shardings), strict=True):
                if leaf.ndim:
                    assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim)

        assert_sharded(optimizer.init(params))
        state = jit(optimizer.init, out_shardings=state_shardings)(params)
        assert_sharded(state)
        compiled = jit(functools.partial(step, optimizer))
        for updates in expected.updates:
            params, state, actual = compiled(params, state)
            assert_sharded(state)
            assert params["w"].sharding.is_equivalent_to(shardings["w"], 2)
            # float32: compiled, and sums are added up by device.
            assert_close(actual, updates, rtol=1e-5, atol=1e-6)


@one_of_each
def test_replicas_in_a_shard_map_take_the_step_of_the_mean_gradient(name):
    optimizer, mesh = TABLE[name].make(), two_devices(AxisType.Auto)

    @jit
    @functools.partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("devices")), out_specs=P())
    def train(params, weights):
        return scanned(optimizer, params, 4, lambda p: jax.lax.pmean(weights[0] * bowl(p), "devices"))

    params = some_params()
    actual = train(params, jnp.array([0.5, 1.5]))
    expected = run(optimizer, params)
    # float32: compiled, and the mean of a half and three halves of a gradient is rounded.
    assert_close((actual.params, actual.state), (expected.params, expected.state), rtol=1e-5, atol=1e-6)


# A restart is one decision for all parameters, and YellowFin measures norms of all.
@entries_where(
    lambda name: not name.startswith(("adaptive_restart", "yellowfin")),
    ONE_OF_EACH,
    default=FEW,
)
def test_each_device_of_a_shard_map_can_update_its_own_parameters(name):
    optimizer, mesh = TABLE[name].make(), two_devices(AxisType.Auto)

    @jit
    @functools.partial(jax.shard_map, mesh=mesh, in_specs=P("devices"), out_specs=P("devices"))
    def train(params):
        return scanned(optimizer, params, 3).params

    params = jnp.array([1.0, -2.0, 0.5, 1.0])
    actual = train(params)
    expected = [run(optimizer, half, 3).params for half in (params[:2], params[2:])]
    # float32, compiled.
    assert_close(actual, jnp.concatenate(expected), rtol=1e-5)


def after_a_thousand_gradients_of_one(optimizer, dtype):
    """The last updates, and what the state holds for each parameter."""

    def one(state, _):
        updates, state = optimizer.update(jnp.ones(1, dtype), state)
        return state, updates

    state, updates = jax.lax.scan(one, optimizer.init(jnp.zeros(1, dtype)), length=1000)
    return updates[-1], [leaf for leaf in jax.tree.leaves(state) if leaf.ndim]


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        (mj.momentum, {"learning_rate": 0.1, "momentum": 0.999}),
        (mj.momentum, {"learning_rate": 0.1, "momentum": 0.999, "convention": "corrected"}),
        (mj.nesterov, {"learning_rate": 0.1, "momentum": 0.999, "convention": "outside"}),
        (mj.qhm, {"learning_rate": 0.1, "momentum": 0.999}),
        (mj.aggmo, {"learning_rate": 0.1, "betas": (0.998, 0.999)}),
        (mj.adaptive_restart, {"learning_rate": 0.1}),
        (optimizers.scale_by_momentum, {"momentum": 0.999}),
        (optimizers.scale_by_nesterov, {"momentum": 0.999}),
        (optimizers.scale_by_qhm, {"momentum": 0.999}),
        (optimizers.scale_by_aggmo, {"betas": (0.998, 0.999)}),
    ],
)
def test_a_float32_accumulator_keeps_what_a_bfloat16_one_loses(method, arguments):
    wide = method(**arguments, accumulator_dtype="float32")

    @jit
    def program():
        after = after_a_thousand_gradients_of_one
        return after(method(**arguments), "float32"), after(wide, "bfloat16"), after(method(**arguments), "bfloat16")

    (_, expected), (updates, kept), (_, lost) = program()
    assert updates.dtype == jnp.bfloat16
    # A gradient of 1 is exact in bfloat16, so that the accumulators go through the numbers that they go through beside
    # float32 parameters. In bfloat16 a sum stops growing where the gradient is less than half of its last digit.
    assert_close(kept, expected, rtol=1e-6)
    for actual, value in zip(lost, expected, strict=True):
        assert actual.dtype == jnp.bfloat16
        assert not np.allclose(actual.astype("float32"), value, rtol=0.1)
