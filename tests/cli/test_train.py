"""The command line: as a process where that matters, and in this one, which has JAX loaded, for the many cases."""

import dataclasses
import importlib.metadata
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import types

import jax
import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax import cli
from momentum_jax.analysis import smooth_curve
from momentum_jax.cli import agreement, jax_setup
from momentum_jax.training import loop
from tests.compiling import quick_environment

COMMAND = [sys.executable, "-c", "from momentum_jax.cli import main; main()"]
SMALL = ["--hidden-sizes", "8", "--iterations", "30", "--batch-size", "16"]
ONE = ["--optimizer", "a=sgd,learning_rate=0.01"]
# What makes a program believe that it writes to a terminal.
TERMINAL_VARIABLES = {"FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"}
ENVIRONMENT = {key: value for key, value in os.environ.items() if key not in TERMINAL_VARIABLES}
QUICK = ENVIRONMENT | {"XLA_FLAGS": quick_environment()["XLA_FLAGS"]}
FILES = ["config.json", "losses.png", "losses.svg", "result.json", "runs.parquet"]

# Arguments, and what the message must name: the field, the value, what is allowed.
BAD_INPUTS = [
    (["--dataset", "minst"], ["dataset", "'minst'", "'mnist'"]),
    (["--dataset", "~nobody-of-that-name/data"], ["dataset", "~nobody-of-that-name/data"]),
    (["--dataset", "d" * 300], ["dataset", "ddd"]),
    (["--optimizer", "a=momentm,learning_rate=0.1"], ["'a'", "'momentm'", "did you mean 'momentum'?"]),
    (["--optimizer", "a=optax.sgdd,learning_rate=0.1"], ["'a'", "'optax.sgdd'", "did you mean 'optax.sgd'?"]),
    (["--optimizer", "a=sgd,learning_rat=0.1"], ["'a'", "'learning_rat'", "did you mean 'learning_rate'?"]),
    (["--optimizer", "a=sgd"], ["'a'", "needs", "'learning_rate'"]),
    (["--optimizer", "a=sgd,learning_rate=-1"], ["'a'", "learning_rate", "at least 0", "-1"]),
    (["--optimizer", "a=sgd,learning_rate=nan"], ["'a'", "learning_rate", "finite", "nan"]),
    (["--optimizer", "a=sgd,learning_rate=fast"], ["'a'", "learning_rate", "finite", "'fast'"]),
    (["--optimizer", f"a=sgd,learning_rate={10**400}"], ["'a'", "learning_rate", "finite"]),
    (["--optimizer", "a=sgd,learning_rate={[]}"], ["{[]}"]),
    (["--optimizer", "a=optax.sgd,learning_rate=0.1,accumulator_dtype={}"], ["{}"]),
    (["--optimizer", "a=optax.sgd,learning_rate=fast"], ["'a'", "optax.sgd", "learning_rate", "number", "'fast'"]),
    (
        ["--optimizer", "a=optax.sgd,learning_rate=1,nesterov=nope"],
        ["'a'", "optax.sgd", "nesterov", "True or", "'nope'"],
    ),
    (["--optimizer", f"a=optax.adam,learning_rate=0.1,b1={10**30}"], ["'a'", "optax.adam", str(10**30)]),
    (["--optimizer", "a=momentum,learning_rate=0.1,momentum=1.0"], ["'a'", "momentum", "[0, 1)", "1.0"]),
    (["--optimizer", "a=momentum,learning_rate=0.1,momentum=-0.1"], ["'a'", "momentum", "[0, 1)", "-0.1"]),
    (
        ["--optimizer", "a=sgd,learning_rate=step_decai(init_value=1)"],
        ["'step_decai'", "did you mean 'step_decay'"],
    ),
    (["--optimizer", "a=sgd,0.1"], ["'0.1'", "no name"]),
    (["--optimizer", "sgd"], ["LABEL=NAME", "'sgd'"]),
    ([*ONE, *ONE], ["label", "'a'", "twice"]),
    (["--iterations", "0"], ["iterations", "at least 1", "0"]),
    (["--batch-size", "0"], ["batch_size", "at least 1", "0"]),
    (["--hidden-sizes", "8", "-3"], ["hidden_sizes", "at least 1", "-3"]),
    (["--seeds", "3", "5", "3"], ["seeds", "differ", "3"]),
    (["--seeds", "0"], ["seeds", "at least 1", "0"]),
    (["--seeds", "3", "-5"], ["seeds", "at least 0", "-5"]),
    (["--l2", "nan"], ["l2", "finite", "nan"]),
    (["--weight-init", "-1"], ["weight_init", "at least 0", "-1.0"]),
    (["--evaluate-every", "0"], ["evaluate_every", "at least 1", "0"]),
    (["--sampling", "epochs", "--batch-size", "301"], ["batch_size", "300", "301"]),
    (["--out", "file/below"], ["output folder", "'file/below'", "Not a directory"]),
    (["--out", "o" * 300], ["output folder", "ooo"]),
]


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


