"""Randomness of a run: keys, batches and initial parameters, each a function of the seed alone."""

import contextlib
import hashlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, Key, PyTree, UInt32

from momentum_jax._base.tracing import jitted
from momentum_jax._base.weak import weak_handle
from momentum_jax.config import DType, Sampling
from momentum_jax.tasks import Task, Variables

_INIT, _BATCHES, _LOSS, _AUGMENT = range(4)


@contextlib.contextmanager
def numerics(dtype: str) -> Iterator[None]:
    """Sets JAX's numerics for a run, whatever the ambient settings are, so that the run is the same under all.

    64-bit types are on for float64 only, draws are those of the partitionable Threefry, and a NaN or an infinity is
    recorded, not raised: a diverging run must not end the others. A guard of transfers is for the user's own code.
    """
    with (
        jax.enable_x64(dtype == "float64"),
        jax.threefry_partitionable(True),
        jax.debug_nans(False),
        jax.debug_infs(False),
        jax.transfer_guard("allow"),
        jax.disable_jit(False),
    ):
        yield


def init_key(seed: int | UInt32[Array, ""], label: str | None = None) -> Key[Array, ""]:
    """The key of the initial weights: the seed's, or with a label that label's own."""
    key = jax.random.fold_in(_run_key(seed), _INIT)
    if label is None:
        return key
    word = hashlib.sha256(label.encode()).digest()[:4]
    return jax.random.fold_in(key, np.uint32(int.from_bytes(word, "little")))


def batch_key(seed: int | UInt32[Array, ""]) -> Key[Array, ""]:
    """The key of all batches of a seed."""
    return jax.random.fold_in(_run_key(seed), _BATCHES)


def loss_key(seed: int | UInt32[Array, ""], iteration: int | Int32[Array, ""]) -> Key[Array, ""]:
    """The key that a loss gets in an iteration."""
    return jax.random.fold_in(jax.random.fold_in(_run_key(seed), _LOSS), iteration)


def augment_key(seed: int | UInt32[Array, ""], iteration: int | Int32[Array, ""]) -> Key[Array, ""]:
    """The key that the batch of an iteration is augmented with."""
    return jax.random.fold_in(jax.random.fold_in(_run_key(seed), _AUGMENT), iteration)


def draw_batches(
    key: Key[Array, ""],
    start: Int32[Array, ""],
    length: int,
    *,
    num_examples: int,
    batch_size: int,
    sampling: Sampling,
) -> Int32[Array, "iterations batch"]:
    """Draws the examples of the iterations start … start + length − 1.

    With replacement, iteration t draws from its own key, fold_in(key, t). In epochs, epoch e is a permutation drawn
    from fold_in(key, e), cut into ⌊num_examples / batch_size⌋ batches.
    """
    iterations = start + jnp.arange(length, dtype=jnp.int32)
    if sampling == "with_replacement":
        return jax.vmap(
            lambda t: jax.random.randint(jax.random.fold_in(key, t), (batch_size,), 0, num_examples, dtype=jnp.int32)
        )(iterations)
    per_epoch = num_examples // batch_size
    first_epoch = start // per_epoch
    epochs = first_epoch + jnp.arange((length + per_epoch - 2) // per_epoch + 1, dtype=jnp.int32)
    orders = jax.lax.map(lambda e: jax.random.permutation(jax.random.fold_in(key, e), num_examples), epochs)
    offsets = (iterations % per_epoch * batch_size)[:, None] + jnp.arange(batch_size, dtype=jnp.int32)[None]
    batches: Array = orders[(iterations // per_epoch - first_epoch)[:, None], offsets]
    return batches.astype(jnp.int32)


def draw_variables(task: Task, key: Key[Array, ""], dtype: DType) -> Variables:
    """Draws what a task's `init` gives in float32, and casts the floating-point leaves of the parameters to a dtype.

    So every dtype starts from the same numbers. A state is cast to float64 alone: statistics in bfloat16 do not add up.
    """

    def cast(tree: PyTree[Array], dtype: DType) -> PyTree[Array]:
        return jax.tree.map(lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)

    with numerics("float32"):
        drawn = jitted(weak_handle(task.init))(key)
    with numerics(dtype):
        if not task.has_state:
            return cast(drawn, dtype)
        params, state = drawn
        return cast(params, dtype), (cast(state, dtype) if dtype == "float64" else state)


def _run_key(seed: int | UInt32[Array, ""]) -> Key[Array, ""]:
    # The words of jax.random.key(seed), without what jax_random_seed_offset would add.
    words = jnp.stack([jnp.zeros([], jnp.uint32), jnp.asarray(seed, jnp.uint32)])
    key: Key[Array, ""] = jax.random.wrap_key_data(words, impl="threefry2x32")
    return key
