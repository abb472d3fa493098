"""Records that are copied into the arrays of all runs."""

import jax
import numpy as np
import pytest

from momentum_jax.config import Config
from momentum_jax.results.record import Record, Run
from momentum_jax.results.stacked import OnDemand, StackedRecords
from momentum_jax.space import Trial

SEEDS = (7, 3)
HISTORY = np.arange(4, dtype=np.float32)


def record(number, *, metric=HISTORY, failed=False, params=None):
    evaluations = {"train_loss": np.asarray([number], np.float32)}
    return Record(HISTORY + number, HISTORY - number, {"m": metric}, number, evaluations, failed, params)


def run(label, position, seed):
    return Run(label, position, Trial(Config().optimizers["sgd"], 1), seed)


def test_a_record_stands_at_its_trial_and_seed_and_the_rest_is_blank():
    stacked = StackedRecords({"a": 2, "b": 1}, SEEDS)
    stacked.add(
        {
            run("a", 1, 7): record(5, failed=True, params={"w": HISTORY}),
            run("a", 0, 3): record(6, params={"w": HISTORY}),
        }
    )
    assert run("a", 1, 7) in stacked
    assert run("a", 1, 3) not in stacked
    assert (len(stacked), stacked.failed) == (2, 1)
    a, b = stacked.complete().values()
    nothing = np.full(4, np.nan)
    np.testing.assert_array_equal(a["losses"], [[nothing, HISTORY + 6], [HISTORY + 5, nothing]])
    np.testing.assert_array_equal(a["diverged_at"], [[-1, 6], [5, -1]])
    np.testing.assert_array_equal(a["failed"], [[False, False], [True, False]])
    np.testing.assert_array_equal(a["evaluations"]["train_loss"][..., 0], [[np.nan, 6], [5, np.nan]])
    assert b["params"]["w"].shape == (1, 2, 4)
    assert np.isnan(b["params"]["w"]).all()


@pytest.mark.parametrize(
    "other",
    [
        record(1, metric=HISTORY[:1]),
        record(1, metric=HISTORY.astype(np.float64)),
        record(1, params={"w": HISTORY}),
        record(1)._replace(metrics={}),
    ],
    ids=["shape", "dtype", "parameters", "metrics"],
)
@pytest.mark.parametrize("histories", [True, False])
def test_a_record_that_is_unlike_the_others_is_refused_and_not_finished(other, histories):
    stacked = StackedRecords({"a": 1, "b": 1}, SEEDS, histories=histories)
    stacked.put("a", (0, 0), record(0))
    with pytest.raises(ValueError, match="the runs of 'a' have arrays of different shapes or dtypes"):
        stacked.put("a", (0, 1), other)
    assert len(stacked) == 1
    # Labels may differ.
    stacked.put("b", (0, 0), other)


def test_without_histories_the_rest_is_kept():
    stacked = StackedRecords({"a": 1}, SEEDS, histories=False)
    stacked.put("a", (0, 0), record(4, failed=True))
    assert sorted(stacked.complete()["a"]) == ["diverged_at", "evaluations", "failed"]
    assert stacked.forms["a"].losses.shape == (4,)


def test_what_is_read_on_demand_is_not_read_to_list_it():
    read = []

    def records():
        read.append(1)
        return {"a": {"metrics": {"m": 1}}, "b": {"metrics": {"m": 2}}}

    metric = OnDemand(("a", "b"), records, ("metrics", "m"))
    assert (list(metric), len(metric), "a" in metric, "c" in metric) == (["a", "b"], 2, True, False)
    assert repr(metric) == "<metrics.m of a, b, read when asked for>"
    with pytest.raises(KeyError, match="c"):
        metric["c"]
    assert not read
    assert jax.tree.map(lambda value: -value, metric) == {"a": -1, "b": -2}
    assert dict(metric) == {"a": 1, "b": 2}