def run(arguments, cwd, environment=QUICK):
    return subprocess.run([*COMMAND, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="session")
def finished(idx, tmp_path_factory):
    arguments = ["--dataset", str(idx), *SMALL]
    cwd = tmp_path_factory.mktemp("cwd")
    return Finished(run(arguments, cwd), arguments, cwd)


@pytest.fixture
def refused(main, monkeypatch, capsys):
    """Runs the command on what it must refuse, and gives its message."""

    def run(*arguments):
        monkeypatch.setattr(
            "momentum_jax.training.compile._compile_all", lambda *_: pytest.fail("compiled for bad input")
        )
        before = tree(pathlib.Path.cwd())
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 2
        assert tree(pathlib.Path.cwd()) == before
        return capsys.readouterr().err

    return run


def tree(folder):
    """Every file below a folder with its bytes, and every folder."""
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


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
    assert f"written: runs/{finished.folder.name}/ with losses.png and losses.svg" in finished.lines


def test_the_printed_losses_are_those_of_the_result(finished):
    # As printed, to four digits behind the point.
    losses = mj.Result.load(finished.folder).losses
    assert rows(finished.lines, "loss on the batch") == {
        str(row): [f"{losses[label][0, row]:.4f}" for label in ("sgd", "momentum", "optax")] for row in (0, 29)
    }


def test_the_printed_summary_is_that_of_the_result(finished):
    result = mj.Result.load(finished.folder)
    assert rows(finished.lines, "at the end") == {
        label: [
            f"{smooth_curve(losses)[0, -1]:.4f}",
            f"{result.train_loss[label][0]:.4f}",
            f"{100 * result.test_accuracy[label][0]:.2f}%",
            "never",
            *f"{int(result.failed[label][0])} of 1".split(),
        ]
        for label, losses in result.losses.items()
    }


def test_momentum_is_said_to_agree_with_the_witness_and_sgd_with_none(finished):
    (line,) = (line for line in finished.lines if " agree to " in line)
    assert line.startswith("momentum and optax agree to 1e-06 at every iteration")


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
            losses={"m": ours, "o": theirs},
            final_losses=lambda label: np.asarray(final[label == "o"]),
        )
    )
    return sentence


def test_of_twins_that_part_is_said_what_is_known_and_no_cause():
    # A relative difference of 1e-3 from iteration 2 or 3 on; the ends of three seeds are 10 % apart.
    ours = np.array([[1, 1, 1, 0.9], [1, 1, 1, 1], [1, 1, 1, 1.0]])
    theirs = ours * np.array([[1, 1, 1.001, 1.001], [1, 1, 1, 1.001], [1, 1, 1.001, 1.001]])
    assert agreement_of(ours, theirs) == (
        "m and o first differ by more than 1e-06 at iterations 2 to 3, by seed (relative difference of the loss); at "
        "the end their training losses are 0.001 of the loss apart (median), and the seeds of m spread over 0.1 of it; "
        "in float64 the tutorial's two agree to 1e-12"
    )
    assert " at iteration 2 (relative" in agreement_of(ours[::2], theirs[::2])
    assert "(median), and one seed has no spread; in float64" in agreement_of(ours[:1], theirs[:1])
    assert "float64" not in agreement_of(ours, theirs, dtype="float64")


def test_of_twins_of_which_one_diverged_no_distance_is_said():
    ours, theirs = [[1, np.nan]], [[1, 1.0]]
    assert agreement_of(ours, theirs).split("; ")[1] == "not all of their runs end finite"
    assert agreement_of(ours, ours) == "m and o agree to 1e-06 at every iteration (relative difference of the loss)"


@pytest.mark.exhaustive
@pytest.mark.usefixtures("compiled_quickly")
def test_under_a_schedule_only_the_convention_of_the_witness_is_said_to_agree(main, idx, capsys):
    rate = "learning_rate=step_decay(init_value=0.1,transition_steps=5,decay_rate=0.1)"
    rules = {"in": "momentum", "out": "momentum,convention=outside", "optax": "optax.sgd,momentum=0.9"}
    flags = [word for label, rule in rules.items() for word in ("--optimizer", f"{label}={rule},{rate}")]
    main(["train", "--dataset", str(idx), *SMALL, *flags])
    lines = [line for line in capsys.readouterr().out.splitlines() if " agree to " in line]
    assert [line[:30] for line in lines] == ["out and optax agree to 1e-06 a"]


