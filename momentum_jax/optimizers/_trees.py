"""Arithmetic on pytrees of parameters, and checks that name the path of the leaf that does not fit."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr
from jaxtyping import Array, Float, PyTree

from momentum_jax._base.errors import InputError
from momentum_jax.optimizers._hyperparameters import Scalar


def linear(*terms: tuple[Scalar, PyTree[Array]]) -> PyTree[Array]:
    """The linear combination Σ factor·tree, leaf by leaf.

    A leaf is summed in float64 if any of its terms is float64, and in float32 otherwise. So a factor such as 0.9 is
    not rounded to bfloat16.
    """
    factors = [factor for factor, _ in terms]

    def leaf(*leaves: Array) -> Array:
        dtype = jnp.float64 if any(x.dtype == jnp.float64 for x in leaves) else jnp.float32
        products = [jnp.asarray(factor, dtype) * x.astype(dtype) for factor, x in zip(factors, leaves, strict=True)]
        return sum(products[1:], start=products[0])

    return jax.tree.map(leaf, *(tree for _, tree in terms))


def cast_like(tree: PyTree[Array], like: PyTree[Array]) -> PyTree[Array]:
    return jax.tree.map(lambda x, y: x.astype(y.dtype), tree, like)


def inner_product(a: PyTree[Array], b: PyTree[Array]) -> Float[Array, ""]:
    """The sum of a·b over all entries of all leaves."""
    products = jax.tree.map(lambda x, y: jnp.sum(x.astype(y.dtype) * y).astype(float), a, b)
    return jax.tree.reduce(jnp.add, products, jnp.zeros([], float))


def norm(tree: PyTree[Array]) -> Float[Array, ""]:
    """The Euclidean norm of all entries of all leaves. Its squares neither over- nor underflow; at 0 its slope is 0."""
    scale, scaled = _scaled(tree)
    square = inner_product(scaled, scaled)
    return jnp.where(square == 0, 0, scale * jnp.sqrt(jnp.where(square == 0, 1, square)))


def direction(tree: PyTree[Array]) -> PyTree[Array]:
    """The tree divided by its norm, 0 where that is 0."""
    _, scaled = _scaled(tree)
    square = inner_product(scaled, scaled)
    return _divided(scaled, jnp.sqrt(jnp.where(square == 0, 1, square)))


def _scaled(tree: PyTree[Array]) -> tuple[Float[Array, ""], PyTree[Array]]:
    """The largest absolute value of a tree, or a number near it that has a reciprocal, and the tree divided by it."""
    sizes = jax.tree.map(lambda x: jnp.max(jnp.abs(x), initial=0).astype(float), tree)
    largest = jax.tree.reduce(jnp.maximum, sizes, jnp.zeros([], float))
    tiny = float(jnp.finfo(largest.dtype).tiny)
    # Results do not depend on it, nor do derivatives.
    scale = jax.lax.stop_gradient(jnp.where(largest == 0, 1, jnp.clip(largest, 10 * tiny, 0.1 / tiny)))
    return scale, _divided(tree, scale)


def _divided(tree: PyTree[Array], by: Float[Array, ""]) -> PyTree[Array]:
    return jax.tree.map(lambda x: x / by.astype(x.dtype), tree)


def check_floating(kind: str, tree: PyTree[Any]) -> None:
    """Raises `InputError` that names the first leaf that is not real floating-point."""
    for path, leaf in jax.tree.leaves_with_path(tree):
        _check_floating_leaf(kind, path, leaf)


def _check_floating_leaf(kind: str, path: Any, leaf: Any) -> None:
    try:
        dtype = jnp.result_type(leaf)
    except (TypeError, ValueError):
        raise InputError(f"the {kind}{_at(path)} is no array, but {leaf!r}: leave it out of the tree") from None
    if jnp.issubdtype(dtype, jnp.floating):
        return
    advice = (
        "split it with optax.contrib.split_real_and_imaginary"
        if jnp.issubdtype(dtype, jnp.complexfloating)
        else "leave it out with optax.masked or optax.multi_transform"
    )
    raise InputError(f"the {kind}{_at(path)} is {dtype}, and must be real floating-point: {advice}")


def check_match(kind: str, tree: PyTree[Any], other_kind: str, other: PyTree[Any]) -> None:
    """Checks that two trees have the same structure and shapes.

    Raises:
      InputError: they differ; the message names the first leaf that does.
    """
    structures: list[Any] = [jax.tree.structure(tree), jax.tree.structure(other)]
    if structures[0] != structures[1]:
        raise InputError(_structure_mismatch(kind, tree, other_kind, other))
    for (path, a), b in zip(jax.tree.leaves_with_path(tree), jax.tree.leaves(other), strict=True):
        if jnp.shape(a) != jnp.shape(b):
            raise InputError(
                f"the {kind}{_at(path)} has the shape {jnp.shape(a)} and the {other_kind} there {jnp.shape(b)}"
            )


def check_dtype(kind: str, tree: PyTree[Any], dtype: Any) -> None:
    """Raises `InputError` that names the first leaf of another dtype."""
    for path, leaf in jax.tree.leaves_with_path(tree):
        if jnp.result_type(leaf) != jnp.dtype(dtype):
            raise InputError(
                f"the {kind}{_at(path)} is {jnp.result_type(leaf)} and accumulator_dtype is {jnp.dtype(dtype)}: "
                "cast it, such as by optax.tree.cast"
            )


def trained(params: PyTree[Any], grads: PyTree[Any]) -> PyTree[Any]:
    """The parameters with None where the gradient is None, which is how libraries mark what they do not train."""
    leaves = jax.tree.leaves_with_path(grads, is_leaf=lambda node: node is None)
    untrained = {path for path, gradient in leaves if gradient is None}
    return jax.tree.map_with_path(
        lambda path, leaf: None if path in untrained else leaf,
        params,
        is_leaf=lambda path, _: path in untrained,
        is_leaf_takes_path=True,
    )


def _structure_mismatch(kind: str, tree: PyTree[Any], other_kind: str, other: PyTree[Any]) -> str:
    paths, other_paths = _paths(tree), _paths(other)
    for path in paths:
        if path not in other_paths:
            return f"there is a {kind}{_at(path)} and no {other_kind} there"
    for path in other_paths:
        if path not in paths:
            return f"there is a {other_kind}{_at(path)} and no {kind} there"
    return (
        f"the trees of {kind}s and {other_kind}s are of different containers: "
        f"{jax.tree.structure(tree)} and {jax.tree.structure(other)}"
    )


def broadcast_mask(mask: PyTree[Any], params: PyTree[Any]) -> PyTree[bool]:
    """The mask as a tree with one boolean for each leaf of the parameters.

    Args:
      mask: booleans in a prefix of the tree of parameters, or a function from parameters to one.
      params: the parameters.

    Raises:
      InputError: the mask does not fit, or a leaf of it is not a boolean; the message names the leaf.
    """
    tree = mask(params) if is_function(mask) else mask
    check_mask(tree)
    try:
        return jax.tree.broadcast(tree, params)
    except ValueError as error:
        raise InputError(_mask_mismatch(tree, params)) from error


def is_function(mask: PyTree[Any]) -> bool:
    """Whether a mask is a function from parameters to booleans. A module of Equinox is a tree that can be called."""
    return callable(mask) and all(map(callable, jax.tree.leaves(mask)))


def check_mask(mask: PyTree[Any]) -> None:
    """Raises `InputError` that names the first leaf that is not a boolean."""
    for path, leaf in jax.tree.leaves_with_path(mask):
        if not isinstance(leaf, bool | np.bool_):
            raise InputError(f"the mask{_at(path)} must be True or False, not {leaf!r}")


def _mask_mismatch(mask: PyTree[Any], params: PyTree[Any]) -> str:
    """The message for the first path at which a mask is not a prefix of the parameters."""
    masks, paths = _paths(mask), _paths(params)
    for path in masks:
        if not any(other[: len(path)] == path for other in paths):
            return f"there is a mask{_at(path)} and no parameter there"
    for path in paths:
        if not any(path[: len(prefix)] == prefix for prefix in masks):
            return f"there is a parameter{_at(path)} and no mask for it"
    return f"the mask {jax.tree.structure(mask)} is no prefix of the parameters {jax.tree.structure(params)}"


def _paths(tree: PyTree[Any]) -> list[Any]:
    return [path for path, _ in jax.tree.leaves_with_path(tree)]


def _at(path: Any) -> str:
    return f" at {keystr(path)}" if path else ""
