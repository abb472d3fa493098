"""The rules of `sgd`, `momentum` and `nesterov`, each against its formula and in every use that Optax promises."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy_tutorial import MiniSGD, Momentum

import momentum_jax as mj
from momentum_jax.errors import InputError

METHODS = {
    "sgd": functools.partial(mj.sgd, 0.03),
    "momentum": functools.partial(mj.momentum, 0.03, 0.9),
    "nesterov": functools.partial(mj.nesterov, 0.03, 0.9),
}
IN_OPTAX = {
    "sgd": functools.partial(optax.sgd, 0.03),
    "momentum": functools.partial(optax.sgd, 0.03, 0.9),
    "nesterov": functools.partial(optax.sgd, 0.03, 0.9, nesterov=True),
}
every_method = pytest.mark.parametrize("name", METHODS)


def params_and_grads(dtype="float32", steps=100, seed=0):
    """Parameters of several shapes, and gradients that change with every step."""
    rng = np.random.default_rng(seed)
    shapes = {"a": (3, 2), "b": (4,), "c": ()}
    params = {k: rng.normal(size=s).astype(dtype) for k, s in shapes.items()}
    grads = [{k: np.asarray(rng.normal(size=s), dtype) for k, s in shapes.items()} for _ in range(steps)]
    return params, grads


def run(optimizer, params, grads):
    """The parameters after each update."""
    params = jax.tree.map(jnp.asarray, params)
    state = optimizer.init(params)
    path = []
    for g in grads:
        updates, state = optimizer.update(g, state, params)
        params = optax.apply_updates(params, updates)
        path.append(params)
    return path, state


def assert_close(a, b, rtol):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol), a, b)


def dtypes(tree):
    return jax.tree.map(lambda a: a.dtype, tree)


class Nesterov:
    """v ← m·v − lr·g; p ← p + m·v − lr·g (Bengio et al. 2012, equation 7), in NumPy."""

    def __init__(self, lr, momentum):
        self.lr, self.momentum, self.v = lr, momentum, None

    def update(self, params, grads):
        self.v = self.v or {k: np.zeros_like(p) for k, p in params.items()}
        for k in params:
            self.v[k] = self.momentum * self.v[k] - self.lr * grads[k]
            params[k] = params[k] + self.momentum * self.v[k] - self.lr * grads[k]


@pytest.mark.parametrize(
    ("name", "reference"),
    [("sgd", MiniSGD(0.03)), ("momentum", Momentum(0.03, 0.9)), ("nesterov", Nesterov(0.03, 0.9))],
)
def test_each_rule_follows_the_tutorials_class_for_100_steps(name, reference):
    # Both sides are float64 and take some 1e2 rounded operations: 1e-12 leaves room, and a wrong term would be ~1.
    with jax.enable_x64(True):
        params, grads = params_and_grads("float64")
        path, _ = run(METHODS[name](), params, grads)
        for ours, g in zip(path, grads, strict=True):
            reference.update(params, g)
            assert_close(ours, params, rtol=1e-12)


@every_method
def test_each_method_equals_optax_at_a_constant_rate(name):
    with jax.enable_x64(True):
        params, grads = params_and_grads("float64")
        ours, _ = run(METHODS[name](), params, grads)
        theirs, _ = run(IN_OPTAX[name](), params, grads)
        # The rate stands inside the velocity here and outside there: equal but for rounding.
        assert_close(ours, theirs, rtol=1e-13)


def test_with_momentum_zero_the_three_methods_are_one():
    params, grads = params_and_grads()
    expected, _ = run(mj.sgd(0.1), params, grads)
    for method in (mj.momentum, mj.nesterov):
        path, _ = run(method(0.1, 0.0), params, grads)
        jax.tree.map(np.testing.assert_array_equal, path, expected)


@pytest.mark.parametrize(("method", "position"), [(mj.momentum, -0.200), (mj.nesterov, -0.290)])
def test_the_rate_stands_inside_the_velocity_under_a_schedule(method, position):
    # g = 1, m = 0.9, rate 0.1 then 0.01. Outside the velocity it would be −0.119 and −0.2171.
    optimizer = method(lambda count: jnp.where(count == 0, 0.1, 0.01), 0.9)
    path, _ = run(optimizer, jnp.array(0.0), [jnp.array(1.0)] * 2)
    np.testing.assert_allclose(path[-1], position, rtol=1e-6)


def test_the_momentum_may_be_scheduled():
    optimizer = mj.momentum(1.0, lambda count: jnp.where(count < 1, 0.0, 0.5))
    path, _ = run(optimizer, jnp.array(0.0), [jnp.array(1.0)] * 3)
    # v: −1, −1.5, −1.75.
    assert [float(p) for p in path] == [-1.0, -2.5, -4.25]


@every_method
def test_jit_and_eager_agree(name):
    params, grads = params_and_grads()
    optimizer = METHODS[name]()
    eager, _ = run(optimizer, params, grads)
    compiled, _ = run(optimizer._replace(update=jax.jit(optimizer.update)), params, grads)
    # float32; a compiled update may fuse a product and a sum into one rounding.
    assert_close(compiled, eager, rtol=1e-5)


@every_method
def test_the_second_update_does_not_compile_again(name):
    params, grads = params_and_grads()
    optimizer = METHODS[name]()
    traces = []

    @jax.jit
    def update(g, state, params):
        traces.append(1)
        return optimizer.update(g, state, params)

    run(optimizer._replace(update=update), params, grads)
    assert len(traces) == 1


@every_method
def test_the_state_is_a_scan_carry(name):
    params, grads = params_and_grads()
    optimizer = METHODS[name]()
    stacked = jax.tree.map(lambda *g: jnp.stack(g), *grads)

    def step(carry, g):
        params, state = carry
        updates, state = optimizer.update(g, state, params)
        return (optax.apply_updates(params, updates), state), None

    params = jax.tree.map(jnp.asarray, params)
    (final, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), stacked)
    expected, _ = run(optimizer, params, grads)
    assert_close(final, expected[-1], rtol=1e-5)


@every_method
def test_vmap_over_hyperparameters_is_a_loop_over_them(name):
    method = getattr(mj, name)
    params, grads = params_and_grads(steps=5)
    rates = jnp.array([0.01, 0.1, 1.0])

    def final(rate):
        return run(method(rate), params, grads)[0][-1]

    together = jax.vmap(final)(rates)
    for i, rate in enumerate(rates):
        assert_close(jax.tree.map(lambda p, i=i: p[i], together), final(rate), rtol=1e-5)


@every_method
def test_the_gradient_flows_through_the_updates(name):
    method = getattr(mj, name)

    def last(rate):
        return run(method(rate), jnp.array(1.0), [jnp.array(1.0)] * 2)[0][-1]

    # Two steps with g = 1 move by rate·(1 + 1 + m) for the heavy ball: the derivative is minus that sum.
    expected = {"sgd": -2.0, "momentum": -2.9, "nesterov": -4.61}[name]
    np.testing.assert_allclose(jax.grad(last)(0.1), expected, rtol=1e-6)


@every_method
def test_inject_hyperparams_changes_nothing(name):
    method = getattr(mj, name)
    params, grads = params_and_grads(steps=10)
    plain, _ = run(method(learning_rate=0.03), params, grads)
    injected, _ = run(optax.inject_hyperparams(method)(learning_rate=0.03), params, grads)
    assert_close(injected, plain, rtol=1e-6)


@every_method
def test_a_chain_passes_through(name):
    params, grads = params_and_grads(steps=10)
    chained, _ = run(optax.chain(optax.clip_by_global_norm(1e9), METHODS[name]()), params, grads)
    plain, _ = run(METHODS[name](), params, grads)
    assert_close(chained, plain, rtol=1e-6)


@every_method
def test_initialising_abstractly_gives_the_shapes_of_the_state(name):
    params, _ = params_and_grads(steps=0)
    optimizer = METHODS[name]()
    abstract = jax.eval_shape(optimizer.init, params)
    concrete = optimizer.init(jax.tree.map(jnp.asarray, params))
    assert jax.tree.map(lambda a: (a.shape, a.dtype), abstract) == jax.tree.map(lambda a: (a.shape, a.dtype), concrete)


@every_method
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
@pytest.mark.parametrize("traced", [False, True])
def test_state_and_updates_keep_the_dtype_of_the_parameters(name, dtype, traced):
    method = getattr(mj, name)
    with jax.enable_x64(dtype == "float64"):
        params = {"w": jnp.ones([3], dtype), "b": jnp.ones([], "float32")}

        def step(rate):
            optimizer = method(rate)
            state = optimizer.init(params)
            updates, new_state = optimizer.update(params, state, params)
            assert dtypes(new_state) == dtypes(state)
            return updates

        updates = jax.jit(step)(jnp.float32(0.1)) if traced else step(0.1)
        assert dtypes(updates) == dtypes(params)


def test_in_bfloat16_the_hyperparameters_are_not_rounded():
    # In bfloat16 0.9 is 0.8984.
    optimizer = mj.momentum(0.1, 0.9)
    params = jnp.zeros([], "bfloat16")
    state = optimizer.init(params)._replace(velocity=jnp.array(143.0, "bfloat16"))
    updates, _ = optimizer.update(params, state)
    # 0.9 · 143 = 128.7, and 0.8984 · 143 = 128.5: bfloat16 has 128 and 129.
    assert updates == jnp.array(129.0, "bfloat16")


@every_method
@pytest.mark.parametrize("tree", [{}, (), None, {"a": None, "b": 2.0}, [1.0, (None, {"c": 3.0})]], ids=str)
def test_any_pytree_will_do_empty_ones_and_none_leaves_included(name, tree):
    params = jax.tree.map(jnp.asarray, tree)
    path, _ = run(METHODS[name](), params, [params] * 2)
    assert jax.tree.structure(path[-1]) == jax.tree.structure(params)


@pytest.mark.parametrize("name", ["momentum", "nesterov"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"learning_rate": -0.1}, "learning_rate must be finite and at least 0, not -0.1"),
        ({"learning_rate": float("nan")}, "learning_rate must be finite and at least 0, not nan"),
        ({"learning_rate": float("inf")}, "not inf"),
        ({"learning_rate": "fast"}, "not 'fast'"),
        ({"learning_rate": True}, "not True"),
        ({"learning_rate": np.float32(-1)}, "not -1.0"),
        ({"learning_rate": jnp.array([0.1, 0.2])}, "scalar, not an array of shape (2,)"),
        ({"learning_rate": 0.1, "momentum": 1.0}, "momentum must be in [0, 1), not 1.0"),
        ({"learning_rate": 0.1, "momentum": -0.1}, "momentum must be in [0, 1), not -0.1"),
    ],
)
def test_a_hyperparameter_out_of_range_is_refused_by_name(name, arguments, words):
    with pytest.raises(InputError) as error:
        getattr(mj, name)(**arguments)
    assert words in str(error.value)


@every_method
def test_a_parabola_is_minimised(name):
    params = jnp.array([5.0, -3.0])
    optimizer = METHODS[name]()
    state = optimizer.init(params)
    for _ in range(400):
        updates, state = optimizer.update(2 * params, state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params, 0, atol=1e-4)


@every_method
def test_rosenbrocks_valley_is_followed_to_its_end(name):
    optimizer = getattr(mj, name)(1e-3)
    gradient = jax.grad(lambda w: (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2)

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(gradient(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    start = jnp.array([-1.0, 1.0])
    (params, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), length=40_000)
    np.testing.assert_allclose(params, 1, atol=1e-2)


shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)
trees = st.recursive(shapes, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner))


@settings(deadline=None, max_examples=40)
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

        path, _ = run(getattr(mj, name)(rate, m), as_tree(params), [as_tree(g) for g in grads])
        reference = {"momentum": Momentum, "nesterov": Nesterov}[name](rate, m)
        for g in grads:
            params = {key: np.array(p) for key, p in params.items()}
            reference.update(params, g)
        # float64, at most 5 steps of numbers up to some 1e2.
        assert_close(path[-1], as_tree(params), rtol=1e-11)
