"""The command line: as a process where that matters, and in this one, which has JAX loaded, for the many cases."""

import dataclasses
import importlib.metadata
import json
import pathlib
import re
import shutil
import subprocess
import types

import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax import cli
from momentum_jax._base.files import lock
from momentum_jax.cli import agreement
from momentum_jax.training import loop
from momentum_jax.training.checkpoint import lock_path
from tests.cli.commands import ENVIRONMENT, ONE, SMALL, interrupt, run, tree

FILES = ["config.json", "losses.png", "losses.svg", "result.json", "runs.parquet"]


@dataclasses.dataclass
class Finished:
    """A command that came to its end, and the folder it wrote."""

    process: subprocess.CompletedProcess
    arguments: list[str]
    cwd: pathlib.Path

    @property
    def folder(self):
        (folder,) = (self.cwd / "runs").iterdir()
        return folder

    @property
    def lines(self):
        return self.process.stdout.splitlines()


@pytest.fixture(scope="session")
def finished(idx, tmp_path_factory):
    arguments = ["--dataset", str(idx), *SMALL]
    cwd = tmp_path_factory.mktemp("cwd")
    return Finished(run(arguments, cwd), arguments, cwd)


def rows(lines, title):
    """The table below a title, as words by the first word of each row."""
    start = next(i for i, line in enumerate(lines) if line.startswith(title)) + 2
    body = [line.split() for line in lines[start:]]
    width = len(body[0])
    end = next((i for i, words in enumerate(body) if len(words) != width), len(body))
    return {words[0]: words[1:] for words in body[:end]}


def test_a_finished_command_exits_with_0_and_leaves_a_folder_that_loads(finished):
    assert finished.process.returncode == 0, finished.process.stderr
    assert sorted(path.name for path in finished.folder.iterdir()) == FILES
    result = mj.Result.load(finished.folder)
    assert list(result.losses) == ["sgd", "momentum", "optax"]
    assert result.losses["momentum"].shape == (1, 30)
    assert result.config == mj.Config(
        dataset=finished.arguments[1], hidden_sizes=(8,), iterations=30, batch_size=16, seeds=1
    )


def test_without_out_the_folder_is_named_after_dataset_and_config(finished):
    assert finished.folder.name == f"idx-{mj.Result.load(finished.folder).config.digest[:8]}"
    written = f"written: runs/{finished.folder.name}/ with losses.png and losses.svg, after "
    (seconds,) = (line.removeprefix(written) for line in finished.lines if line.startswith(written))
    # Those before and after the training are among them.
    assert int(seconds.split()[0]) >= int(sum(mj.Result.load(finished.folder).provenance["seconds"].values()))


def test_the_printed_losses_are_those_of_the_result(finished):
    # As printed, to four digits behind the point.
    losses = mj.Result.load(finished.folder).losses
    assert rows(finished.lines, "loss on the batch") == {
        str(row): [f"{losses[label][0, row]:.4f}" for label in ("sgd", "momentum", "optax")] for row in (0, 10, 20, 29)
    }


def test_the_printed_summary_is_that_of_the_result(finished):
    result = mj.Result.load(finished.folder)
    assert rows(finished.lines, "at the end") == {
        label: [
            f"{result.train_loss[label][0]:.4f}",
            f"{100 * result.test_accuracy[label][0]:.2f}%",
            *f"{int(result.failed[label][0])} of 1".split(),
        ]
        for label in result.config.optimizers
    }


def test_momentum_is_said_to_agree_with_the_witness_and_sgd_with_none(finished):
    (line,) = (line for line in finished.lines if " agree to " in line)
    assert line == "momentum and optax agree to 1e-06 at every iteration."


@pytest.mark.parametrize(
    ("name", "hyperparameters", "in_optax"),
    [
        ("sgd", {}, {}),
        ("momentum", {"momentum": 0.5}, {"momentum": 0.5}),
        ("nesterov", {}, {"momentum": 0.9, "nesterov": True}),
        ("qhm", {}, None),
        ("momentum", {"learning_rate": mj.Schedule("constant", value=0.1)}, None),
        (
            "momentum",
            {"learning_rate": mj.Schedule("constant", value=0.1), "convention": "outside"},
            {"learning_rate": mj.Schedule("constant", value=0.1), "momentum": 0.9},
        ),
    ],
)
def test_optax_has_sgd_momentum_and_nesterov_with_the_rate_outside_the_velocity(name, hyperparameters, in_optax):
    rate = {"learning_rate": 0.1}
    twin = agreement._in_optax(mj.OptimizerConfig(name, **rate | hyperparameters))
    assert twin == (None if in_optax is None else mj.OptimizerConfig("optax.sgd", **rate | in_optax))


