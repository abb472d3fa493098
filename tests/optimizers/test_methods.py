"""Properties that every optimizer of the table has: convergence, dtypes, jit, vmap, grad, any pytree."""

import collections
import functools
import inspect
from typing import Any, NamedTuple

import flax.core
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree
from numpy_tutorial import Momentum

import momentum_jax as mj
from momentum_jax import optimizers
from tests.compiling import jit
from tests.optimizers.table import (
    FEW,
    ONE_OF_EACH,
    TABLE,
    Run,
    assert_close,
    bowl,
    entries_where,
    every_entry,
    float32,
    gradient_of_bowl,
    injected,
    one_of_each,
    run,
    scanned,
    shapes,
    some_params,
    step,
    without_scalars,
)


@functools.cache
def eager_run(name: str) -> Run:
    return run(TABLE[name].make(), some_params())


# One of each set of hyperparameters by default.
one_structure_of_hyperparameters = entries_where(
    lambda name: True,
    default=["sgd", "momentum,corrected", "nesterov,everything", "qhm", "aggmo", "adaptive_restart,function"],
)


class CompiledRun(NamedTuple):
    run: Run
    traces: int
    kept: list[bool]
    """For each array that was given to the first step, whether it still exists."""


@functools.cache
def compiled_run(name: str) -> CompiledRun:
    """The same run with a compiled step that donates its arguments."""
    optimizer = TABLE[name].make()
    traces = []

    @functools.partial(jit, donate_argnums=(0, 1))
    def compiled_step(params, state):
        traces.append(1)
        return step(optimizer, params, state)

    params = some_params()
    state = optimizer.init(params)
    first = jax.tree.leaves((params, state))
    history = []
    for _ in range(4):
        params, state, updates = compiled_step(params, state)
        history.append(updates)
    return CompiledRun(Run(params, state, history), len(traces), [not leaf.is_deleted() for leaf in first])


def test_every_method_is_in_the_table_with_every_hyperparameter():
    in_table = collections.defaultdict(set)
    for entry in TABLE.values():
        in_table[inspect.unwrap(entry.factory)].update(entry.numbers, entry.options)
    in_the_table = {"mass", "grokfast"}
    methods = {
        name: method.factory
        for name, method in optimizers.available().items()
        if name not in {*optimizers.FAMILY, "dana"} or name in in_the_table
    }
    cores = {name: getattr(optimizers, name) for name in optimizers.__all__ if name.startswith("scale_by_")}
    for name, factory in (methods | cores).items():
        assert in_table[factory] == set(inspect.signature(factory).parameters), name


def minimum_found(name, loss, start, steps):
    optimizer = TABLE[name].make()
    return jax.jit(lambda params: scanned(optimizer, params, steps, loss).params)(start)


# A step of constant length comes no nearer than its length, and where there is no noise YellowFin takes a gradient that
# vanishes for a curvature that does.
every_entry_that_settles = entries_where(lambda name: not name.startswith(("normalized", "yellowfin")))


@every_entry_that_settles
def test_a_parabola_is_minimised(name):
    def parabola(w):
        return (w[0] ** 2 + 0.1 * w[1] ** 2) / 2

    # The slowest halves its rate to 0.025: (1 − 0.0025)^4000 is some 5e-5.
    params = minimum_found(name, parabola, jnp.array([5.0, -3.0]), 4000)
    np.testing.assert_allclose(params, 0, atol=1e-3)


@every_entry_that_settles
def test_rosenbrocks_valley_is_followed_to_its_end(name):
    def rosenbrock(w):
        return (1 - w["x"]) ** 2 / 100 + (w["y"] - w["x"] ** 2) ** 2 / 10

    # A hundredth of Rosenbrock's function, its walls a tenth as steep. Scalars, which the masks leave out of weight
    # decay: it would move the minimum. At the end the flattest curvature is 0.004, so that gradient descent at the
    # rate 0.025 comes nearer by e in 10,000 steps.
    start = {"x": jnp.array(-1.0), "y": jnp.array(1.0)}
    params = minimum_found(name, rosenbrock, start, 60_000)
    np.testing.assert_allclose([params["x"], params["y"]], 1, atol=1e-2)


