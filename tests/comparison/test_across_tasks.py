"""`compare_tasks`: what it gives to `compare`, what it keeps, and what it refuses."""

import contextlib
import dataclasses
import json
import shutil

import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax.analysis import simultaneous_level
from momentum_jax.comparison import across_tasks, procedure
from momentum_jax.comparison.task_answer import answer_of_tasks
from momentum_jax.comparison.task_folder import TASKS, folder_of, write_tasks_head
from momentum_jax.training import compile as programs
from momentum_jax.training.loop import Interrupted
from tests.comparison.small import OPTIMIZERS
from tests.compiling import compile_quickly, quick_options

TEXTS = ["least_squares,dimensions=4", "least_squares,dimensions=3,mu=0.1"]
CFG = mj.Config(iterations=40, batch_size=8, seeds=9)
OPTIONS = {"rerun_seeds": 0, "trials": 2, "tuning_seeds": 2, "space": {"learning_rate": mj.LogUniform(0.01, 0.5)}}


TWO = {"first task": TEXTS[0], "second task": TEXTS[0]}
FIRST, SECOND = TWO
SMALL = {"trials": 1, "tuning_seeds": 1, "rerun_seeds": 1, "space": {"learning_rate": [0.1, 0.2]}}
FEW = mj.Config(iterations=12, batch_size=8, seeds=2)


def seconds_per_step(cfg, trials, *_):
    return {label: [[0.001] * 5] * len(own) for label, own in trials.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tasks") / "t"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A comparison over two tasks, and its folder. The second is the first one again, so that nothing is trained."""
    quick_options()
    folder = tmp_path_factory.mktemp("small") / "t"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs, "_compile", compile_quickly)
        patch.setattr(procedure, "measure_steps", seconds_per_step)
        mj.compare_tasks({FIRST: TWO[FIRST]}, OPTIMIZERS, cfg=FEW, folder=folder, **SMALL)
        shutil.copytree(folder / folder_of(FIRST), folder / folder_of(SECOND))
        return mj.compare_tasks(TWO, OPTIMIZERS, cfg=FEW, folder=folder, **SMALL), folder


@pytest.mark.exhaustive
@pytest.mark.usefixtures("compiled_quickly")
def test_every_task_is_compared_in_a_folder_of_its_own_and_the_same_call_trains_nothing(folder, monkeypatch):
    monkeypatch.setattr(procedure, "measure_steps", seconds_per_step)
    compared = mj.compare_tasks(TEXTS, OPTIMIZERS, cfg=CFG, folder=folder, **OPTIONS)
    assert list(compared.comparisons) == TEXTS
    for name, own in compared.comparisons.items():
        loaded = mj.Comparison.load(folder / folder_of(name))
        assert loaded.verdicts == own.verdicts
        assert own.plan["level"] == simultaneous_level(0.95, 2)
        # All tuning runs of the first optimizer's best trial reach the target in three quarters of the iterations.
        losses = own.tuning.train_loss["sgd"]
        best = own.tuning.losses_before["sgd"][np.argmin(np.median(losses, axis=1))]
        assert (best[:, :30].min(axis=1) <= own.target * 1.5).all()
    assert "targets rest on 2 tuning runs of sgd" in compared.notes[0]
    monkeypatch.setattr("momentum_jax.sweeps.workers.train_batches", lambda *_: pytest.fail("trained again"))
    again = mj.compare_tasks(
        {"x": mj.Config(task=TEXTS[0], iterations=40, batch_size=8)},
        OPTIMIZERS,
        cfg=CFG,
        **OPTIONS,
        folder=rename(folder),
    )
    np.testing.assert_array_equal(again.profiles["tuned"].times, compared.profiles["tuned"].times[:, :1])


def rename(folder):
    """The folder, with that of the first task under the name of another."""
    (folder / folder_of(TEXTS[0])).rename(folder / "x")
    return folder


