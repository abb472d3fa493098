"""Profiles, summary and answer of comparisons on several tasks, against the times of their runs."""

import json
import re
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

import momentum_jax as mj
from momentum_jax.analysis import interval_over_tasks, log_time_ratios
from momentum_jax.comparison.metrics import TIMES
from momentum_jax.comparison.task_answer import answer_of_tasks
from momentum_jax.comparison.task_comparison import TIME, task_comparison_of, with_reference
from momentum_jax.report.document import tasks_document
from momentum_jax.report.page import page
from tests.comparison.timed import sooner, three_tasks, timed


@pytest.fixture(scope="module")
def compared():
    return three_tasks()


def times_of(compared, protocol="tuned"):
    return [
        np.stack([arm.values[TIME] for arm in own.protocols[protocol].arms.values()])
        for own in compared.comparisons.values()
    ]


def test_a_profile_has_the_medians_over_seeds_and_their_ratios_to_the_best(compared):
    profile = compared.profiles["tuned"]
    medians = np.array([np.median(own, axis=1) for own in times_of(compared)]).T
    np.testing.assert_array_equal(profile.times, medians)
    np.testing.assert_array_equal(profile.ratios, medians / medians.min(axis=0))
    assert profile.ratios[1].tolist()[2] == np.inf
    assert profile.tasks == ("a", "b", "c")
    # By the definition of the score: the slower optimizer's ratios count up to 4.
    worse = profile.ratios[0]
    assert profile.scores["sgd"] == pytest.approx(np.mean((4 - worse) / 3))
    assert profile.scores["momentum"] == pytest.approx(2 / 3)


def test_the_summary_counts_verdicts_and_has_the_mean_of_the_relative_time(compared):
    entry = next(entry for entry in compared.summary if entry.protocol == "tuned")
    assert (entry.a, entry.b, entry.tasks) == ("momentum", "sgd", 3)
    outcomes = [own.verdict("tuned", TIME, "momentum", "sgd").outcome for own in compared.comparisons.values()]
    assert outcomes == ["better", "better", "worse"]
    assert (entry.sooner, entry.later, entry.undecided, entry.no_verdict) == (2, 1, 0, 0)
    logarithm = interval_over_tasks(times_of(compared), lambda medians: log_time_ratios(medians[1], medians[0]))
    assert entry.relative_time.value == pytest.approx(np.exp(logarithm.value))
    # A mean of ratios within 1/4 and 4 is one as well.
    assert (entry.relative_time.low, entry.relative_time.high) == (0.25, 4.0)


def test_the_answer_says_on_how_many_tasks_and_that_they_are_few(compared):
    answer = answer_of_tasks(compared)
    assert answer.sentences[0] == (
        "Each at its best of 4 trials, momentum reaches the target sooner than sgd on 2 of 3 tasks and later on 1."
    )
    assert answer.sentences[1].startswith("Over 3 tasks it needs 1.1")
    assert answer.sentences[1].endswith(
        "times the iterations of sgd (in brackets: 95 %, for tasks like these, from 3 only)."
    )
    assert [part.kind for part in answer.parts] == ["no difference found"] * 2
    assert "3 tasks, 10 seeds on each; each optimizer tuned by 4 trials on each task" in answer.sure
    assert answer.sentences[0] in repr(compared)
    assert len(repr(compared).splitlines()) <= 20
    assert all(len(sentence) <= 300 for sentence in answer.sentences)


def test_where_all_tasks_agree_the_interval_tells_that_it_helps():
    many = {name: timed(sooner(ratio)) for name, ratio in zip("abcd", (0.5, 0.45, 0.55, 0.5), strict=True)}
    (kind,) = {part.kind for part in answer_of_tasks(task_comparison_of(many, 0.95)).parts}
    assert kind == "helps"


def test_more_optimizers_are_listed_and_two_tasks_are_too_few_for_an_interval():
    three = sooner(0.5) | {"adam": sooner(0.8)["momentum"]}
    sentences = answer_of_tasks(task_comparison_of({"a": timed(three), "b": timed(three)}, 0.95)).sentences
    assert sentences == (
        "Each at its best of 4 trials, of 2 tasks the target is reached sooner than with sgd by momentum on 2 and "
        "adam on 2.",
        "Over 2 tasks the iterations needed are 0.50 with momentum and 0.80 with adam times those of sgd, and so few "
        "tasks give no interval.",
    )


def test_an_optimizer_that_misses_every_target_needs_four_times_as_long_or_more():
    never = timed(sooner(1) | {"momentum": [None] * 10})
    answer = answer_of_tasks(task_comparison_of(dict.fromkeys("abc", never), 0.95))
    assert "it needs 4 or more times the iterations" in answer.sentences[1]
    assert {part.kind for part in answer.parts} == {"does not help"}


def test_tasks_on_which_both_miss_the_target_say_nothing_of_the_time():
    never = {"sgd": [None] * 10, "momentum": [None] * 10}
    compared = task_comparison_of({"a": timed(sooner(0.5)), "b": timed(never)}, 0.95)
    (entry, _) = compared.summary
    assert (entry.tasks, entry.solved, entry.no_verdict) == (2, 1, 1)
    assert entry.relative_time.value == pytest.approx(0.5)
    none = answer_of_tasks(task_comparison_of({"b": timed(never)}, 0.95))
    assert none.sentences[1] == "Neither of them reaches the target of a task."
    assert {(part.kind, part.why) for part in none.parts} == {
        ("cannot be told", "neither reaches the target of a task")
    }


