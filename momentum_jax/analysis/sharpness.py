r"""Sharpness: the top eigenvalues of a loss's Hessian, by Lanczos's method on products of the Hessian with vectors.

On a quadratic of curvature λ the learning rate α is stable up to λ = 2/α without momentum, to 2(1 + β)/α with the heavy
ball and to 2(1 + β)/(α(1 + 2β)) with Nesterov (`momentum_jax.analysis.theory`, with a = αλ). For a network the largest
curvature, its sharpness, says how far from there a training on the full batch is.

`top_eigenvalues` is a pure function that can be `jit`ted, `vmap`ped and scanned; `metric` makes of it one for
`momentum_jax.train`. A loss is a function of parameters and data, as that of a `momentum_jax.Task` is.

>>> from momentum_jax.analysis import sharpness
>>> def loss(params, data):  # its Hessian is the mean of the diagonal matrices of the rows
...     return jnp.mean(data @ params**2) / 2
>>> data = jnp.array([[1.0, 4.0, -9.0], [3.0, 8.0, -9.0]])
>>> print(sharpness.top_eigenvalues(loss, jnp.ones(3), data, jax.random.key(0), count=2).round(4))
[6. 2.]
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

Loss: TypeAlias = Callable[[PyTree[Any], PyTree[Any]], Float[Array, ""]]
"""From parameters and data to a scalar; a mean over the examples where it is to be taken in slices."""
Vector: TypeAlias = Float[Array, " parameters"]
Basis: TypeAlias = Float[Array, "iterations parameters"]

# Of the norm of the Hessian: less of a product than this outside the vectors there are is rounding.
_ROUNDINGS = 10


def top_eigenvalues(
    loss: Loss,
    params: PyTree[Any],
    data: PyTree[Any],
    key: Key[Array, ""],
    *,
    count: int = 1,
    iterations: int = 20,
    slice_size: int | None = None,
) -> Float[Array, " {count}"]:
    r"""The largest eigenvalues of the Hessian of a loss by its parameters; the first is called the sharpness.

    .. math::
      H q_j = \beta_{j-1} q_{j-1} + \alpha_j q_j + \beta_j q_{j+1}

    builds orthonormal q_j from a random q₁, and the eigenvalues of the tridiagonal matrix of the α and β approach those
    of H, the outermost first. They come from below, and grow with the iterations: some ten to twenty do for the first
    where it stands apart, as a network's does; further ones take more. As many iterations as there are parameters give
    the whole spectrum.

    Each q_j is made orthogonal to all before it, twice. Where nothing is left of H·q_j, as the vectors so far span all
    that H makes of q₁, the next is drawn anew: so a repeated eigenvalue is found as often as it is there.

    An iteration takes one product H·q, the derivative of the gradient in the direction q, at the price of one or two
    gradients. In memory there are `iterations` times the parameters, and what the product needs: the activations of all
    data, or with a `slice_size` those of one slice.

    Args:
      loss: from parameters and data to a scalar. Its second derivatives are those that JAX sees: of a ReLU's kink
        there are none.
      params: pytree of real floating-point arrays, of any dtype. Vectors are float64 if one of them is, else float32.
      data: what the loss takes: a pytree of arrays [examples, …] or, without a `slice_size`, anything.
      key: of the random vectors.
      count: how many eigenvalues, from the largest down. Large in the sense of the order of numbers: a negative one
        comes last, whatever its modulus; with the loss's sign turned it comes first.
      iterations: the vectors q_j, of which no more are used than there are parameters.
      slice_size: examples at a time; the loss is then taken to be a mean over the examples it is given.

    Returns:
      In descending order; NaN where the Hessian is not finite.

    Raises:
      ValueError: a count of less than 1 or more than the vectors that are used, or a slice size of less than 1.

    References:
      Lanczos, `An iteration method for the solution of the eigenvalue problem of linear differential and integral
      operators <https://doi.org/10.6028/jres.045.026>`_, 1950; Golub and Van Loan, Matrix Computations, 4th edition,
      2013, section 10.3; Pearlmutter, `Fast exact multiplication by the Hessian
      <https://doi.org/10.1162/neco.1994.6.1.147>`_, 1994.
    """
    size = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    if not 1 <= count <= min(iterations, size):
        raise ValueError(
            f"count must be at least 1 and at most the {iterations} iterations and the {size} parameters, not {count}"
        )
    if slice_size is not None and slice_size < 1:
        raise ValueError(f"slice_size must be at least 1, not {slice_size}")
    product = _hessian_product(loss, params, data, slice_size)
    diagonal, beside = _tridiagonal(product, _vector(params), key, min(iterations, size))
    matrix = jnp.diag(diagonal) + jnp.diag(beside[:-1], 1) + jnp.diag(beside[:-1], -1)
    eigenvalues: Array = jnp.linalg.eigvalsh(matrix)[::-1]
    return eigenvalues[:count]


def metric(
    loss: Loss,
    data: PyTree[Any],
    key: Key[Array, ""],
    *,
    every: int = 1,
    iterations: int = 20,
    slice_size: int | None = None,
    updates: Callable[[Any], Int[Array, ""]] | None = None,
) -> Callable[[PyTree[Any], Any, PyTree[Any]], Float[Array, ""]]:
    """The sharpness as one of the `metrics` of `momentum_jax.train`, part of its compiled program.

    It is `train(cfg, task=task, metrics={"sharpness": sharpness.metric(task.loss, task.train, key, every=20)})`.

    Iterations 0, `every`, 2·`every` … record the sharpness of the parameters after their update, the others NaN, which
    cost next to nothing. A config with the same number as its `record_every` keeps the former, and the last iteration.

    What is trained is not what is looked at: `data` may be all of a task's training data, whatever the batches, or a
    fixed part of it, drawn at random, whose sharpness is on average no less than that of the whole.

    On an accelerator, where the runs of a device are one batch (`layout="vmap"`), every iteration pays: there is no
    branch that all runs take together.

    Args:
      loss: as in `top_eigenvalues`.
      data: likewise.
      key: likewise; the random vectors are the same each time.
      every: iterations from one measurement to the next.
      iterations: as in `top_eigenvalues`.
      slice_size: likewise.
      updates: from the optimizer's state to the number of updates made, which tells which iteration it is; by default
        `state.count`, which the optimizers of this package have. Of Optax's those that count have it deeper, where
        `lambda state: optax.tree_utils.tree_get(state, "count")` finds it, and for others every=1 is left.

    Raises:
      ValueError: `every` is less than 1.
      TypeError: from the metric, the optimizer's state has no count.
    """
    if every < 1:
        raise ValueError(f"every must be at least 1, not {every}")

    def measured(params: PyTree[Any], state: Any, grads: PyTree[Any]) -> Float[Array, ""]:
        del grads

        def measure(params: PyTree[Any]) -> Float[Array, ""]:
            return top_eigenvalues(loss, params, data, key, iterations=iterations, slice_size=slice_size)[0]

        if every == 1:
            return measure(params)
        nothing = jnp.full([], jnp.nan, _dtype(params))
        done = (updates or _count)(state)
        sharpness: Array = jax.lax.cond((done - 1) % every == 0, measure, lambda _: nothing, params)
        return sharpness

    return measured


def _count(state: Any) -> Int[Array, ""]:
    count: Any = getattr(state, "count", None)
    if not hasattr(count, "dtype"):
        raise TypeError(
            f"an optimizer's state of type {type(state).__name__} has no count of updates: for a metric of every so "
            "many iterations give `updates`, which finds it"
        )
    number: Array = count
    return number


def _hessian_product(
    loss: Loss, params: PyTree[Any], data: PyTree[Any], slice_size: int | None
) -> Callable[[Vector], Vector]:
    """The product of the Hessian with a vector: forward over reverse mode, slice after slice."""

    def of_slice(vector: Vector, part: PyTree[Any]) -> Vector:
        gradient = jax.grad(lambda p: loss(p, part))
        return _vector(jax.jvp(gradient, (params,), (_tree(vector, params),))[1])

    if slice_size is None:
        return lambda vector: of_slice(vector, data)
    examples = jax.tree.leaves(data)[0].shape[0]
    slices, rest = divmod(examples, slice_size)
    whole = slices * slice_size
    head = jax.tree.map(lambda a: a[:whole].reshape(slices, slice_size, *a.shape[1:]), data)

    def product(vector: Vector) -> Vector:
        # Only their sum is kept, in the dtype of the vectors.
        def add(total: Vector, part: PyTree[Any]) -> tuple[Vector, None]:
            return total + of_slice(vector, part) * (slice_size / examples), None

        total, _ = jax.lax.scan(add, jnp.zeros_like(vector), head)
        if rest:
            total += of_slice(vector, jax.tree.map(lambda a: a[whole:], data)) * (rest / examples)
        return total

    return product


def _tridiagonal(
    product: Callable[[Vector], Vector], like: Vector, key: Key[Array, ""], iterations: int
) -> tuple[Float[Array, " iterations"], Float[Array, " iterations"]]:
    """α_j and β_j; the last β_j belongs to a vector that is not there."""

    def draw(j: Int[Array, ""]) -> Vector:
        return jax.random.normal(jax.random.fold_in(key, j), like.shape, like.dtype)

    def step(
        state: tuple[Basis, Vector, Float[Array, ""]], j: Int[Array, ""]
    ) -> tuple[tuple[Basis, Vector, Float[Array, ""]], tuple[Float[Array, ""], Float[Array, ""]]]:
        basis, q, largest = state
        basis = basis.at[j].set(q)
        image = product(q)
        largest = jnp.maximum(largest, jnp.linalg.norm(image))
        left = _outside(basis, image)
        beta = jnp.linalg.norm(left)
        exhausted: Bool[Array, ""] = beta <= _ROUNDINGS * jnp.finfo(like.dtype).eps * largest
        left = jax.lax.cond(exhausted, lambda: _outside(basis, draw(j + 1)), lambda: left)
        return (basis, _unit(left), largest), (_dot(q, image), jnp.where(exhausted, 0, beta))

    first = (jnp.zeros([iterations, *like.shape], like.dtype), _unit(draw(jnp.int32(0))), jnp.zeros([], like.dtype))
    _, entries = jax.lax.scan(step, first, jnp.arange(iterations, dtype=jnp.int32))
    alphas, betas = entries
    return alphas, betas


def _outside(basis: Basis, vector: Vector) -> Vector:
    """What of a vector is orthogonal to those of the basis, rows that are not there yet being zeros.

    Where little is left of it, rounding has put something of them back, which the second time takes out.
    """
    for _ in range(2):
        vector = vector - _dot(_dot(basis, vector), basis)
    return vector


def _dot(a: Array, b: Array) -> Array:
    # An accelerator would round the factors of float32 to 10 bits.
    return jnp.matmul(a, b, precision="highest")


def _unit(vector: Vector) -> Vector:
    """A vector of length 1; of nothing, which is what is left once there is a vector for each parameter, nothing."""
    return vector / jnp.maximum(jnp.linalg.norm(vector), jnp.finfo(vector.dtype).tiny)


def _dtype(params: PyTree[Any]) -> Any:
    return jnp.float64 if any(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves(params)) else jnp.float32


def _vector(tree: PyTree[Any]) -> Vector:
    dtype = _dtype(tree)
    return jnp.concatenate([jnp.ravel(leaf).astype(dtype) for leaf in jax.tree.leaves(tree)])


def _tree(vector: Vector, like: PyTree[Any]) -> PyTree[Array]:
    leaves, structure = jax.tree.flatten(like)
    parts = jnp.split(vector, list(itertools.accumulate(math.prod(leaf.shape) for leaf in leaves))[:-1])
    return jax.tree.unflatten(
        structure, [part.reshape(leaf.shape).astype(leaf.dtype) for part, leaf in zip(parts, leaves, strict=True)]
    )
