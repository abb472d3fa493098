"""Arms, verdicts and results made by hand, which nothing has to be trained for."""

import numpy as np

import momentum_jax as mj
from momentum_jax.comparison.arms import Arm
from momentum_jax.comparison.judging import judge
from momentum_jax.comparison.protocols import Protocol
from momentum_jax.comparison.result import JudgingOptions, judge_protocols
from momentum_jax.results.record import Record
from momentum_jax.space import Trial
from tests.results.made import from_records

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


PAIRS = 12
_SGD = mj.OptimizerConfig("sgd", learning_rate=0.01)
_MOMENTUM = mj.OptimizerConfig("momentum", learning_rate=0.01, momentum=0.9)
TITLES = {
    "same": "same learning rate, 0.01",
    "matched": "same effective learning rate, 0.1",
    "tuned": "each at its best of 24 trials",
    "tuned_alone": "each at its best of 24 own trials",
    "given": "as configured",
}
_AROUND = np.linspace(-0.05, 0.05, PAIRS)
# By what happened to a: the losses of its runs, where those of the first optimizer are 1; and the kind of answer.
OUTCOMES = {
    "better": (0.3 + _AROUND, "helps"),
    "worse": (1.5 + _AROUND, "does not help"),
    "equivalent": (1 + 0.001 * _AROUND, "no difference found"),
    "no difference found": (1 + _AROUND, "no difference found"),
    "no verdict": ([0.3], "cannot be told"),
    "failed": (np.full(PAIRS, np.inf), "does not help"),
    "skipped": (None, "cannot be told"),
}


_PLAN = {"contained": [], "trials": 24, "tune_by": "test_loss"}


def comparison(
    outcomes, labels=("sgd", "momentum"), *, metric="train_loss", judge_by=None, change=lambda losses: losses
):
    """A comparison with these outcomes: by protocol, one for each label but the first, by name or as its losses."""
    optimizers = {label: _MOMENTUM if i else _SGD for i, label in enumerate(labels)}
    protocols = {}
    for name, of_protocol in outcomes.items():
        arms = {labels[0]: arm(range(PAIRS), **{metric: change(np.ones(PAIRS))})}
        for label, outcome in zip(labels[1:], of_protocol, strict=True):
            losses = OUTCOMES[outcome][0] if isinstance(outcome, str) else outcome
            if losses is not None:
                values = {metric: change(np.asarray(losses))}
                arms[label] = arm(range(len(losses)), failed=np.isinf(losses), **values)
        arms = {label: own._replace(trial=Trial(optimizers[label], 128)) for label, own in arms.items()}
        skipped = "it is not defined" if "skipped" in of_protocol else None
        protocols[name] = Protocol(TITLES[name], {} if skipped else arms, skipped)
    cfg = mj.Config(iterations=4, seeds=PAIRS, optimizers=optimizers)
    options = JudgingOptions(judge_by, None, margin=0.01, level=0.95)
    return judge_protocols(cfg, protocols, options, None, judged=[result_of()], tuning=None, plan=_PLAN, notes=[])
