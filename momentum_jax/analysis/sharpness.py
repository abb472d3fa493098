r"""Sharpness: the top eigenvalues of the Hessian of a loss, by Lanczos's method with Hessian-vector products.

On a quadratic of curvature λ the learning rate α is stable up to λ = 2/α without momentum, up to 2(1 + β)/α with the
heavy ball and up to 2(1 + β)/(α(1 + 2β)) with Nesterov (`momentum_jax.analysis.theory`, with a = αλ). The largest
curvature of a network's loss, its sharpness, tells how far a training on the full batch is from that limit.

`top_eigenvalues` is a pure function that can be `jit`ted, `vmap`ped and scanned. `metric` turns a measure such as this
into a metric for `momentum_jax.train`. A loss is a function of parameters and data, like that of a
`momentum_jax.Task`. `momentum_jax.analysis.curvature` has the curvatures of mini-batches and single examples.

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

from momentum_jax._base.errors import InputError, check_key, shown

Loss: TypeAlias = Callable[[PyTree[Any], PyTree[Any]], Float[Array, ""]]
"""From parameters and data to a scalar. With a `slice_size` it must be a mean over the examples."""
Vector: TypeAlias = Float[Array, " parameters"]
Basis: TypeAlias = Float[Array, "iterations parameters"]

# In units of the dtype's eps and of the Hessian's norm. What is left of a product outside the basis counts as rounding
# below this.
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
    r"""The largest eigenvalues of the Hessian H of a loss; the largest is called the sharpness.

    Lanczos's recurrence

    .. math::
      H q_j = \beta_{j-1} q_{j-1} + \alpha_j q_j + \beta_j q_{j+1}

    builds orthonormal vectors q_j from a random q₁. The eigenvalues of the tridiagonal matrix of the α and β approach
    those of H from inside, the outermost first. Ten to twenty iterations are enough for a largest eigenvalue that is
    well separated, as that of a network usually is; further eigenvalues take more. As many iterations as there are
    parameters give the whole spectrum.

    Each q_j is orthogonalised twice against all before it. Where H·q_j lies in the span of the vectors so far, the next
    vector is drawn at random, so that a repeated eigenvalue is found as often as it occurs.

    An iteration computes one Hessian-vector product, which costs one to two gradients. The memory holds `iterations`
    vectors of the size of the parameters, and the activations of all data, or of one slice with a `slice_size`.

    Args:
      loss: from parameters and data to a scalar. Its second derivatives are those of JAX, which are 0 at the kink of a
        ReLU.
      params: pytree of real floating-point arrays or numbers. The vectors are float64 if one of the arrays is, else
        float32.
      data: the data for the loss: a pytree of arrays [examples, …] or, without a `slice_size`, anything.
      key: for the random vectors.
      count: the number of eigenvalues. They are ordered by value, not by modulus: negative ones come last. The smallest
        are those of the negated loss.
      iterations: the number of vectors q_j; at most as many as there are parameters are used.
      slice_size: the examples in a slice; the loss must then be a mean over the examples.

    Returns:
      The eigenvalues in descending order; NaN where the Hessian is not finite.

    Raises:
      InputError: a parameter is not real floating-point; the message names the path of the leaf. Or the key is no JAX
        random key.
      ValueError: the count is less than 1 or more than the vectors that are used, or the slice size is less than 1.

    References:
      Lanczos, `An iteration method for the solution of the eigenvalue problem of linear differential and integral
      operators <https://doi.org/10.6028/jres.045.026>`_, 1950; Golub and Van Loan, Matrix Computations, 4th edition,
      2013, section 10.3; Pearlmutter, `Fast exact multiplication by the Hessian
      <https://doi.org/10.1162/neco.1994.6.1.147>`_, 1994.
    """
    matrix, _ = _lanczos(loss, params, data, key, count, iterations, slice_size)
    eigenvalues: Array = jnp.linalg.eigvalsh(matrix)[::-1]
    return eigenvalues[:count]


def top_eigenvector(
    loss: Loss,
    params: PyTree[Any],
    data: PyTree[Any],
    key: Key[Array, ""],
    *,
    iterations: int = 20,
    slice_size: int | None = None,
) -> PyTree[Float[Array, "..."]]:
    """The direction of the largest curvature: the eigenvector of the Hessian's largest eigenvalue, of length 1.

    Arguments and errors are as for `top_eigenvalues`. The angle to the true direction shrinks more slowly than the
    error of the eigenvalue, which is of the order of its square.

    >>> def loss(params, data):
    ...     return jnp.sum(jnp.array([1.0, 4.0]) * params**2) / 2
    >>> print(abs(top_eigenvector(loss, jnp.ones(2), None, jax.random.key(0))).round(4))
    [0. 1.]
    """
    matrix, basis = _lanczos(loss, params, data, key, 1, iterations, slice_size)
    vector = _unit(_dot(jnp.linalg.eigh(matrix)[1][:, -1], basis))
    return _tree(vector, jax.tree.map(lambda leaf: leaf.astype(vector.dtype), _arrays(params)))


def metric(
    measure: Callable[..., Float[Array, "..."]],
    *,
    every: int = 1,
    updates: Callable[[Any], Int[Array, ""]] | None = None,
) -> Callable[..., Float[Array, "..."]]:
    """A metric for `momentum_jax.train` that records a measure of the parameters at some iterations only.

    Iterations 0, `every`, 2·`every` … record the measure of the parameters after their update. The others record NaN
    and cost next to nothing. A config whose `record_every` equals `every` keeps the measured iterations and the last::

        def measure(params):
            return sharpness.top_eigenvalues(task.loss, params, task.train, key)[0]

        train(cfg, task=task, metrics={"sharpness": sharpness.metric(measure, every=20)})

    The data need not be what the batches are drawn from. They may be all training data, or a fixed random part of them,
    whose sharpness is on average at least that of the whole.

    With `layout="vmap"`, the default on accelerators, every iteration costs as much as a measured one: `vmap` computes
    both branches.

    Args:
      measure: from the parameters, and the state of a task that has one, to one floating-point array. For a task with a
        state give it a loss in evaluation mode, such as `task.evaluate(params, state, data, None)["train_loss"]`.
      every: iterations from one measurement to the next.
      updates: from the optimizer's state to the number of updates made. The default is `state.count`, which the
        optimizers of this package have. For Optax's optimizers that count,
        `lambda state: optax.tree_utils.tree_get(state, "count")` finds the number; others need every=1.

    Raises:
      ValueError: `every` is less than 1.
      InputError: the measure gives something else; the metric raises this when it is traced.
      TypeError: the optimizer's state has no count; likewise.
    """
    if every < 1:
        raise ValueError(f"every must be at least 1, not {every}")

    def measured(params: PyTree[Any], state: Any, grads: PyTree[Any], *model_state: PyTree[Any]) -> Float[Array, "..."]:
        del grads
        if every == 1:
            return measure(params, *model_state)
        shape = jax.eval_shape(measure, params, *model_state)
        if not jnp.issubdtype(getattr(shape, "dtype", bool), jnp.floating):
            raise InputError(
                f"a measure of every {every} iterations must give one floating-point array, not {shown(shape)}"
            )
        nothing = jnp.full(shape.shape, jnp.nan, shape.dtype)
        done = (updates or _count)(state)
        values: Array = jax.lax.cond(
            (done - 1) % every == 0, lambda own: measure(*own), lambda own: nothing, (params, *model_state)
        )
        return values

    return measured


def _lanczos(
    loss: Loss,
    params: PyTree[Any],
    data: PyTree[Any],
    key: Key[Array, ""],
    count: int,
    iterations: int,
    slice_size: int | None,
) -> tuple[Float[Array, "iterations iterations"], Basis]:
    """The tridiagonal matrix and the basis for the first `count` eigenvalues; errors as `top_eigenvalues`."""
    check_key(key)
    params = _arrays(params)
    size = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    if not 1 <= count <= min(iterations, size):
        raise ValueError(
            f"count must be at least 1 and at most the {iterations} iterations and the {size} parameters, not {count}"
        )
    if slice_size is not None and slice_size < 1:
        raise ValueError(f"slice_size must be at least 1, not {slice_size}")
    product = _hessian_product(loss, params, data, slice_size)
    return _tridiagonal(product, _vector(params), key, min(iterations, size))


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
    """The function from a vector to its Hessian-vector product, forward over reverse mode, summed over slices."""

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
        def add(total: Vector, part: PyTree[Any]) -> tuple[Vector, None]:
            return total + of_slice(vector, part) * (slice_size / examples), None

        total, _ = jax.lax.scan(add, jnp.zeros_like(vector), head)
        if rest:
            total += of_slice(vector, jax.tree.map(lambda a: a[whole:], data)) * (rest / examples)
        return total

    return product


def _tridiagonal(
    product: Callable[[Vector], Vector], like: Vector, key: Key[Array, ""], iterations: int
) -> tuple[Float[Array, "iterations iterations"], Basis]:
    """Lanczos's tridiagonal matrix of the α_j and β_j, and the vectors q_j."""

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
    (basis, *_), (alphas, betas) = jax.lax.scan(step, first, jnp.arange(iterations, dtype=jnp.int32))
    # The last β_j belongs to a vector beyond the basis.
    return jnp.diag(alphas) + jnp.diag(betas[:-1], 1) + jnp.diag(betas[:-1], -1), basis


