"""Results that are made by hand: the right shapes, numbers that are noise, nothing trained."""

import numpy as np

from momentum_jax.config import Config
from momentum_jax.results.result import Result, from_stacked
from momentum_jax.results.stacked import StackedRecords

FILES = ("config.json", "result.json", "runs.parquet")
RECORDED = 5
# Of a classification, whose losses are in nats.
NATS = {"functions": {"loss": "momentum_jax.tasks.classification:_functions.<locals>.loss"}}


def make_result(cfg=None, *, dtype=np.float32, **fields):
    """A result of the right shapes whose numbers are noise; nothing is trained."""
    cfg = cfg or Config(seeds=(3, 2**32 - 1), iterations=RECORDED)
    rng = np.random.default_rng(0)
    seeds = len(cfg.seed_tuple)

    def by_label(*shape):
        return {label: rng.normal(size=(seeds, *shape)).astype(dtype) for label in cfg.optimizers}

    defaults = {
        "iterations": np.arange(RECORDED),
        "losses_after": by_label(RECORDED),
        "losses_before": by_label(RECORDED),
        "metrics": {},
        "evaluation_iterations": np.asarray([2, RECORDED]),
        "evaluations": {name: by_label(2) for name in ("train_loss", "test_loss", "test_accuracy")},
        "failed": {label: np.arange(seeds) == 1 for label in cfg.optimizers},
        "diverged_at": {label: np.arange(seeds) * 3 - 1 for label in cfg.optimizers},
        "params": {label: {"kernel": entry} for label, entry in by_label(4, 3).items()},
        "provenance": {"versions": {"jax": "1"}, "devices": 2, "seconds": {"training": 0.1}, "umlaut": "ä"},
    }
    return Result(config=cfg, **(defaults | fields))


def with_leaf(leaf):
    return make_result(params={label: {"leaf": leaf} for label in Config().optimizers})


def from_records(cfg, records, iterations, evaluation_iterations, provenance, trials=None):
    """A result of records by label, then trial, then seed; None for a run that is not finished."""
    stacked = StackedRecords({label: len(own) for label, own in records.items()}, cfg.seed_tuple)
    for label, of_label in records.items():
        for position, of_trial in enumerate(of_label):
            for column, record in enumerate(of_trial):
                if record is not None:
                    stacked.put(label, (position, column), record)
    return from_stacked(cfg, stacked, iterations, evaluation_iterations, provenance, trials)