def test_without_a_folder_all_can_be_read_after_the_call(small, monkeypatch, tmp_path):
    @contextlib.contextmanager
    def temporary_folder():
        # With all runs, so that none is trained.
        yield (folder := shutil.copytree(small[1], tmp_path / "temporary"))
        shutil.rmtree(folder)

    monkeypatch.setattr(across_tasks, "temporary_folder", temporary_folder)
    compared = mj.compare_tasks(TWO, OPTIMIZERS, cfg=FEW, **SMALL)
    assert not (tmp_path / "temporary").exists()
    for name, own in compared.comparisons.items():
        kept = small[0].comparisons[name]
        assert (own.tuning, own.rerun, own.judged) == (kept.tuning, kept.rerun, kept.judged)
    assert "targets rest on 1 rerun of sgd" in compared.notes[0]


def test_a_folder_is_read_as_what_the_call_returned(small):
    compared, folder = small
    loaded = mj.TaskComparison.load(str(folder))
    assert list(loaded.comparisons) == [*TWO]
    for name, own in compared.comparisons.items():
        assert repr(loaded.comparisons[name].verdicts) == repr(own.verdicts)
        assert loaded.comparisons[name].target == own.target is not None
    assert repr(loaded.summary) == repr(compared.summary)
    assert (loaded.level, loaded.notes) == (compared.level, compared.notes)


def test_tasks_that_are_not_judged_yet_are_left_out_and_the_others_judged_for_all(small, tmp_path):
    folder = shutil.copytree(small[1], tmp_path / "t")
    write_tasks_head(folder, [*TWO, "mlp"], 0.9)
    shutil.rmtree(folder / folder_of(SECOND) / "judging")
    loaded = mj.TaskComparison.load(folder)
    assert list(loaded.comparisons) == [FIRST]
    assert loaded.comparisons[FIRST].plan["level"] == simultaneous_level(0.9, 3)
    assert loaded.notes[:2] == tuple(f"{name} is not judged yet and is left out" for name in (SECOND, "mlp"))
    write_tasks_head(folder, ["mlp"], 0.9)
    with pytest.raises(mj.InputError, match="no run is judged yet"):
        mj.TaskComparison.load(folder)
    with pytest.raises(mj.InputError, match="holds no comparison over tasks that can be read"):
        mj.TaskComparison.load(tmp_path)


def test_report_and_status_know_the_folder(small, main, tmp_path, capsys):
    compared, folder = small[0], shutil.copytree(small[1], tmp_path / "t")
    page = folder / folder_of(SECOND) / "report.html"
    page.write_text("a page")
    main(["report", str(folder), "--figures", "figures"])
    names = ["profile.png", "profile.svg", "profile.pdf"]
    assert {*capsys.readouterr().out.split()} >= {str(folder / "report.html"), *(f"figures/{name}" for name in names)}
    document = (folder / "report.html").read_text(encoding="utf-8")
    assert answer_of_tasks(compared).sentences[0] in document
    assert [f'"page":"{folder_of(name)}/report.html"' in document for name in TWO] == [False, True]
    with pytest.raises(SystemExit):
        main(["report", str(folder), str(folder)])
    assert "holds a comparison, which has a page of its own" in capsys.readouterr().err
    write_tasks_head(folder, [*TWO, "mlp"], 0.95)
    main(["status", str(folder)])
    lines = capsys.readouterr().out.splitlines()
    assert f"{FIRST}: judging: finished: 10 of 10 runs, 0 failed" in lines
    assert lines[-1] == "mlp: nothing is trained yet"
    main(["status", str(folder), "--json"])
    status = json.loads(capsys.readouterr().out)
    assert (status["kind"], list(status["tasks"])) == ("tasks", [*TWO, "mlp"])
    assert status["tasks"][FIRST]["tuning"]["finished"] == 2


OF_ANOTHER_SHAPE = mj.Task(
    init=lambda key: np.zeros([3], np.float32),
    loss=lambda params, batch: ((params - batch) ** 2).mean(),
    train=np.zeros([40, 4], np.float32),
)