@pytest.mark.parametrize("transported", [False, True])
def test_in_steps_that_become_shorter_normalized_momentum_minimises_a_parabola(transported):
    optimizer = mj.normalized_momentum(optax.linear_schedule(0.02, 0.0, 2000), 0.9, transported=transported)
    start = jnp.array([5.0, -3.0])
    params = jit(lambda params: scanned(optimizer, params, 2000, lambda w: w @ (jnp.array([1.0, 0.1]) * w) / 2).params)(
        start
    )
    # The steps together are 20 long, the way 6; the last hundred are shorter than 1e-3.
    np.testing.assert_allclose(params, 0, atol=1e-3)


def test_under_a_schedule_the_average_of_transported_gradients_is_the_gradient_of_a_quadratic_at_x():
    with jax.enable_x64(True):
        momenta = jnp.asarray(np.random.default_rng(0).uniform(0.1, 0.9, 41))
        optimizer = mj.normalized_momentum(0.1, lambda count: momenta[count], transported=True)
        curvatures, params = jnp.array([1.0, 0.3, 0.05]), jnp.array([5.0, -3.0, 2.0])
        state = optimizer.init(params)
        for _ in range(40):
            x = params - state.lookahead
            updates, state = optimizer.update(curvatures * params, state)
            params = params + updates
            # a_t = ∇f(x_t) makes a_{t+1} = m·∇f(x_t) + (1 − m)·∇f(w) = ∇f(m·x_t + (1 − m)·w), which is ∇f(x_{t+1}) at
            # w = x_{t+1} + m/(1 − m)·(x_{t+1} − x_t) with the m of this average. float64, 40 steps.
            np.testing.assert_allclose(state.average, curvatures * x, rtol=1e-11)


@pytest.mark.parametrize("transported", [False, True])
@pytest.mark.parametrize("size", [1e-36, 1e-25, 1e25, 3e37])
def test_a_normalized_step_is_as_long_whatever_the_size_of_the_gradients(size, transported):
    optimizer, params = mj.normalized_momentum(0.5, 0.5, transported=transported), jnp.zeros(2)
    # float32, in which the square of none of these is a number other than 0.
    updates, _ = optimizer.update(size * jnp.array([3.0, 4.0]), optimizer.init(params))
    np.testing.assert_allclose(updates, [-0.6, -0.8] if transported else [-0.3, -0.4], rtol=1e-6)


def test_the_runs_of_adaptive_restart_restart():
    # Or half of its rule would be in no test here.
    for scheme in ("gradient", "function"):
        assert eager_run(f"adaptive_restart,{scheme}").state.theta == 1


@every_entry
def test_jit_changes_nothing(name):
    # float32: a compiled step may round a product and a sum once where eager operations round twice.
    assert_close(compiled_run(name).run, eager_run(name), rtol=1e-5, atol=1e-7)


@every_entry
def test_the_second_step_does_not_compile_again(name):
    assert compiled_run(name).traces == 1


@every_entry
def test_donated_parameters_and_states_are_used_up(name):
    # JAX also warns of a buffer that it cannot reuse, and warnings are errors here.
    assert not any(compiled_run(name).kept)


@every_entry
def test_inject_hyperparams_changes_nothing(name):
    actual = run(injected(TABLE[name]), some_params())
    expected = eager_run(name)
    # float32: a hyperparameter is rounded to it a few operations earlier, 1 − 0.9 for one.
    assert_close(actual.updates, expected.updates, rtol=1e-5, atol=1e-7)
    assert_close(actual.state.inner_state, expected.state, rtol=1e-5, atol=1e-7)


@every_entry
@pytest.mark.parametrize("traced", [False, True], ids=["concrete", "traced"])
@pytest.mark.parametrize(
    "dtypes",
    [
        ("bfloat16",),
        ("float16",),
        ("float32",),
        ("float64",),
        ("bfloat16", "float32"),
        ("float16", "float64"),
    ],
    ids=" ".join,
)
def test_updates_have_the_dtypes_of_the_gradients_and_the_state_keeps_its_own(name, dtypes, traced):
    entry = TABLE[name]
    with jax.enable_x64("float64" in dtypes):

        def program(numbers):
            optimizer = entry.make(**numbers)
            params = some_params(*dtypes)
            state = optimizer.init(params)
            _, new_state, updates = step(optimizer, params, state)
            wide = entry.options.get("accumulator_dtype")
            expected = params if wide is None else jax.tree.map(lambda p: p.astype(wide), params)
            accumulators = optax.tree.map_params(optimizer, lambda _, p: p, state, expected)
            if name == "outer_momentum":
                accumulators = accumulators._replace(slow=params)
            return (updates, state, new_state), (params, accumulators, state)

        numbers = (float32(entry.numbers),) if traced else ()
        actual, expected = jax.eval_shape(program if traced else lambda: program({}), *numbers)
        assert shapes(actual) == shapes(expected)


