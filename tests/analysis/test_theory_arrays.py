"""The closed forms as functions of arrays: dtypes, broadcasting, `vmap`, `jit` and derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from momentum_jax.analysis import noise, theory
from momentum_jax.tasks.landscapes import make_landscape
from tests.analysis.recurrences import LIMITS
from tests.compiling import jit

pytestmark = pytest.mark.usefixtures("float64")

# Numbers made of a and β, by name.
ELEMENTWISE = {
    "heavy_ball_rate": theory.heavy_ball_rate,
    "nesterov_rate": theory.nesterov_rate,
    "heavy_ball_limit": lambda a, beta: theory.heavy_ball_stability_limit(beta),
    "nesterov_limit": lambda a, beta: theory.nesterov_stability_limit(beta),
    "robust_low": lambda a, beta: theory.robust_region(beta + 0.01)[0],
    "robust_high": lambda a, beta: theory.robust_region(beta + 0.01)[1],
    "oscillating_low": lambda a, beta: theory.nesterov_oscillating_region(beta)[0],
    "heavy_ball_critical": lambda a, beta: theory.heavy_ball_critical_momentum(a),
    "nesterov_critical": lambda a, beta: theory.nesterov_critical_momentum(a),
    "heavy_ball_var_w": lambda a, beta: noise.heavy_ball_noise(0.5, beta, a * 2, 3.0).var_w,
    "heavy_ball_cov": lambda a, beta: noise.heavy_ball_noise(a, beta, 1.0, 3.0).cov_wv,
    "nesterov_var_w": lambda a, beta: noise.nesterov_noise(0.5, beta, a * 2, 3.0).var_w,
    "nesterov_cov": lambda a, beta: noise.nesterov_noise(a, beta, 1.0, 3.0).cov_wv,
    "heavy_ball_ratio": noise.heavy_ball_noise_ratio,
    "nesterov_ratio": noise.nesterov_noise_ratio,
    "heavy_ball_steps": lambda a, beta: theory.steps_to_grow(theory.heavy_ball_saddle_growth(a, beta), 50.0),
    "nesterov_steps": lambda a, beta: theory.steps_to_grow(theory.nesterov_saddle_growth(a, beta), 50.0),
}
FAMILIES = {
    **ELEMENTWISE,
    "heavy_ball_worst": lambda a, beta: theory.worst_rate(theory.heavy_ball_rate, a, beta, 0.3, 1.1),
    "heavy_ball_matrix": theory.heavy_ball_matrix,
    "nesterov_matrix": theory.nesterov_matrix,
    "chain_loss": lambda a, beta: make_landscape("chain", dimensions=2, mu=0.5, L=2.0).function(jnp.stack([a, beta])),
    "chain_lower_bound": lambda a, beta: theory.chain_lower_bound(a, 5.0, 3, jnp.arange(5)),
}


def everything(functions):
    return lambda a, beta: {name: function(a, beta) for name, function in functions.items()}


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_results_have_the_dtype_of_the_arguments(dtype):
    array = jax.ShapeDtypeStruct((), dtype)
    for function in FAMILIES.values():
        out = jax.eval_shape(function, array, array)
        assert out.dtype == dtype
        assert not out.weak_type


@pytest.mark.parametrize("wide", [False, True])
def test_pythons_numbers_take_the_default_dtype_and_so_do_numpys_doubles(wide):
    with jax.enable_x64(wide):
        for function in (theory.heavy_ball_rate, noise.nesterov_noise_ratio):
            for arguments in ((0.5, 0.9), (1, 0), (1, 0.5), (np.float64(0.5), 0.5)):
                out = jax.eval_shape(lambda function=function, arguments=arguments: function(*arguments))
                assert out.dtype == ("float64" if wide else "float32")


def test_arguments_of_different_shapes_broadcast():
    a, beta = jax.ShapeDtypeStruct((3, 1), "float32"), jax.ShapeDtypeStruct((4,), "float32")
    for name in ELEMENTWISE:
        if name.endswith(("rate", "ratio", "var_w", "cov", "steps")):
            assert jax.eval_shape(ELEMENTWISE[name], a, beta).shape == (3, 4)
    assert jax.eval_shape(theory.nesterov_matrix, a, beta).shape == (3, 4, 2, 2)
    assert jax.eval_shape(lambda: theory.chain_lower_bound(np.ones((3, 1)), 4.0, 9, np.arange(5))).shape == (3, 5)


def test_mapped_and_compiled_they_give_what_they_give_alone():
    rng = np.random.default_rng(6)
    a, beta = rng.uniform(0.01, 1, 5), rng.uniform(0, 0.9, 5)
    function = everything(FAMILIES)
    mapped = jit(jax.vmap(function))(a, beta)
    alone = function(jnp.array(a[2]), jnp.array(beta[2]))
    for name, value in alone.items():
        # XLA may multiply and add at once in one of them.
        np.testing.assert_allclose(mapped[name][2], value, rtol=1e-12, atol=1e-13, err_msg=name)


def test_derivatives_are_finite_everywhere_and_those_of_finite_differences_off_the_edges():
    rng = np.random.default_rng(7)
    # On edges first: a double root, where both roots are 0, the ends of stability. Momentum 0 is gradient descent.
    edge = np.array([[1.0, 0.0], [0.25, 0.25], [1.0, 0.9], [3.8, 0.9], [2.0, 0.0], [0.2, 0.9]]).T
    a, beta = np.append(edge[0], rng.uniform(0.02, 3.5, 54)), np.append(edge[1], rng.uniform(0, 0.95, 54))
    beta[6:20] = 0

    def slopes(a, beta):
        return {name: jax.grad(function, (0, 1))(a, beta) for name, function in ELEMENTWISE.items()}

    exact = jit(jax.vmap(slopes))(a, beta)
    # At the double root a = β = 1/4 the derivative is that of the side on which the rate is √β.
    assert [float(slope[1]) for slope in exact["heavy_ball_rate"]] == [0, 1]
    values, h = jit(jax.vmap(everything(ELEMENTWISE))), 1e-6
    edges = [*theory.robust_region(beta), *theory.nesterov_oscillating_region(beta), 2 * (1 - beta)]
    edges += [limit(beta) for limit in LIMITS.values()]
    smooth = np.abs(a - np.array(edges)).min(0) > 0.02
    assert smooth.sum() > 40
    for argument, (da, db) in enumerate(((h, 0), (0, h))):
        up, down = values(a + da, beta + db), values(a - da, beta - db)
        for name, slope in ((name, np.asarray(exact[name][argument])) for name in ELEMENTWISE):
            assert np.isfinite(slope).all(), name
            there = smooth & np.isfinite(up[name])
            # Errors of h²·f‴ and EPS·f/h, where no edge is nearer than 0.02.
            difference = (np.asarray(up[name])[there] - np.asarray(down[name])[there]) / (2 * h)
            np.testing.assert_allclose(slope[there], difference, rtol=1e-5, atol=1e-7, err_msg=name)
            assert there.sum() > 15, name