def _outside(basis: Basis, vector: Vector) -> Vector:
    """The part of a vector that is orthogonal to the basis, whose unfilled rows are zeros.

    The first pass leaves a part in the basis of the size of the rounding, which matters where little else is left. The
    second pass removes it.
    """
    for _ in range(2):
        vector = vector - _dot(_dot(basis, vector), basis)
    return vector


def _dot(a: Array, b: Array) -> Array:
    # By default an accelerator rounds float32 factors to 10 bits or fewer.
    return jnp.matmul(a, b, precision="highest")


def _unit(vector: Vector) -> Vector:
    """A vector scaled to length 1. The zero vector, which is left when the basis is complete, stays zero."""
    return vector / jnp.maximum(jnp.linalg.norm(vector), jnp.finfo(vector.dtype).tiny)


def _arrays(params: PyTree[Any]) -> PyTree[Array]:
    for path, leaf in jax.tree.leaves_with_path(params):
        dtype = getattr(leaf, "dtype", type(leaf))
        if not jnp.issubdtype(dtype, jnp.floating):
            where = f" at {jax.tree_util.keystr(path)}" if path else ""
            raise InputError(
                f"the parameter{where} is {getattr(dtype, '__name__', dtype)}, and must be real floating-point: "
                "hold it fixed inside the loss"
            )
    return jax.tree.map(jnp.asarray, params)


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