@every_entry
def test_abstract_parameters_make_an_abstract_state(name):
    optimizer, params = TABLE[name].make(), some_params("bfloat16", "float32")
    expected = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), optimizer.init(params))
    abstract = jax.eval_shape(optimizer.init, params)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), abstract) == expected
    # `init` needs only shapes and dtypes to make a concrete state.
    from_shapes = optimizer.init(jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype), params))
    assert_close(from_shapes, optimizer.init(params), rtol=0)


@entries_where(lambda name: True, default=FEW)
def test_bfloat16_is_carried_through_a_scan_with_traced_float32_hyperparameters(name):
    entry, params = TABLE[name], jnp.array([1.0, -2.0], "bfloat16")
    actual = jit(lambda numbers: scanned(entry.make(**numbers), params, 4))(float32(entry.numbers))
    expected = run(entry.make(), params)
    # bfloat16 rounds by up to 2⁻⁹; compiled code may skip some of the roundings, those of gradients too, in each step.
    assert_close(actual.state, expected.state, rtol=2**-5, atol=2**-8)
    assert_close(actual.updates, jnp.stack(expected.updates), rtol=2**-5, atol=2**-8)


# Not the cores: Optax's learning rate after them rounds once more. Nor what wraps the rounded step of another.
@entries_where(lambda name: not name.startswith(("scale_by", "cautious", "outer_momentum")))
def test_in_bfloat16_a_step_is_the_float32_step_rounded_once(name):
    optimizer = TABLE[name].make()
    params, state, _ = run(optimizer, some_params("bfloat16"), 3)
    grads = gradient_of_bowl(params)

    def widened(tree):
        return jax.tree.map(lambda x: x.astype("float32") if x.dtype == jnp.bfloat16 else x, tree)

    narrow, narrow_state = optimizer.update(grads, state, params, value_fn=bowl)
    wide, wide_state = optimizer.update(widened(grads), widened(state), widened(params), value_fn=bowl)

    def rounded(tree, like):
        return jax.tree.map(lambda x, y: x.astype(y.dtype), tree, like)

    assert_close(narrow, rounded(wide, narrow), rtol=0)
    expected = rounded(wide_state, narrow_state)
    if "function" in name:
        # The function is given the parameters in their own dtype.
        expected = expected._replace(value=narrow_state.value)
    assert_close(narrow_state, expected, rtol=0)


def test_in_bfloat16_the_hyperparameters_are_not_rounded():
    optimizer = mj.momentum(0.1, 0.9)
    params = jnp.zeros([], "bfloat16")
    state = optimizer.init(params)._replace(velocity=jnp.array(143.0, "bfloat16"))
    updates, _ = optimizer.update(params, state)
    # 0.9 · 143 = 128.7, and 0.8984, which is 0.9 in bfloat16, · 143 = 128.5: bfloat16 has 128 and 129.
    assert updates == jnp.array(129.0, "bfloat16")


@one_structure_of_hyperparameters
def test_vmap_over_hyperparameters_is_a_loop_over_them(name):
    entry, params = TABLE[name], jnp.array([1.0, -2.0])
    numbers, unravel = ravel_pytree(float32(entry.numbers))
    # Row 0 is the table's; in row i the hyperparameter i − 1 is another. (Always seven rows: few shapes to compile.)
    points = numbers[None, :].repeat(7, 0).at[1 : 1 + numbers.size].add(jnp.diag(0.1 - 0.5 * numbers))

    def trained(point):
        return scanned(entry.make(**unravel(point)), params, 3)

    together, alone = jit(jax.vmap(trained))(points), jit(trained)
    updates = together.updates
    for i in range(1 + numbers.size):
        # float32, and the same operations, which a batch may round in another way.
        assert_close(jax.tree.map(lambda x, i=i: x[i], together), alone(points[i]), rtol=1e-5, atol=1e-6)
        # Each hyperparameter matters, or a batch of it would show nothing.
        assert i == 0 or not np.allclose(updates[i], updates[0], rtol=1e-3)


