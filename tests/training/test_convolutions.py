"""Convolutions rewritten for XLA's CPU: the same values, in the form that it has a fast kernel for."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from momentum_jax.training.convolutions import channels_last

OPTIONS = (
    {"window_strides": (2, 1), "padding": "SAME"},
    {"window_strides": (1, 1), "padding": [(2, 1), (0, 3)], "lhs_dilation": (2, 2)},
    {"window_strides": (1, 2), "padding": "VALID", "rhs_dilation": (2, 1)},
    {"window_strides": (1, 1), "padding": "SAME", "feature_group_count": 2},
)


@pytest.mark.parametrize("dimensions", [("NHWC", "HWIO", "NHWC"), ("HWNC", "IHWO", "CWNH")])
def test_convolutions_and_their_gradients_have_the_values_that_they_had(dimensions, rng):
    sizes, window = {"N": 2, "C": 4, "H": 7, "W": 6}, {"H": 3, "W": 2, "O": 6}
    x = rng.normal(size=[sizes[axis] for axis in dimensions[0]])
    kernels = []
    for options in OPTIONS:
        inputs = 4 // options.get("feature_group_count", 1)
        kernels.append(rng.normal(size=[{**window, "I": inputs}[axis] for axis in dimensions[1]]))

    def function(x, kernels):
        outputs = [
            jax.lax.conv_general_dilated(x, kernel, dimension_numbers=dimensions, **options)
            for kernel, options in zip(kernels, OPTIONS, strict=True)
        ]
        return sum(jnp.sum(jnp.tanh(y)) for y in outputs), outputs

    differentiated = jax.value_and_grad(function, argnums=(0, 1), has_aux=True)
    with jax.enable_x64(True):
        expected, found = jax.jit(differentiated)(x, kernels), jax.jit(channels_last(differentiated))(x, kernels)
    # float64: the same sums of at most 84 products in another order.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), expected, found)


def forms(function):
    """The axes of the convolutions that XLA compiles, of a function in a loop."""
    x, kernel = jnp.ones([2, 8, 8, 3]), jnp.ones([3, 3, 3, 4])

    def descend(kernel, _):
        return kernel - function(kernel, x), None

    compiled = jax.jit(lambda kernel: jax.lax.scan(descend, kernel, length=3)).lower(kernel).compile()
    return set(re.findall(r"dim_labels=(\S+?)[, \n]", compiled.as_text() + "\n"))


def test_in_a_loop_the_gradient_of_a_convolution_is_one_that_the_cpu_does_fast():
    @jax.jit
    def loss(kernel, x):
        y = jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jnp.sum(y**2)

    assert forms(channels_last(jax.grad(loss))) == {"b01f_01io->b01f"}
    # When this fails, XLA does it by itself, and the module can go.
    assert forms(jax.grad(loss)) > {"b01f_01io->b01f"}
