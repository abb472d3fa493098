"""`repr` and `_repr_html_` of everything that has one: 20 lines of 120 columns for every type and size."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import momentum_jax as mj
from momentum_jax.comparison.answer import answer_of_training
from momentum_jax.config import MAX_SEED
from momentum_jax.results.stacked import OnDemand
from momentum_jax.space import Trial
from momentum_jax.tasks import landscapes
from momentum_jax.tasks.datasets import Dataset
from momentum_jax.training.trajectories import Trajectory
from tests.configs import CONFIGS
from tests.report.judged import LABELS, comparison_of, sweep_of
from tests.results.made import make_result
from tests.showing import HOSTILE, check_shown
from tests.sweeps import host_runs

GRID = [{"learning_rate": rate, "momentum": 0.9} for rate in (1.0, 0.1, 0.01)]
ANY_LABELS = st.text(min_size=1, max_size=30) | st.sampled_from(HOSTILE)
ANY_LABELS = ANY_LABELS.filter(lambda text: text.isprintable() and text.strip() == text != "")
SEEDS = st.integers(1, 300) | st.lists(st.integers(0, MAX_SEED), min_size=1, max_size=9, unique=True).map(tuple)
# What losses may be; NaN, infinities and 1e300 among them.
NUMBERS = np.array([0.1, 2.0, -3.0, 0.0, 1e300, 1e-300, np.nan, np.inf, -np.inf])


def lines_of(shown):
    return repr(shown).splitlines()


@st.composite
def results(draw):
    """Trainings and sweeps: finished, interrupted, failed, unfinished; nothing in them was computed."""
    labels = draw(st.lists(ANY_LABELS, min_size=1, max_size=50, unique=True))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    recorded, to_come = draw(st.integers(1, 4)), draw(st.integers(0, 3))
    cfg = mj.Config(
        iterations=recorded + to_come,
        seeds=draw(SEEDS),
        optimizers={
            label: mj.OptimizerConfig(draw(st.sampled_from(["sgd", "x" * 300])), word="y" * 99) for label in labels
        },
    )
    trials = None
    if draw(st.booleans()):
        count = st.integers(1, 30)
        trials = {label: tuple(Trial(o, size) for size in range(draw(count))) for label, o in cfg.optimizers.items()}
    seeds = len(cfg.seed_tuple)
    axes = {label: (seeds,) if trials is None else (len(trials[label]), seeds) for label in labels}

    def numbers(*shape):
        return {label: rng.choice(NUMBERS, (*axes[label], *shape)) for label in labels}

    def chances(probability):
        return {label: rng.random(axes[label]) < probability for label in labels}

    evaluated = draw(st.lists(st.sampled_from(["train_loss", "test_loss", "test_accuracy", "bleu"]), unique=True))
    return make_result(
        cfg,
        iterations=np.arange(recorded),
        losses_after={},
        losses_before=numbers(recorded),
        evaluation_iterations=np.asarray([1, recorded]),
        evaluations={name: numbers(2) for name in evaluated},
        failed=chances(draw(st.sampled_from([0.0, 0.3, 1.0]))),
        diverged_at={label: rng.integers(-1, recorded, axes[label]) for label in labels},
        params={},
        trials=trials,
        missing={} if trials is None else chances(draw(st.sampled_from([0.0, 0.3, 1.0]))),
        provenance={"data": {"source": draw(st.text() | st.sampled_from(HOSTILE))}},
        errors={labels[0]: {(0, 0): draw(st.sampled_from([text or "E" for text in HOSTILE])) + "\nTraceback"}},
    )


@settings(max_examples=30)
@given(results())
def test_any_result_is_shown_in_20_lines(result):
    check_shown(result)


@settings(max_examples=40)
@given(CONFIGS)
@example(mj.Config(hidden_sizes=(7,) * 10_000, seeds=100_000))
@example(mj.Config(dataset="\n\x1b[31m", optimizers={f"{i}": mj.OptimizerConfig("x" * 999) for i in range(50)}))
def test_any_config_is_shown_in_20_lines(cfg):
    check_shown(cfg)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 4), max_size=3), st.integers(0, 30), st.integers(0, 9), st.integers(0, 99))
@example([2], 1, 3, 28)  # Two paths end at infinities of both signs.
def test_any_trajectory_is_shown_in_20_lines(axes, iterations, dimensions, seed):
    rng = np.random.default_rng(seed)
    points = rng.choice(NUMBERS, (*axes, iterations + 1, dimensions))
    values = rng.choice(NUMBERS, points.shape[:-1])
    check_shown(Trajectory(points, values, points, rng.random(axes) < 0.5))


@pytest.fixture(scope="module")
def compared():
    return comparison_of()


@pytest.mark.parametrize("text", HOSTILE)
def test_what_else_has_a_text_of_its_own_is_shown_in_20_lines(text, compared):
    labels = np.zeros(3, np.int32)
    check_shown(Dataset(np.zeros((3, 4), np.uint8), labels, np.zeros((3, 4), np.uint8), labels, (2, 2), 1, text))
    rows = {f"{text}{i}": np.zeros((3, 2)) for i in range(30)}
    check_shown(mj.Task(init=len, loss=max, train=rows, provenance={"source": text}, baseline_loss=2.0))
    check_shown(mj.HostTask(host_runs.fails, scores=(text, "b"), provenance={"source": text}))
    check_shown(mj.Landscape(text, text, len, np.zeros((99, 2)), [0, 0], [[-1, 1], [-1, 1]]))
    renamed = [v._replace(a=text, protocol="same", sentence=text) for v in compared.verdicts]
    many = dataclasses.replace(
        compared, verdicts=tuple(renamed * 100), notes=(text,) * 30, plan={**compared.plan, "data": text}
    )
    many.protocols["same"].arms[text] = many.protocols["same"].arms[LABELS[1]]
    check_shown(many)


def test_a_comparison_in_which_nothing_could_be_judged_is_shown(compared):
    skipped = {name: protocol._replace(arms={}, skipped="why") for name, protocol in compared.protocols.items()}
    check_shown(dataclasses.replace(compared, protocols=skipped, verdicts=()))


@pytest.mark.filterwarnings("ignore:verdicts need")
@pytest.mark.parametrize("seeds", [1, 3, 8])
def test_a_comparison_of_any_number_of_seeds_is_shown(seeds):
    check_shown(comparison_of(seeds=seeds))


def test_a_training_says_what_was_run_and_how_it_ended():
    cfg = mj.Config(iterations=5, seeds=3, optimizers={"sgd": mj.OptimizerConfig("sgd", learning_rate=0.123456)})
    losses = np.array([[0.3], [0.1], [0.2]])
    accuracies = np.array([[0.5], [0.75], [0.25]])
    result = make_result(
        cfg,
        evaluation_iterations=np.asarray([5]),
        evaluations={"train_loss": {"sgd": losses}, "test_accuracy": {"sgd": accuracies}},
        failed={"sgd": np.array([False, False, True])},
        diverged_at={"sgd": np.array([-1, -1, 4])},
    )
    # A failed run counts as the worst: the medians are those of 0.3, 0.1 and ∞, and of 0.5, 0.75 and −∞.
    assert lines_of(result) == [
        "Result of a training on mnist: 1 optimizer, 3 seeds (0 to 2), 5 iterations, batches of 128",
        "at the end, the median over seeds (and the range of those that did not fail):",
        "optimizer  method                     training loss     test accuracy             failed",
        "sgd        sgd(learning_rate=0.1235)  0.3 (0.1 to 0.3)  50.00 % (50.00 to 75.00)  1 of 3",
        "sgd: 1 run diverged, the first at iteration 4",
    ]


@pytest.mark.parametrize("seeds", [1, 8])
def test_a_training_of_several_optimizers_begins_with_the_answer_that_the_terminal_gives(seeds):
    optimizers = {label: mj.OptimizerConfig("sgd", learning_rate=0.1) for label in ("a", "b")}
    result = make_result(mj.Config(iterations=5, seeds=seeds, optimizers=optimizers), evaluation_iterations=[1, 5])
    (answer,) = answer_of_training(result).sentences
    title, *lines = lines_of(result)
    assert title.startswith("Result of a training on mnist: 2 optimizers")
    assert " ".join(lines).startswith(answer)
    assert "Whether b helps" in answer if seeds == 1 else "b" in answer
    # An interrupted one has none.
    stopped = dataclasses.replace(result, config=dataclasses.replace(result.config, iterations=9))
    assert answer not in repr(stopped)


def test_an_interrupted_training_says_so_and_has_its_last_losses():
    cfg = mj.Config(iterations=2000, optimizers={"sgd": mj.OptimizerConfig("sgd", learning_rate=0.1)})
    result = make_result(cfg, evaluation_iterations=np.asarray([], int), failed={"sgd": np.array([False])})
    assert "last loss before an update" in repr(result)
    assert f"{result.losses_before['sgd'][0, -1]:.4g}" in repr(result)
    assert "interrupted after 5 of 2,000 iterations" in repr(result)


def test_a_sweep_shows_the_best_trial_of_each_optimizer_first():
    to_come = [("a", 2, 0), *(("b", position, seed) for position in (1, 2) for seed in (0, 1))]
    title, progress, _, _, *rows = lines_of(sweep_of({"a": GRID, "b": GRID}, (0, 1), missing=to_come))
    assert "2 optimizers, 6 trials, 2 seeds (0 to 1)" in title
    assert progress == "7 runs, 4 of them failed; 5 still to come"
    # The loss grows with the distance of the rate from 0.1, and the rate 1 fails, the only one of b that has runs.
    assert [row.replace("(", " ").replace(",", " ").split()[:3:2] for row in rows] == [
        ["a", "learning_rate=0.1"],
        ["b", "learning_rate=1"],
        ["a", "learning_rate=0.01"],
        ["a", "learning_rate=1"],
    ]
    assert rows[2].endswith("0 of 1")
    assert rows[3].split()[-4:] == ["failed", "2", "of", "2"]


@pytest.mark.parametrize("evaluated", [True, False])
def test_no_history_of_a_sweeps_folder_is_read_to_show_it(evaluated):
    def read():
        raise AssertionError("a history is read")

    result = sweep_of({"a": GRID, "b": GRID}, (0, 1))
    unread = dataclasses.replace(
        result,
        losses_before=OnDemand(("a", "b"), read, ("losses_before",)),
        evaluations=result.evaluations if evaluated else {},
    )
    check_shown(unread)
    assert ("training loss" in repr(unread)) == evaluated
    if evaluated:
        assert repr(unread) == repr(result)
        assert unread._repr_html_() == result._repr_html_()


@pytest.mark.parametrize("evaluated", [True, False])
def test_a_training_without_the_histories_of_some_optimizers_is_shown_without_the_answer(evaluated):
    whole = make_result(evaluations=make_result().evaluations if evaluated else {})
    part = dataclasses.replace(whole, losses_before={"sgd": whole.losses_before["sgd"]})
    check_shown(part)
    assert set(lines_of(whole)) - set(lines_of(part)) >= set(answer_of_training(whole).sentences[:1])
    assert part._repr_html_().count("<svg") == 1


def test_a_comparison_shows_its_answer_and_its_verdicts_on_the_training_loss_first(compared):
    lines = lines_of(compared)
    assert lines[0].startswith("Comparison of sgd, <b>momentum</b> on mnist: 8 seeds")
    assert lines[1].startswith("'<b>momentum</b>' helps with each at its best")
    rows = [line.split() for line in lines[lines.index(next(r for r in lines if r.startswith("protocol"))) + 1 :]]
    assert [row[:4] for row in rows[:2]] == [
        ["same", "train_loss", LABELS[1], "sgd"],
        ["tuned", "train_loss", LABELS[1], "sgd"],
    ]
    verdict = compared.verdict("tuned", "train_loss", LABELS[1], "sgd")
    assert f"{verdict.median_a:.4g} / {verdict.median_b:.4g}" in repr(compared)
    assert compared._repr_html_().count("stroke-dasharray") == 2


def test_a_config_shows_its_optimizers_and_what_is_not_at_its_default():
    momentum = mj.OptimizerConfig("momentum", learning_rate=0.01, momentum=0.9)
    cfg = mj.Config(seeds=(5, 3), dtype="float64", l2=0.1, optimizers={"m": momentum})
    assert lines_of(cfg) == [
        "Config of mnist: 2 seeds (5, 3), 2,000 iterations, batches of 128",
        "also l2=0.1, dtype='float64'",
        "optimizer  description",
        f"m          {momentum!r}",
    ]


@pytest.fixture(scope="module")
def path():
    sgd = mj.OptimizerConfig("sgd", learning_rate=0.5)
    return mj.trajectory(sgd, "valley", [[4.0, 4.0], [0.0, 1.0]], iterations=2)


def test_a_trajectory_shows_where_its_paths_begin_and_end(path):
    # The curvatures are 0.1 and 2, so that a step multiplies the coordinates by 0.95 and 0.
    assert lines_of(path) == [
        "Trajectory of 2 paths: 2 iterations in 2 dimensions",
        "0 of them diverged; the others end at 0.3258 (median; 0 to 0.6516)",
        "path  from    to         value           diverged",
        "0     (4, 4)  (3.61, 0)  16.8 to 0.6516  no",
        "1     (0, 1)  (0, 0)     1 to 0          no",
    ]
    assert len(lines_of(jax.tree.map(lambda a: a[0], path))) == 3


def test_a_trajectory_without_numbers_shows_its_shapes(path):
    shown = []

    def traced(path):
        shown.append(repr(path))
        check_shown(path)
        return path

    jax.eval_shape(traced, path)
    assert "points     float32[2, 3, 2] traced" in shown[0]
    jax.vmap(traced)(path)
    assert "points     float32[3, 2] traced" in shown[1]
    for leaves in (None, 0, object(), jax.ShapeDtypeStruct((2,), jnp.float32), np.zeros(3), np.array([None])):
        check_shown(Trajectory(leaves, leaves, leaves, leaves))
    assert "float32[2]" in repr(Trajectory(*[jax.ShapeDtypeStruct((2,), jnp.float32)] * 4))


def test_a_trajectory_whose_arrays_were_given_away_shows_their_shapes(path):
    copied = jax.tree.map(jnp.copy, path)
    copied.points.delete()
    assert "float32[2, 3, 2]" in repr(copied)


def test_data_is_shown_by_its_size(mnist):
    assert lines_of(mnist) == [
        "Dataset embedded MNIST: images of 28×28, 10 classes",
        "part      examples  of each class",
        "training  60,000    5,421 to 6,742",
        "test      10,000    892 to 1,135",
    ]
    task = mj.Task(
        init=len, loss=host_runs.fails, train={"x": np.zeros((5, 2)), "y": np.zeros(5, np.int32)}, has_key=True
    )
    assert lines_of(task) == [
        "Task: data of one's own",
        "field    value",
        "init     builtins:len",
        "loss     tests.sweeps.host_runs:fails",
        "train    float64[5, 2], int32[5]",
        "has_key  yes",
    ]
    for landscape in landscapes.available():
        check_shown(landscapes.make_landscape(landscape))


def test_data_on_the_host_is_not_read_to_show_it(tmp_path):
    rows = np.memmap(tmp_path / "rows", np.float32, "w+", shape=(7, 3))
    assert "7 examples, read when they are needed" in repr(mj.Task(init=len, loss=max, train=rows))