@one_of_each
def test_vmap_over_an_ensemble_is_a_loop_over_its_members(name):
    optimizer = TABLE[name].make()
    members = jnp.array([[1.0, -2.0], [0.1, 0.3], [-5.0, 0.0], [2.0, 2.0], [0.0, 0.0], [3.0, -0.5]])

    def trained(params):
        return scanned(optimizer, params, 4)

    together, alone = jit(jax.vmap(trained))(members), jit(trained)
    for i in (0, 2):
        # float32, and the same operations, which a batch may round in another way.
        assert_close(jax.tree.map(lambda x, i=i: x[i], together), alone(members[i]), rtol=1e-5, atol=1e-6)


def assert_gradient_is_that_of_differences(loss, point):
    """Of a function of a vector, in float64."""
    h = 1e-5
    value_and_grad = jit(jax.value_and_grad(loss))
    differences = [
        (value_and_grad(point + h * e)[0] - value_and_grad(point - h * e)[0]) / (2 * h) for e in jnp.eye(point.size)
    ]
    # Central differences err by h²/6 times the third derivative and by ε/h: some 1e-10 and 1e-11 times the loss.
    np.testing.assert_allclose(value_and_grad(point)[1], differences, rtol=1e-6, atol=1e-8)
    # Zero would be the gradient by something that has no effect.
    assert np.all(np.abs(differences) > 1e-7)


@one_structure_of_hyperparameters
def test_the_gradient_by_every_hyperparameter_is_that_of_finite_differences(name):
    entry = TABLE[name]
    # In float32 accumulators the differences would drown in rounding.
    wide = {"accumulator_dtype": "float64"} if "accumulator_dtype" in entry.options else {}
    with jax.enable_x64(True):
        params = jnp.array([1.0, -2.0])
        numbers, unravel = ravel_pytree(jax.tree.map(jnp.float64, entry.numbers))
        assert_gradient_is_that_of_differences(
            lambda point: bowl(scanned(entry.make(**unravel(point), **wide), params, 6).updates), numbers
        )


@pytest.mark.parametrize("method", [mj.momentum, pytest.param(mj.nesterov, marks=pytest.mark.exhaustive)])
def test_the_gradient_is_right_where_a_corrected_learning_rate_is_zero(method):
    def loss_after_training(point):
        # The ratio of two rates is 0/0, η/0, η/η and 0/η on the way.
        pattern = jnp.array([0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0])
        optimizer = method(lambda count: point[0] * pattern[count], point[1], convention="corrected")
        return bowl(scanned(optimizer, jnp.array([1.0, -2.0]), 7).params)

    with jax.enable_x64(True):
        assert_gradient_is_that_of_differences(loss_after_training, jnp.array([0.1, 0.9]))
        # From a rate of 0 there is nothing to compare with: it sets the velocity back, and a positive one does not.
        assert np.all(np.isfinite(jit(jax.grad(loss_after_training))(jnp.array([0.0, 0.9]))))


class Layer(NamedTuple):
    w: Any
    b: Any


TREES = {
    "{}": {},
    "()": (),
    "[None]": [None],
    "array": np.ones(3),
    "None leaf": {"a": None, "b": np.ones([])},
    "no entries": {"a": np.ones((0, 2)), "b": np.ones(1)},
    "nested": [np.ones([]), (None, {"c": np.ones((1, 2)), "d": ()})],
    "NamedTuple": (Layer(np.ones((2, 1)), b=None), Layer(np.ones(2), np.ones([]))),
    "FrozenDict": flax.core.freeze({"dense": {"w": np.ones((2, 2)), "b": np.ones(2)}}),
    "OrderedDict": collections.OrderedDict(z=np.ones(2), a=np.ones([])),
}


@pytest.mark.parametrize(
    ("name", "tree"),
    [
        pytest.param(name, tree, marks=() if name == "momentum" or tree == "nested" else pytest.mark.exhaustive)
        for name in ONE_OF_EACH
        for tree in TREES
    ],
)
def test_any_pytree_is_trained_like_a_list_of_its_leaves(name, tree):
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, "float32"), TREES[tree])
    optimizer = TABLE[name].make()
    final, _, updates = run(optimizer, params, 2)
    assert jax.tree.structure(final) == jax.tree.structure(updates[-1]) == jax.tree.structure(params)
    expected = run(optimizer, jax.tree.leaves(params), 2)
    # A sum over leaves is the only operation that could be done in another order: rounding of float32.
    assert_close(jax.tree.leaves(final), expected.params, rtol=1e-6)


