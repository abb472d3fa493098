"""What the command line refuses: in one line, with exit code 2, and before anything is compiled or written."""

import json
import pathlib
import re
import shutil

import jax
import pytest

from momentum_jax.cli import jax_setup
from tests.cli.commands import ONE, SMALL, run, tree

# Arguments, and what the message must name: the field, the value, what is allowed.
BAD_INPUTS = [
    (["--dataset", "minst"], ["dataset", "'minst'", "'mnist'"]),
    (["--dataset", "~nobody-of-that-name/data"], ["dataset", "~nobody-of-that-name/data"]),
    (["--dataset", "d" * 300], ["dataset", "ddd"]),
    (["--task", "convent"], ["task", "'convent'", "did you mean 'convnet'?", "least_squares"]),
    (["--task", "convnet"], ["hidden_sizes", "'mlp'", "channels"]),
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
        (["status", "a", "--quite"], "argument: unknown '--quite'. Allowed: --json"),
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
