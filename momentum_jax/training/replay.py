"""What a run started from and what it saw, to replay it outside."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, Key

from momentum_jax._base.errors import check_choice, check_integer
from momentum_jax.config import MAX_SEED, Config
from momentum_jax.tasks import Task, Variables
from momentum_jax.training.sampling import (
    augment_key,
    batch_key,
    draw_batches,
    draw_variables,
    init_key,
    loss_key,
    numerics,
)
from momentum_jax.training.validate import (
    check_types,
    resolve_task,
)


def batch_indices(cfg: Config, seed: int, *, task: Task | None = None) -> Int32[np.ndarray, "iterations batch"]:
    """The examples that a run of this seed sees: rows of the task's training data, by iteration.

    Without a task they are rows of `load_dataset(cfg.dataset).x_train`, whose order is the canonical one, not that of
    the files. `file_rows` of the dataset gives the rows in the files:

    >>> import momentum_jax as mj
    >>> cfg = Config(iterations=3, batch_size=4)
    >>> rows = batch_indices(cfg, seed=0)
    >>> rows.shape
    (3, 4)
    >>> mj.load_dataset("mnist").file_rows[rows[0]]  # in train-images-idx3-ubyte
    array([...])

    Raises:
      InputError: the config does not fit its data.
    """
    check_types(cfg, task)
    check_integer("seed", seed, 0, MAX_SEED)
    num_examples = resolve_task(cfg, task).num_examples
    with numerics(cfg.dtype):
        draw = jax.jit(
            functools.partial(
                draw_batches,
                length=cfg.iterations,
                num_examples=num_examples,
                batch_size=cfg.batch_size,
                sampling=cfg.sampling,
            )
        )
        return np.asarray(draw(batch_key(seed), jnp.int32(0)))


class StepKeys(NamedTuple):
    """The keys of one iteration.

    Attributes:
      loss: what the loss of a task with `has_key` gets.
      augment: what the task's `augment` gets.
    """

    loss: Key[Array, ""]
    augment: Key[Array, ""]


def step_keys(seed: int, iteration: int) -> StepKeys:
    """The keys with which a run of this seed trains an iteration, the first of which is 0.

    >>> step_keys(seed=0, iteration=3).loss == step_keys(seed=0, iteration=4).loss
    Array(False, dtype=bool)

    Raises:
      InputError: a number is out of range.
    """
    check_integer("seed", seed, 0, MAX_SEED)
    check_integer("iteration", iteration, 0)
    return StepKeys(loss_key(seed, iteration), augment_key(seed, iteration))


def initial_params(cfg: Config, seed: int, label: str, *, task: Task | None = None) -> Variables:
    """What the run of this seed and optimizer's label starts from: the parameters, or (parameters, state).

    Raises:
      InputError: the config has no such label, or does not fit its data.

    >>> params = initial_params(Config(hidden_sizes=(5,)), seed=0, label="momentum")
    >>> params["params"]["Dense_0"]["kernel"].shape
    (784, 5)
    """
    check_types(cfg, task)
    check_integer("seed", seed, 0, MAX_SEED)
    task = resolve_task(cfg, task)
    check_choice("optimizer's label", label, cfg.optimizers)
    return draw_variables(task, init_key(seed, None if cfg.shared_init else label), cfg.dtype)
