"""Arms, verdicts and results made by hand, which nothing has to be trained for."""

import numpy as np

import momentum_jax as mj
from momentum_jax.comparison.arms import Arm
from momentum_jax.comparison.judging import judge
from momentum_jax.results.record import Record
from momentum_jax.results.result import from_records
from momentum_jax.space import Trial

TRIAL = Trial(mj.OptimizerConfig("sgd", learning_rate=0.1), 128)
N = 8


def arm(seeds=range(N), *, curves=None, failed=None, **values):
    seeds = np.asarray(list(seeds))
    failed = np.zeros(len(seeds), bool) if failed is None else np.asarray(failed, bool)
    curves = np.ones([len(seeds), 3]) if curves is None else np.asarray(curves, float)
    arrays = {name: np.asarray(own, float) for name, own in values.items()}
    return Arm(TRIAL, seeds, 0, curves, failed, None, arrays | {"failed": failed.astype(float)})


def losses(*differences):
    """An arm whose losses differ by this much from those of a second arm, which are all 1."""
    n = len(differences)
    return arm(range(n), train_loss=1 + np.asarray(differences)), arm(range(n), train_loss=np.ones(n))


def verdict_of(metric, x, y, *, pair="xy", level=0.95, margin=None, target=None):
    return judge("same", metric, {"x": x, "y": y}, *pair, level=level, margin=margin, target=target)


def result_of(label="a", *, loss=1.0, failed=(), seeds=(0, 1), digest="d", **changes):
    seeds = tuple(seeds)
    cfg = mj.Config(iterations=4, seeds=seeds, optimizers={label: TRIAL.optimizer}, **changes)
    history = np.full(4, loss, np.float32)
    finals = {"test_loss": np.asarray([0.5]), "test_accuracy": np.asarray([0.75])}
    runs = [Record(history, history, {}, -1, finals, i in failed, None) for i in range(len(seeds))]
    return from_records(cfg, {label: [runs]}, np.arange(4), [4], {"data": {"digest": digest}})
