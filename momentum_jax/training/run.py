"""One run as one pure function, the shortest way to see what `train` computes.

`train` computes the same with the same step, for many runs at once, in chunks, on all devices. The tests hold it
against this function, bit for bit on a CPU.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt32

from momentum_jax._base.errors import InputError
from momentum_jax._base.trees import blank
from momentum_jax.config import DType, Sampling
from momentum_jax.optimizers import OptimizerConfig, registry
from momentum_jax.tasks import Data, HostData, Metric, Params, Scalars, Task
from momentum_jax.training.objective import Objective
from momentum_jax.training.sampling import batch_key, draw_batches, draw_variables, init_key
from momentum_jax.training.step import (
    History,
    Static,
    evaluation_of,
    evaluation_variables,
    train_iterations,
)


class Trained(NamedTuple):
    """What one run gives.

    Attributes:
      params: at the end, those that are evaluated; with the state, for a task that has one, as `init` gives them.
      history: what each iteration recorded, with a leading axis of iterations.
      evaluation: what the task's evaluation gives at the end, by name.
    """

    params: Params
    history: History
    evaluation: Scalars


def make_run(
    task: Task,
    optimizer: OptimizerConfig,
    *,
    iterations: int,
    batch_size: int,
    sampling: Sampling = "with_replacement",
    dtype: DType = "float32",
    metrics: Mapping[str, Metric] | None = None,
    loss_after: bool = True,
) -> Callable[..., Trained]:
    """Makes the pure function of one run, to `jit`, `vmap` over hyperparameters and seeds, or differentiate.

    For a run of `train(cfg)` with the same seed, it starts from the same weights (with `shared_init`) and sees the same
    batches. Everything but hyperparameters and seed is static.

    Args:
      task: what is minimised.
      optimizer: its name and hyperparameters. Those that are traced are the arguments of the function, by name:
        `momentum_jax.optimizers.registry.split(optimizer)[1]` has them. Everything else is part of the function.
      iterations: updates of the parameters.
      batch_size: examples in each batch.
      sampling: as in `Config`.
      dtype: of the parameters; "float64" needs `jax.enable_x64`.
      metrics: by name, functions recorded at every iteration, as in `train`.
      loss_after: whether the loss after each update is recorded. A sweep does not, by default.

    Returns:
      run(hyperparameters, seed), which gives a `Trained`. A third argument, (train, test), stands for the task's data:
      give it to a jitted run, so that large data is no constant of the program.

    >>> import momentum_jax as mj
    >>> data = jnp.linspace(-1, 1, 64)
    >>> task = mj.Task(lambda key: jnp.zeros([]), lambda p, batch: jnp.mean((p - batch - 1) ** 2), data)
    >>> run = make_run(task, OptimizerConfig("momentum", learning_rate=0.1), iterations=50, batch_size=8)
    >>> rates = jnp.array([0.001, 0.01, 0.1])
    >>> trained = jax.jit(jax.vmap(lambda rate: run({"learning_rate": rate}, jnp.uint32(0))))(rates)
    >>> print(trained.history.loss_before.shape, trained.params)
    (3, 50) [...]
    """
    structure, _ = registry.split(optimizer)
    if isinstance(task.train, HostData):
        raise InputError("make_run needs training data in memory, such as np.asarray(data); train reads it as it goes")

    def run(
        hyperparameters: Mapping[str, Float[Array, ""]],
        seed: UInt32[Array, ""],
        data: tuple[Data, Data | None] = task.evaluation_data,
    ) -> Trained:
        train, test = jax.tree.map(jnp.asarray, data)
        objective = Objective.of(task)
        static = Static.of(objective, structure, metrics or {}, loss_after)
        variables = draw_variables(task, init_key(seed), dtype)
        batches = draw_batches(
            batch_key(seed),
            jnp.int32(0),
            iterations,
            num_examples=task.num_examples,
            batch_size=batch_size,
            sampling=sampling,
        )

        state = static.init(hyperparameters, variables)
        state, history, finite = train_iterations(static, hyperparameters, train, state, batches, seed, 0, iterations)
        variables = evaluation_variables(objective, state)
        evaluation = evaluation_of(task)(variables, train, test)
        scalars = {name: jnp.where(finite, v, blank(v.dtype)) for name, v in evaluation.items()}
        return Trained(variables, history, scalars)

    return run