@pytest.mark.parametrize(
    ("third", "options", "message"),
    [
        ("least_squares,dimension=3", {}, "did you mean 'dimensions'"),
        (mj.Config(dataset="minst"), {}, "minst"),
        (mj.Config(task="least_squares,examples=40", sampling="epochs", batch_size=50), {}, "task 'c': .*batch_size"),
        (OF_ANOTHER_SHAPE, {}, "task 'c': "),
        ("least_squares,examples=40", {"validation": 300}, "task 'c': validation must be"),
    ],
    ids=["text", "dataset", "batch size", "shapes", "validation"],
)
def test_a_mistake_in_a_later_task_is_refused_before_the_first_is_trained(
    third, options, message, monkeypatch, tmp_path
):
    monkeypatch.setattr(across_tasks, "run_comparison", lambda *_, **__: pytest.fail("trained"))
    tasks = {"a": "least_squares,examples=4000", "b": "least_squares,examples=4000", "c": third}
    with pytest.raises(mj.InputError, match=message):
        mj.compare_tasks(tasks, OPTIMIZERS, cfg=FEW, folder=tmp_path / "t", **(SMALL | options))
    assert not (tmp_path / "t").exists()


def test_another_comparison_in_the_folder_of_a_later_task_is_refused_before_the_first_is_trained(
    small, monkeypatch, tmp_path
):
    monkeypatch.setattr(across_tasks, "run_comparison", lambda *_, **__: pytest.fail("trained"))
    folder = shutil.copytree(small[1], tmp_path / "t")
    before = (folder / TASKS).read_bytes()
    tasks = TWO | {SECOND: mj.Config(task=TEXTS[0], iterations=13, batch_size=8)}
    with pytest.raises(mj.InputError, match=r"holds another comparison: .*iterations"):
        mj.compare_tasks(tasks, OPTIMIZERS, cfg=FEW, folder=folder, **SMALL)
    assert (folder / TASKS).read_bytes() == before


def test_a_folder_that_is_there_and_empty_stays_so_where_a_later_task_is_refused(small, monkeypatch, tmp_path):
    monkeypatch.setattr(across_tasks, "run_comparison", lambda *_, **__: pytest.fail("trained"))
    folder = tmp_path / "t"
    (folder / folder_of(FIRST)).mkdir(parents=True)
    shutil.copytree(small[1] / folder_of(SECOND), folder / folder_of(SECOND))
    with pytest.raises(mj.InputError, match="holds another comparison"):
        mj.compare_tasks(TWO, OPTIMIZERS, cfg=FEW, folder=folder, **SMALL, search_seed=1)
    assert list((folder / folder_of(FIRST)).iterdir()) == []


def test_an_interrupt_before_anything_is_trained_is_one_of_a_comparison(monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(across_tasks, "plan_comparison", stop)
    with pytest.raises(Interrupted):
        mj.compare_tasks(TEXTS, OPTIMIZERS, cfg=FEW)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("mlp", OPTIMIZERS), {}, "tasks must map names to tasks, or list texts"),
        (([], OPTIMIZERS), {}, "tasks must hold at least one task"),
        (({"a": 1}, OPTIMIZERS), {}, "task 'a' must be a text, a Config, a Task or a HostTask, not 1"),
        (({"a b": "mlp", "a-b": "mlp"}, OPTIMIZERS), {}, "'a b' and 'a-b' would have the same folder, 'a-b'"),
        (({" ": "mlp"}, OPTIMIZERS), {}, "a task's name must be printable text"),
        ((["convent"], OPTIMIZERS), {}, "did you mean 'convnet'"),
        ((["mlp"], OPTIMIZERS), {"target": 0.1}, "target is taken from reruns on each task"),
        ((["mlp"], OPTIMIZERS), {"trails": 3}, "did you mean 'trials'"),
        ((["mlp"], OPTIMIZERS), {"judge_by": ["test_loss"]}, "judge_by must hold 'iterations_to_target'"),
        ((["mlp"], OPTIMIZERS), {"level": 1.0}, "level"),
        ((["mlp"], OPTIMIZERS), {"cfg": 3}, "cfg must be a Config, not 3"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_trained(arguments, options, message):
    with pytest.raises(mj.InputError, match=message.replace("(", r"\(")):
        mj.compare_tasks(*arguments, **options)


def test_a_folder_of_a_comparison_on_one_task_is_refused(tmp_path):
    (tmp_path / "comparison.json").write_text("{}")
    with pytest.raises(mj.InputError, match="holds a comparison on one task"):
        mj.compare_tasks(["mlp"], OPTIMIZERS, cfg=dataclasses.replace(CFG), folder=tmp_path)