def test_a_mask_is_a_function_a_tree_or_a_prefix_of_one():
    def trained(mask):
        return run(mj.momentum(0.1, weight_decay=0.5, mask=mask), some_params())

    expected = trained({"dense": {"w": True}, "scale": False})
    assert_close(trained({"dense": True, "scale": False}), expected, rtol=0)
    assert_close(trained(without_scalars), expected, rtol=0)
    assert_close(trained(lambda params: {"dense": True, "scale": False}), expected, rtol=0)
    assert not np.allclose(trained(None).params["scale"], expected.params["scale"], rtol=1e-3)


@every_entry
def test_extra_arguments_that_a_method_does_not_ask_for_are_ignored(name):
    optimizer, params = TABLE[name].make(), some_params()
    others = {"value": jnp.array(1.0), "correction": 2.0, "count": 7, "unheard_of": "of"}
    updates, state = optimizer.update(gradient_of_bowl(params), optimizer.init(params), params, value_fn=bowl, **others)
    _, expected_state, expected = run(optimizer, params, 1)
    assert_close((updates, state), (expected[0], expected_state), rtol=0)


@entries_where(
    lambda name: "weight_decay" not in TABLE[name].numbers and "function" not in name and name != "outer_momentum"
)
def test_parameters_are_needed_for_weight_decay_the_function_scheme_and_outer_momentum_only(name):
    entry = TABLE[name]
    optimizer, params = entry.make(), some_params()
    updates, state = optimizer.update(gradient_of_bowl(params), optimizer.init(params))
    _, expected_state, expected = run(optimizer, params, 1)
    assert_close((updates, state), (expected[0], expected_state), rtol=0)


@every_entry
def test_the_count_of_updates_stops_at_its_greatest_value(name):
    optimizer, params = TABLE[name].make(), some_params()
    state = run(optimizer, params, 3).state
    count = optax.tree.get(state, "count")
    assert (count, count.dtype) == (3, jnp.int32)
    greatest = np.iinfo(np.int32).max
    state = optax.tree.set(state, count=jnp.array(greatest - 1, jnp.int32))
    counts = []
    for _ in range(3):
        params, state, updates = step(optimizer, params, state)
        counts.append(int(optax.tree.get(state, "count")))
    assert counts == [greatest] * 3
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(updates))


class Nesterov:
    """v ← m·v − lr·g; p ← p + m·v − lr·g (Bengio et al. 2012, equation 7), in NumPy."""

    def __init__(self, lr, momentum):
        self.lr, self.momentum, self.v = lr, momentum, None

    def update(self, params, grads):
        self.v = self.v or {k: np.zeros_like(p) for k, p in params.items()}
        for k in params:
            self.v[k] = self.momentum * self.v[k] - self.lr * grads[k]
            params[k] = params[k] + self.momentum * self.v[k] - self.lr * grads[k]


leaf_shapes = st.lists(st.integers(0, 2), max_size=2).map(tuple)
trees = st.recursive(
    leaf_shapes, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner)
)


# test_oracles.py has a shorter version of this.
@pytest.mark.exhaustive
@settings(deadline=None, max_examples=30)
@given(
    tree=trees,
    rate=st.floats(0, 10),
    m=st.floats(0, 0.999),
    steps=st.integers(1, 5),
    name=st.sampled_from(["momentum", "nesterov"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_on_any_tree_and_hyperparameters_the_rule_holds(tree, rate, m, steps, name, seed):
    rng = np.random.default_rng(seed)
    leaves, structure = jax.tree.flatten(tree, is_leaf=lambda node: isinstance(node, tuple))
    with jax.enable_x64(True):
        params = {str(i): rng.normal(size=shape) for i, shape in enumerate(leaves)}
        grads = [{key: rng.normal(size=p.shape) for key, p in params.items()} for _ in range(steps)]

        def as_tree(values):
            return structure.unflatten([jnp.asarray(values[str(i)]) for i in range(len(leaves))])

        optimizer, ours = getattr(mj, name)(rate, m), as_tree(params)
        state = optimizer.init(ours)
        reference = {"momentum": Momentum, "nesterov": Nesterov}[name](rate, m)
        for g in grads:
            updates, state = optimizer.update(as_tree(g), state, ours)
            ours = optax.apply_updates(ours, updates)
            params = {key: np.array(p) for key, p in params.items()}
            reference.update(params, g)
        # float64, at most 5 steps of numbers up to some 1e2.
        assert_close(ours, as_tree(params), rtol=1e-11, atol=1e-11)