def test_of_three_optimizers_those_that_never_reach_a_target_are_left_out_of_the_times():
    never = [None] * 10
    none = answer_of_tasks(task_comparison_of({"a": timed({"sgd": never, "momentum": never, "adam": never})}, 0.95))
    assert none.sentences[1] == "None of them reaches the target of a task."
    one = {"sgd": never, "adam": never, "momentum": sooner(1)["momentum"]}
    text = answer_of_tasks(task_comparison_of({"a": timed(one)}, 0.95)).sentences[1]
    assert text.startswith("Over 1 task the iterations needed are 0.25 or less with momentum times those of sgd")


def test_a_task_without_a_target_is_left_out_and_without_any_nothing_can_be_told():
    without = timed(sooner(0.5), target=None)
    compared = task_comparison_of({"a": timed(sooner(0.5)), "b": without}, 0.95)
    assert compared.profiles["tuned"].left_out == {"b": "it has no target"}
    none = task_comparison_of({"b": without}, 0.95)
    assert answer_of_tasks(none).sentences == ("Nothing can be told: no task has a target.",)
    with pytest.raises(mj.InputError, match="no task has times"):
        none.plot()
    assert "Nothing can be told" in page(tasks_document(none, {}, {}))


def test_notes_say_which_tasks_have_no_target_and_what_the_others_rest_on():
    labels = {"my rule": sooner(1)["sgd"], "momentum": sooner(1)["sgd"]}
    # The runs that are judged have given b a target of their own.
    of_all = timed(labels)
    of_all = replace(of_all, plan=of_all.plan | {"target": None})
    few = with_reference({"a": timed(labels), "b": of_all}, 0.95)
    assert few.notes == (
        "b has no target and is left out: too many runs of the best trial of 'my rule' failed",
        "targets rest on 9 reruns of 'my rule'; runs that miss one count as never, and 10 reruns make a target that "
        "nine of ten runs reach",
    )
    assert few.profiles["tuned"].left_out == {"b": "it has no target"}
    metrics = {name: {verdict.metric for verdict in own.verdicts} for name, own in few.comparisons.items()}
    assert TIME in metrics["a"]
    assert metrics["b"] == metrics["a"] - set(TIMES)
    many = timed(labels)
    assert with_reference({"a": replace(many, plan=many.plan | {"rerun_seeds": list(range(10))})}, 0.95).notes == ()


def test_the_profile_is_drawn_as_steps_that_are_a_little_apart(compared):
    axes = Figure().add_subplot()
    assert compared.plot(axes) is axes
    sgd, momentum = (line.get_ydata() for line in axes.get_lines())
    # sgd is the fastest on one task, within 1.25 times on two, and within twice on three.
    np.testing.assert_allclose(sgd[[0, -1]], [1 / 3, 1], atol=0.02)
    np.testing.assert_allclose(momentum, 2 / 3, atol=0.02)
    assert not np.isin(sgd, momentum).any()
    assert plt.get_fignums() == []
    with pytest.raises(mj.InputError, match="protocol"):
        compared.plot(protocol="tunned")


def test_the_page_has_the_profile_the_verdicts_by_task_and_the_commands(compared):
    document = tasks_document(compared, {"a": "momentum-jax compare"}, {"a": "a/report.html"})
    first, second = document["profile"]["protocols"]
    assert (first["title"], second["title"]) == ("each at its best of 4 trials", "same learning rate, 0.05")
    assert first["lines"][1]["times"][2] == "inf"
    rows = document["matrix"]["metrics"]
    assert [row["title"] for row in rows] == [f"{name}, to a loss of 0.5" for name in "abc"]
    assert [row["page"] for row in rows] == ["a/report.html", None, None]
    (pair,) = document["matrix"]["pairs"]
    assert [row[-1]["outcome"] for row in pair["cells"]] == ["better", "better", "worse"]
    assert document["command"] == "# a\nmomentum-jax compare"


def test_long_labels_are_short_in_the_page_and_those_of_one_length_keep_their_order(tmp_path):
    labels = [f"{'x' * 250}{letter}" for letter in "cab"]
    times = {label: sooner(1)["sgd"] for label in labels}
    task_comparison_of({"comparison": timed(times), "b": timed(times)}, 0.95).report(tmp_path / "page.html")
    written = (tmp_path / "page.html").read_text(encoding="utf-8")
    document = json.loads(re.search(r'id="document">(.*?)</script>', written)[1])
    short = [f"{'x' * 190}…", f"{'x' * 190}… (2)", f"{'x' * 190}… (3)"]
    assert document["optimizers"] == short
    assert [line["label"] for line in document["profile"]["protocols"][0]["lines"]] == short
    # In full in its config, and nowhere else but in the commands.
    assert list(document["config"]["comparison"]["optimizers"]) == labels
    del document["config"], document["command"]
    assert labels[0] not in json.dumps(document)