def agreement_of(ours, theirs, dtype="float32", final=None):
    """What is said of losses [seeds, iterations] of momentum and of its twin, and of their final losses [seeds]."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    final = (ours[:, -1], theirs[:, -1]) if final is None else final
    optimizers = {
        "m": mj.OptimizerConfig("momentum", learning_rate=0.1),
        "o": mj.OptimizerConfig("optax.sgd", learning_rate=0.1, momentum=0.9),
    }
    cfg = mj.Config(iterations=ours.shape[1], seeds=len(ours), dtype=dtype, optimizers=optimizers)
    (sentence,) = agreement.agreements(
        types.SimpleNamespace(
            config=cfg,
            iterations=np.arange(ours.shape[1]),
            batch_losses=({"m": ours, "o": theirs}, "after"),
            final_losses=lambda label: np.asarray(final[label == "o"]),
        )
    )
    return sentence


def test_of_twins_that_part_is_said_what_is_known_and_no_cause():
    # A relative difference of 1e-3 from iteration 2 or 3 on; the ends of three seeds are 10 % apart.
    ours = np.array([[1, 1, 1, 0.9], [1, 1, 1, 1], [1, 1, 1, 1.0]])
    theirs = ours * np.array([[1, 1, 1.001, 1.001], [1, 1, 1, 1.001], [1, 1, 1.001, 1.001]])
    assert agreement_of(ours, theirs) == (
        "m and o agree to 1e-06 until iterations 2 to 3; at the end their losses differ by 0.10%, and the seeds of m "
        "by 10.00%."
    )
    assert " until iteration 2; " in agreement_of(ours[::2], theirs[::2])
    assert agreement_of(ours[:1], theirs[:1]).endswith("at the end their losses differ by 0.10%.")


def test_of_twins_of_which_one_diverged_no_distance_is_said():
    ours, theirs = [[1, np.nan]], [[1, 1.0]]
    assert agreement_of(ours, theirs).split("; ")[1] == "not all of their runs end finite."
    assert agreement_of(ours, ours) == "m and o agree to 1e-06 at every iteration."


@pytest.mark.exhaustive
@pytest.mark.usefixtures("compiled_quickly")
def test_under_a_schedule_only_the_convention_of_the_witness_is_said_to_agree(main, idx, capsys):
    rate = "learning_rate=step_decay(init_value=0.1,transition_steps=5,decay_rate=0.1)"
    rules = {"in": "momentum", "out": "momentum,convention=outside", "optax": "optax.sgd,momentum=0.9"}
    flags = [word for label, rule in rules.items() for word in ("--optimizer", f"{label}={rule},{rate}")]
    main(["train", "--dataset", str(idx), *SMALL, *flags])
    lines = [line for line in capsys.readouterr().out.splitlines() if " agree to " in line]
    assert [line[:30] for line in lines] == ["out and optax agree to 1e-06 a"]


def test_where_output_is_no_terminal_lines_are_plain(finished):
    for text in (finished.process.stdout, finished.process.stderr):
        assert not re.search("[\x1b\r\u2500-\u259f]", text)
    assert all(line == line.rstrip() or len(line) <= 120 for line in finished.lines)


@pytest.mark.exhaustive
def test_the_same_command_again_gives_the_same_bits_and_quiet_prints_nothing(idx, tmp_path):
    arguments = ["--dataset", str(idx), *SMALL, *ONE, "--out", "o"]
    assert run(arguments, tmp_path, environment=ENVIRONMENT).returncode == 0
    before = tree(tmp_path / "o")
    process = run([*arguments, "--quiet"], tmp_path, environment=ENVIRONMENT)
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")
    after = tree(tmp_path / "o")
    assert after.keys() == before.keys()
    # Only result.json differs: it holds the seconds.
    assert {path.name for path in after if after[path] != before[path]} <= {"result.json"}


@pytest.mark.usefixtures("compiled_quickly")
def test_quiet_prints_nothing_and_with_json_the_document(main, idx, capsys):
    main(["--dataset", str(idx), *SMALL, *ONE, "--quiet"])
    assert capsys.readouterr() == ("", "")
    main(["--dataset", str(idx), *SMALL, *ONE, "--quiet", "--json"])
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert err == ""
    result = mj.Result.load(document["folder"])
    assert document["optimizers"]["a"]["metrics"]["train_loss"]["values"] == [float(result.train_loss["a"][0])]
    assert document["answer"]["sentences"][0].startswith(
        "a ends after 30 iterations with a loss on the training set of "
    )
    main(["status", document["folder"], "--json"])
    status = {"kind": "training", "state": "finished", "done": 30, "iterations": 30, "runs": 1, "failed": 0}
    assert json.loads(capsys.readouterr().out) == {"folder": document["folder"], **status}


@pytest.mark.usefixtures("compiled_quickly")
def test_a_task_by_name_is_trained_and_names_the_folder(main, capsys):
    main(["--task", "least_squares, dimensions=3, examples=40", "--iterations", "5", "--batch-size", "8", *ONE])
    ((folder,), lines) = (list(pathlib.Path("runs").iterdir()), capsys.readouterr().out.splitlines())
    result = mj.Result.load(folder)
    assert result.config.task == "least_squares,examples=40,dimensions=3"
    assert folder.name == f"least-squares-{result.config.digest[:8]}"
    # It has no labels, and so no accuracy.
    assert rows(lines, "at the end")["a"][:2] == [f"{result.train_loss['a'][0]:.4f}", "-"]


def test_the_installed_command_is_this_main():
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="momentum-jax")
    assert script.load() is cli.main


def test_every_field_of_the_config_is_a_flag_explained_in_the_help(main, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    for field in dataclasses.fields(mj.Config):
        flag = {"optimizers": "optimizer"}.get(field.name, field.name).replace("_", "-")
        assert re.search(rf"^\W*--{flag}[ ,]", text, re.MULTILINE), flag
    assert "parameter updates of each run" in text
    words = set(re.findall(r"[\w-]+", text.partition("Other commands")[2].partition("Exit codes")[0]))
    assert set(cli.COMMANDS) <= words


@pytest.mark.parametrize(
    ("arguments", "changed"),
    [
        ([], {}),
        (["--seeds", "3"], {"seeds": (0, 1, 2)}),
        (["--seeds", "3", "5"], {"seeds": (3, 5)}),
        (["--hidden-sizes", "8", "4", "--activation", "tanh"], {"hidden_sizes": (8, 4), "activation": "tanh"}),
        (["--weight-init", "0.1", "--l2", "1e-4"], {"weight_init": 0.1, "l2": 1e-4}),
        (["--weight-init", "xavier", "--no-shared-init"], {"weight_init": "xavier", "shared_init": False}),
        (["--iterations", "7", "--batch-size", "9"], {"iterations": 7, "batch_size": 9}),
        (["--sampling", "epochs", "--dtype", "float64"], {"sampling": "epochs", "dtype": "float64"}),
        (["--task", "convnet, channels=(8,16), batch_norm=yes"], {"task": "convnet,channels=(8,16),batch_norm=true"}),
        (["--evaluate-every", "50", "--dataset", "x"], {"evaluate_every": 50, "dataset": "x"}),
        (
            ["--optimizer", "a=nesterov,learning_rate=0.01,momentum=0.5", "--optimizer", "b=optax.adam"],
            {
                "optimizers": {
                    "a": mj.OptimizerConfig("nesterov", learning_rate=0.01, momentum=0.5),
                    "b": mj.OptimizerConfig("optax.adam"),
                }
            },
        ),
        (
            ["--optimizer", "s=sgd,learning_rate=step_decay(init_value=0.1,transition_steps=5,decay_rate=0.5)"],
            {
                "optimizers": {
                    "s": mj.OptimizerConfig(
                        "sgd",
                        learning_rate=mj.Schedule("step_decay", init_value=0.1, transition_steps=5, decay_rate=0.5),
                    )
                }
            },
        ),
    ],
)
def test_the_flags_make_the_config_and_leave_the_rest_at_its_defaults(arguments, changed, main, monkeypatch):
    trained = []

    def train(cfg, **_):
        trained.append(cfg)
        raise KeyboardInterrupt

    monkeypatch.setattr("momentum_jax.training.loop.train", train)
    with pytest.raises(SystemExit):
        main(arguments)
    assert trained == [mj.Config(**changed)]


@pytest.mark.parametrize(
    ("command", "called"),
    [
        ([], "momentum_jax.training.loop.train"),
        (["sweep", "--grid", "learning_rate=0.1"], "momentum_jax.cli.sweep.sweep"),
        (["compare"], "momentum_jax.comparison.procedure.compare"),
    ],
    ids=["train", "sweep", "compare"],
)
def test_commands_that_train_keep_compiled_programs_in_the_folder_asked_for(command, called, main, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    folders = []
    monkeypatch.setattr("momentum_jax.cli.jax_setup.use_compilation_cache", folders.append)
    monkeypatch.setattr(called, interrupt)
    with pytest.raises(SystemExit):
        main([*command, "--compilation-cache", "here"])
    assert folders == ["here"]


# Rich would read [bold] as a style and [/far] as its end, Matplotlib $…$ as a formula.
@pytest.mark.usefixtures("compiled_quickly")
def test_diverged_runs_and_labels_of_any_characters_are_shown_as_they_are(idx, main, capsys):
    good, bad = r"$\x$[bold]", "[/far]:smile:"
    schedule = "step_decay(init_value=0.1,transition_steps=5,decay_rate=0.5)"
    flags = ["--optimizer", f"{good}=sgd,learning_rate={schedule}", "--optimizer", f"{bad}=momentum,learning_rate=1e30"]
    main(["--dataset", str(idx), *SMALL, "--seeds", "3", "5", *flags, "--out", "o"])
    result = mj.Result.load("o")
    assert result.config.seeds == (3, 5)
    assert not result.failed[good].any()
    assert (result.diverged_at[bad] >= 0).all()
    lines = capsys.readouterr().out.splitlines()
    assert next(line.split() for line in lines if line.startswith("iteration")) == ["iteration", good, bad]
    summary = rows(lines, "at the end, median of 2 seeds")
    assert summary[good][0] == f"{np.median(result.train_loss[good]):.4f}"
    assert summary[good][-3:] == ["0", "of", "2"]
    first = result.diverged_at[bad].min()
    assert next(line for line in lines if line.startswith(bad)).split()[-4:] == ["2", "of", "2", str(first)]
    assert good in pathlib.Path("o/losses.svg").read_text()


def test_the_status_of_a_training_tells_its_state(finished, main, capsys, idx, monkeypatch):
    def status(folder):
        main(["status", str(folder)])
        return capsys.readouterr().out

    assert status(finished.folder) == "finished: 30 of 30 iterations of 3 runs, 0 failed\n"
    chunks = []

    def stop(*arguments, **options):
        if len(chunks) == 2:
            raise KeyboardInterrupt
        chunks.append(1)
        return advance(*arguments, **options)

    advance = loop.advance
    monkeypatch.setattr(loop, "advance", stop)
    with pytest.raises(SystemExit):
        main(["--dataset", str(idx), *SMALL, *ONE, "--iterations", "300", "--out", "o", "--quiet"])
    capsys.readouterr()
    expected = "not finished: 200 of 300 iterations in the checkpoint; the same command goes on from there\n"
    assert status("o") == expected
    with lock(lock_path(pathlib.Path("o/checkpoint.npz")), "it", "training"):
        assert status("o") == expected.replace("not finished", "running")
    pathlib.Path("o/checkpoint.npz").rename("kept")
    assert status("o") == "interrupted: 200 of 300 iterations of 1 run, 0 failed\n"
    with lock(lock_path(pathlib.Path("o/checkpoint.npz")), "it", "training"):
        assert status("o") == "running: no checkpoint is written yet\n"
    pathlib.Path("kept").rename("o/checkpoint.npz")
    # Killed before it saved a result.
    pathlib.Path("o/result.json").unlink()
    assert status("o") == expected
    shutil.copy("o/config.json", "o/checkpoint.npz")
    with pytest.raises(SystemExit):
        status("o")
    assert "checkpoint 'o/checkpoint.npz' is damaged" in capsys.readouterr().err


def test_the_result_of_another_config_is_left_as_it_is(finished, refused):
    shutil.copytree(finished.folder, "o")
    message = refused(*finished.arguments, "--iterations", "31", "--out", "o")
    assert message.count("\n") == 1
    assert [f for f in ("output folder 'o'", "iterations", "30", "31", "another folder") if f not in message] == []


@pytest.mark.exhaustive
def test_ctrl_c_during_training_exits_with_130_and_saves_what_was_finished(idx, tmp_path):
    # More iterations than anybody waits for, and few in the ten seconds before the first line, so that little is saved.
    slow = ["--hidden-sizes", "400", "400", "--batch-size", "16"]
    arguments = ["--dataset", str(idx), *slow, *ONE, "--iterations", "10000000", "--out", "o"]
    code, errors = interrupt(arguments, tmp_path, stream="stderr", beginning="training: ")
    assert code == 130
    result = mj.Result.load(tmp_path / "o")
    done = len(result.iterations)
    assert 0 < done < 10_000_000
    assert done % 100 == 0
    assert result.losses["a"].shape == (1, done)
    assert np.isfinite(result.test_accuracy["a"]).all()
    assert errors.splitlines()[-1] == (
        f"momentum-jax: interrupted after {done} of 10000000 iterations; these are saved, and the same command goes on "
        "from there"
    )
    assert "Traceback" not in errors


@pytest.mark.exhaustive
def test_ctrl_c_before_anything_is_finished_exits_with_130_and_writes_nothing(idx, tmp_path):
    arguments = ["--dataset", str(idx), *SMALL, *ONE, "--iterations", "10000000", "--out", "o"]
    code, errors = interrupt(arguments, tmp_path, stream="stderr", beginning=str(idx))
    assert code == 130
    assert errors.splitlines()[-1] == "momentum-jax: interrupted"
    assert "Traceback" not in errors
    assert tree(tmp_path) == {}
