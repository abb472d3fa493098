"""Convolutions in the layout that XLA's CPU computes fast inside a loop."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core
from jaxtyping import Array


def channels_last(function: Callable[..., Any]) -> Callable[..., Any]:
    """Rewrites a function so that on a CPU every convolution has its channels last; the value is the same.

    XLA's CPU has a fast convolution only for inputs [batch, *space, channels] and kernels [*space, channels, features].
    Outside of loops it transposes others to that layout, inside a loop it does not, and a scan's step is a loop. JAX
    permutes the axes of a convolution's gradients, which then take up to ten times as long. Convolutions inside a loop
    of the function itself are left alone.

    >>> import jax.numpy as jnp
    >>> convolve = lambda x, kernel: jax.lax.conv(x, kernel, (1, 1), "VALID")
    >>> x, kernel = jnp.ones([1, 2, 5, 5]), jnp.ones([3, 2, 2, 2])
    >>> channels_last(convolve)(x, kernel).shape
    (1, 3, 4, 4)
    """
    # `jit` traces a function once, however often it is asked.
    jitted: Any = jax.jit(function, inline=True)

    def rewritten(*args: Any) -> Any:
        traced, inputs = jitted.trace(*args), jax.tree.leaves(args)
        # Of a function that closes over values of a program that is being traced, JAX makes these inputs too.
        if len(traced.jaxpr.jaxpr.invars) > len(inputs) or not _convolves(traced.jaxpr.jaxpr):
            return jitted(*args)
        return jax.tree.unflatten(jax.tree.structure(traced.out_info), _evaluate(traced.jaxpr, inputs))

    return rewritten


def _evaluate(closed: Any, inputs: Sequence[Any]) -> list[Any]:
    values = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    values |= zip(closed.jaxpr.invars, inputs, strict=True)

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, jax.extend.core.Literal) else values[variable]

    for equation in closed.jaxpr.eqns:
        primitive, operands = equation.primitive, [read(variable) for variable in equation.invars]
        if primitive.name == "conv_general_dilated":
            outputs = [_convolve(equation, *operands)]
        elif primitive.name == "jit" and _convolves(equation.params["jaxpr"].jaxpr):
            outputs = _evaluate(equation.params["jaxpr"], operands)
        else:
            outputs = primitive.bind(*operands, **primitive.get_bind_params(equation.params))
            outputs = outputs if primitive.multiple_results else [outputs]
        values |= zip(equation.outvars, outputs, strict=True)
    return [read(variable) for variable in closed.jaxpr.outvars]


def _convolves(jaxpr: Any) -> bool:
    return any(
        equation.primitive.name == "conv_general_dilated"
        or any(map(_convolves, jax.extend.core.jaxprs_in_params(equation.params)))
        for equation in jaxpr.eqns
    )


def _convolve(equation: Any, inputs: Array, kernel: Array) -> Array:
    params = dict(equation.params)
    dimensions = params.pop("dimension_numbers")
    # The axes of batch and channels, or of features and channels; those of space follow.
    (batch, channels, *space), (features, of_kernel, *window) = dimensions.lhs_spec, dimensions.rhs_spec
    out_batch, out_features, *out_space = dimensions.out_spec
    last = len(space) + 1
    along = (0, last, *range(1, last))
    canonical = jax.lax.ConvDimensionNumbers(along, (last, last - 1, *range(last - 1)), along)
    options = {name: params[name] for name in _OPTIONS}

    def transposed(inputs: Array, kernel: Array) -> Array:
        outputs = jax.lax.conv_general_dilated(
            inputs.transpose(batch, *space, channels),
            kernel.transpose(*window, of_kernel, features),
            dimension_numbers=canonical,
            **options,
        )
        places = (out_batch, *out_space, out_features)
        return outputs.transpose([places.index(axis) for axis in range(last + 1)])

    def as_it_is(inputs: Array, kernel: Array) -> Array:
        convolved: Array = equation.primitive.bind(inputs, kernel, **equation.params)
        return convolved

    result: Array = jax.lax.platform_dependent(inputs, kernel, cpu=transposed, default=as_it_is)
    return result


_OPTIONS = (
    *("window_strides", "padding", "lhs_dilation", "rhs_dilation"),
    *("feature_group_count", "batch_group_count", "precision", "preferred_element_type"),
)
