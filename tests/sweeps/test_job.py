"""What a worker of a cluster gets of a sweep."""

import gc

import jax.numpy as jnp
import ray.cloudpickle

from momentum_jax.space import make_trials
from momentum_jax.sweeps.batches import Job
from momentum_jax.sweeps.plan import plan_sweep
from tests.sweeps.small import QUADRATIC, small


def test_a_job_keeps_the_functions_alive_that_its_groups_refer_to():
    cfg, scale = small(), jnp.float32(2)
    metrics = {"twice": lambda params, state, grads: scale * params["w"]}
    plan = plan_sweep(cfg, make_trials(cfg, {"learning_rate": [0.1, 0.2]}), QUADRATIC, metrics)
    job, groups = ray.cloudpickle.loads(
        ray.cloudpickle.dumps((Job(cfg, QUADRATIC, metrics, {}, 100, False), plan.groups))
    )
    del plan, metrics
    gc.collect()
    for group in groups:
        ((_, twice),) = group.static.metrics
        assert twice.target is job.metrics["twice"]
        assert group.static.objective.loss.target is job.task.loss