def test_the_seconds_of_each_phase_are_printed(finished):
    (line,) = (line for line in finished.lines if line.startswith("seconds: "))
    phases = ("importing", "loading", "compiling", "training", "evaluating", "drawing")
    assert re.fullmatch("seconds: " + ", ".join(rf"{phase} \d+\.\d" for phase in phases), line)


def test_where_output_is_no_terminal_lines_are_plain(finished):
    for text in (finished.process.stdout, finished.process.stderr):
        assert not re.search("[\x1b\r\u2500-\u259f]", text)
    assert all(line == line.rstrip() or len(line) <= 120 for line in finished.lines)


@pytest.mark.exhaustive
def test_the_same_command_again_gives_the_same_bits_and_quiet_prints_nothing(idx, tmp_path):
    arguments = ["--dataset", str(idx), *SMALL, "--out", "o"]
    assert run(arguments, tmp_path, environment=ENVIRONMENT).returncode == 0
    before = tree(tmp_path / "o")
    process = run([*arguments, "--quiet"], tmp_path, environment=ENVIRONMENT)
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")
    after = tree(tmp_path / "o")
    assert after.keys() == before.keys()
    # Only result.json differs: it holds the seconds.
    assert {path.name for path in after if after[path] != before[path]} <= {"result.json"}


@pytest.mark.usefixtures("compiled_quickly")
def test_quiet_prints_nothing(main, idx, capsys):
    main(["--dataset", str(idx), *SMALL, *ONE, "--quiet"])
    assert capsys.readouterr() == ("", "")


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
    assert summary[good][1] == f"{np.median(result.train_loss[good]):.4f}"
    assert summary[good][-3:] == ["0", "of", "2"]
    first = result.diverged_at[bad].min()
    assert next(line for line in lines if line.startswith(bad)).endswith(f"2 of 2, diverged at iteration {first}")
    assert good in pathlib.Path("o/losses.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "fragments"), BAD_INPUTS, ids=[" ".join(arguments)[:60] for arguments, _ in BAD_INPUTS]
)
def test_bad_input_is_refused_in_one_line_before_anything_is_compiled_or_written(arguments, fragments, idx, refused):
    pathlib.Path("file").write_text("a regular file")
    message = refused("--dataset", str(idx), *SMALL, *arguments)
    assert message.startswith("momentum-jax: ")
    assert message.count("\n") == 1
    assert [fragment for fragment in fragments if fragment not in message] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--iteratons", "5"], "argument: unknown '--iteratons'; did you mean '--iterations'?"),
        (["--iteratons=5"], "argument: unknown '--iteratons'; did you mean '--iterations'?"),
        (["extra"], "command: unknown 'extra'"),
        (["train", "extra"], "argument: unknown 'extra'"),
        (["status", "a", "--quite"], "argument: unknown '--quite'. Allowed: none"),
        (["paths", "--optimiser", "a"], "argument: unknown '--optimiser'; did you mean '--optimizer'? Allowed: --it"),
        (["--quiet=3"], "argument: unknown '3'"),
        (["--shared-init", "yes"], "argument: unknown 'yes'"),
        (["--iterations"], "Missing value for argument '--iterations'."),
        (["--iterations", "many"], "--iterations must be an integer, not 'many'"),
        (["--iterations", "1.5"], "--iterations must be an integer, not '1.5'"),
        (["--iterations", "9" * 5000], f"--iterations must be an integer, not '{'9' * 99}…"),
        (["--hidden-sizes", "8", "x"], "--hidden-sizes must be an integer, not 'x'"),
        (["--seeds", "x"], "--seeds must be an integer, not 'x'"),
        (["--seeds", ","], "seeds must hold at least one seed"),
        (["--evaluate-every", "x"], "--evaluate-every must be an integer, not 'x'"),
        (["--l2", "x"], "--l2 must be a number, not 'x'"),
        (
            ["--weight-init", "xavie"],
            "--weight-init: unknown 'xavie'; did you mean 'xavier'? Allowed: a number, he, xavier",
        ),
        (
            ["--sampling", "epoch"],
            "--sampling: unknown 'epoch'; did you mean 'epochs'? Allowed: epochs, with_replacement",
        ),
        (
            ["--dtype", "float16"],
            "--dtype: unknown 'float16'; did you mean 'bfloat16'? Allowed: bfloat16, float32, float64",
        ),
        (["--out", ""], "--out needs a value, not ''"),
        (["--out="], "--out needs a value, not ''"),
        (["--dataset", ""], "--dataset needs a value, not ''"),
        (["--iterations", "1" + "0" * 30], "iterations must be an integer of at least 1 and at most 2147483647, not 1"),
        (["--batch-size", str(2**31)], "batch_size must be an integer of at least 1 and at most 2147483647, not 2147"),
        (["status"], "DIR: one folder is needed"),
        (["report"], "DIR: the folder of a result is needed"),
        (["report", ""], "DIR needs a value, not ''"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
@pytest.mark.parametrize("columns", ["20", "80"])
def test_what_cannot_be_parsed_is_refused_in_one_line(arguments, message, columns, refused, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    said = refused(*arguments)
    assert said.startswith(f"momentum-jax: {message}")
    assert said.count("\n") == 1


@pytest.mark.parametrize("columns", [1, 4, 30])
def test_help_ends_on_a_terminal_of_any_width(columns, main, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit) as exit_:
        main(["compare", "--help"])
    assert exit_.value.code == 0
    assert "one with a comma" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("error", [AssertionError(), RuntimeError("Unable to initialize\nbackend 'cuda'")])
@pytest.mark.parametrize("command", [["train"], ["sweep", "--grid", "learning_rate=0.1"], ["compare"], ["paths"]])
def test_a_platform_that_jax_cannot_use_is_refused_in_one_line(error, command, refused, monkeypatch):
    def fail():
        raise error

    monkeypatch.setattr(jax, "devices", fail)
    monkeypatch.setattr(jax_setup, "cores", lambda: 2)
    message = refused(*command)
    assert message.startswith("momentum-jax: JAX finds no device with JAX_PLATFORMS=")
    assert message.count("\n") == 1


def test_what_no_memory_can_hold_is_refused_before_anything_compiles(idx, refused):
    for flags, what in (
        (["--batch-size", str(2**31 - 1)], "a batch with batch_size 2147483647"),
        (["--hidden-sizes", str(2**31 - 1)], "the parameters"),
        (["--iterations", str(2**31 - 1), "--seeds", "10000"], "the losses of 10000 runs"),
    ):
        message = refused("--dataset", str(idx), *SMALL, *ONE, *flags)
        assert re.fullmatch(rf"momentum-jax: {what} would take \d+ GiB, and this machine has \d+ GiB\n", message)


def test_a_truncated_data_file_is_named(idx, refused, tmp_path):
    shutil.copytree(idx, "cut")
    file = tmp_path / "cut" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1])
    message = refused("--dataset", "cut", *SMALL, "--out", "o")
    assert message.count("\n") == 1
    assert [f for f in ("train-images-idx3-ubyte", "7500 bytes", "7499 follow") if f not in message] == []


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


