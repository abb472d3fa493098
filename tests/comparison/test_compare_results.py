"""Results of `train` that are judged as they are, and those that are refused."""

import dataclasses

import pytest

import momentum_jax as mj
from momentum_jax.comparison.procedure import check_same_task
from tests.comparison.by_hand import result_of


def test_results_are_judged_by_the_seeds_that_both_have():
    compared = mj.compare_results(result_of("a", seeds=range(7)), result_of("b", loss=2.0, seeds=range(1, 8)))
    verdict = compared.verdict("given", "mean_loss", "b", "a")
    assert (verdict.pairs, verdict.median_a, verdict.outcome) == (6, 2, "worse")
    with pytest.raises(mj.InputError, match="did you mean 'given, mean_loss, b, a'"):
        compared.verdict("given", "mean_loss", "a", "b")


def test_a_table_has_one_row_for_each_verdict_and_three_columns_for_each_interval():
    compared = mj.compare_results(result_of("a", seeds=range(7)), result_of("b", loss=2.0, seeds=range(7)))
    table = compared.table()
    assert table.num_rows == len(compared.verdicts)
    intervals = [f"{name}{end}" for name in ("difference", "mean", "wins") for end in ("", "_low", "_high")]
    named = ["protocol", "metric", "a", "b", "pairs", "median_a", "median_b", "outcome", "sentence"]
    assert sorted(table.column_names) == sorted(named + intervals)
    row = next(row for row in table.to_pylist() if row["metric"] == "mean_loss")
    assert [row[name] for name in ("difference", "difference_low", "difference_high", "mean", "wins")] == [
        1,
        1,
        1,
        1,
        0,
    ]


def test_results_have_no_target_of_their_own_and_a_note_suggests_one():
    both = result_of("a", seeds=range(7)), result_of("b", loss=2.0, seeds=range(7))
    compared = mj.compare_results(*both)
    assert compared.target is None
    assert compared.notes == (
        "iterations to a target loss are judged only if mj.compare_results is given a target, such as 2",
    )
    timed = mj.compare_results(*both, target=2)
    assert timed.verdict("given", "iterations_to_target", "b", "a").median_a == 0
    missed = mj.compare_results(*both, target=1)
    assert missed.notes == (
        "as configured: 7 of 7 runs of b miss the target loss 1 and count as later than all that reach it",
    )


def test_two_optimizers_of_which_no_run_failed_have_no_verdict_on_failures():
    fine, failing = result_of("a", seeds=range(8)), result_of("b", seeds=range(8), failed=[3])
    assert not any(v.metric == "failed" for v in mj.compare_results(fine, result_of("c", seeds=range(8))).verdicts)
    assert mj.compare_results(fine, failing).verdict("given", "failed", "b", "a").median_a == 0.125


@pytest.mark.parametrize(
    ("results", "options", "message"),
    [
        ([], {}, "there is no result"),
        ([result_of("a"), result_of("a")], {}, "label 'a'"),
        ([result_of("a")], {}, "two or more optimizers, not only 'a'"),
        ([result_of("a"), result_of("b")], {"judge_by": ["mean_los"]}, "did you mean 'mean_loss'"),
        ([result_of("a"), result_of("b")], {"judge_by": "mean_loss"}, "judge_by must be one or more metrics"),
        ([result_of("a"), result_of("b")], {"judge_by": ["iterations_to_target"]}, "given a target, such as 1"),
        ([result_of("a"), result_of("b")], {"level": 95}, r"level must be in \[0.5, 1\)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_results_and_options_that_cannot_be_used_are_refused(results, options, message):
    with pytest.raises(mj.InputError, match=message):
        mj.compare_results(*results, **options)


def test_results_of_other_tasks_or_data_are_refused_by_the_first_difference():
    check_same_task([result_of("a", seeds=(0,)), result_of("b", seeds=(1, 2))])
    with pytest.raises(mj.InputError, match="batch_size is 128 in one and 64 in another"):
        check_same_task([result_of("a"), result_of("b", batch_size=64)])
    with pytest.raises(mj.InputError, match=r"different data .* digests d and e"):
        check_same_task([result_of("a"), result_of("b", digest="e")])
    other = dataclasses.replace(result_of("b"), provenance={"data": {"digest": "d"}, "functions": {"loss": "mine"}})
    with pytest.raises(mj.InputError, match="its functions are None in one and"):
        check_same_task([result_of("a"), other])