def test_files_of_the_same_names_that_are_no_result_are_left_as_they_are(idx, refused):
    pathlib.Path("config.json").write_text(json.dumps({"mine": 1}))
    message = refused("--dataset", str(idx), *SMALL, "--out", ".")
    assert message.count("\n") == 1
    assert "not a result of this program" in message


def test_a_process_refuses_bad_input_with_2_and_without_traceback(tmp_path):
    process = run(["--dataset", "minst"], tmp_path)
    assert process.returncode == 2
    assert process.stderr.startswith("momentum-jax: dataset: unknown 'minst'; did you mean 'mnist'?")
    assert process.stderr.count("\n") == 1
    assert tree(tmp_path) == {}


def interrupt(arguments, cwd, *, stream, beginning):
    """Sends Ctrl-C once a line of the stream begins so; gives exit code and what came on standard error since."""
    with subprocess.Popen(
        [*COMMAND, *arguments], cwd=cwd, env=QUICK, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            next(line for line in getattr(process, stream) if line.startswith(beginning))
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, errors


def test_ctrl_c_during_training_exits_with_130_and_saves_what_was_finished(idx, tmp_path):
    # More iterations than anybody waits for.
    arguments = ["--dataset", str(idx), *SMALL, *ONE, "--iterations", "10000000", "--out", "o"]
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


def test_ctrl_c_before_anything_is_finished_exits_with_130_and_writes_nothing(idx, tmp_path):
    arguments = ["--dataset", str(idx), *SMALL, *ONE, "--iterations", "10000000", "--out", "o"]
    code, errors = interrupt(arguments, tmp_path, stream="stderr", beginning=str(idx))
    assert code == 130
    assert errors.splitlines()[-1] == "momentum-jax: interrupted"
    assert "Traceback" not in errors
    assert tree(tmp_path) == {}
