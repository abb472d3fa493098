"""Random command lines: each is run, or refused in one line with exit code 2 and nothing written."""

import contextlib
import pathlib
import random
import signal

import pytest

from momentum_jax.cli import COMMANDS, compare, jax_setup, paths, sweep
from momentum_jax.cli.arguments import Field, config_flags, output_flags
from tests.cli.commands import tree

SECONDS = 120
FLAGS: dict[str, list[Field]] = {
    "train": [*config_flags(), *output_flags("")],
    "sweep": [*config_flags(), *sweep._FLAGS, *output_flags("")],
    "compare": [*config_flags(), *compare._FLAGS, *output_flags("")],
    "paths": paths._FLAGS,
}
# What a command line begins with, so that it is refused for what comes behind, if at all.
SMALL = ["--dataset", "idx", "--hidden-sizes", "8", "--iterations", "20", "--batch-size", "16"]
VALID = {
    "train": SMALL,
    "sweep": [*SMALL, "--grid", "learning_rate=0.1,0.2"],
    "compare": [*SMALL, "--trials", "2"],
    "paths": ["--iterations", "5"],
    "report": ["empty"],
    "status": ["empty"],
}
NUMBERS = [
    *("0", "-1", "1", "3", "1.5", "-1.5", "1e3", "1e-3", "1e400", "nan", "-inf", "inf", "x", "0x10", "1_0", "٣", " 5 "),
    *("2147483647", "2147483648", "4294967296", str(10**30), str(-(10**30)), "9" * 5000, "5,", ",", "None", "--", "-"),
]
WORDS = [
    *("", " ", "a", "-", "--", "-x", "=", "a=b", "None", "é", "η–", "\udcff", "a\nb", "a\0b", "a" * 300, "*", "$(x)"),
    *("idx", "file", "empty", "file/below", ".", "..", "~nobody/x", "mnist", "minst", "tfds:", "tfds:../x", "local:0"),
    *("local:", "local:-1", "local:1.5", "local:x", "test_loss", "test_los", "mean_loss", "vmap", "vmapp", "tanh"),
]
OPTIMIZERS = [
    "a=sgd,learning_rate=0.1",
    "b=momentum,learning_rate=0.1,momentum=0.9,convention=outside,weight_decay=0.1,decoupled_weight_decay=yes",
    "c=sgd,learning_rate=step_decay(init_value=0.1,transition_steps=5,decay_rate=0.5)",
    "d=aggmo,learning_rate=0.1,betas=(0.0, 0.9)",
    "'e=f'=optax.sgd,learning_rate=0.1,momentum=0.9,nesterov=on",
    "g=optax.adam,learning_rate=1e-3,b1=0.9,eps=1e-8",
    "h=optax.contrib.muon,learning_rate=0.1,preconditioning=frobenius",
]
AXES = [
    "learning_rate=0.1,0.2",
    "learning_rate=1e-3:1:log:4",
    "sgd.learning_rate=0.1:1:lin",
    "momentum.momentum=0.5,0.9",
    "batch_size=4,8",
    "nesterov=yes,no",
    "optax.learning_rate=constant(value=0.1),0.2",
]
LANDSCAPES = ["quadratic,curvatures=(1,100),rotation=0.5", "rosenbrock", "chain,dimensions=5", "valley"]
PIECES = [
    *"=,:.()[]'\"-0 9e#*\\",
    "nan",
    "inf",
    "none",
    "on",
    "x=",
    "learning_rate=",
    "(",
    "**",
    "=[",
    "yes",
    "\n",
    "10" * 20,
]


class ReachedError(Exception):
    """The command has checked all that it was given, and would compile now."""


@pytest.fixture
def run(main, idx, monkeypatch, capsys):
    """Runs a command line; says whether it was refused."""

    def reach(*_, **__):
        raise ReachedError

    monkeypatch.setattr("momentum_jax.training.compile._compile_all", reach)
    monkeypatch.setattr("momentum_jax.training.trajectories._of_structure", reach)
    monkeypatch.setattr(jax_setup, "use_compilation_cache", lambda choice: None)
    pathlib.Path("idx").symlink_to(idx)
    pathlib.Path("file").write_text("a regular file")
    pathlib.Path("empty").mkdir()

    def expire(*_):
        pytest.fail(f"not done after {SECONDS} s")

    before_alarm = signal.signal(signal.SIGALRM, expire)

    def run(words):
        before = tree(pathlib.Path.cwd())
        code = None
        signal.alarm(SECONDS)
        try:
            with contextlib.suppress(ReachedError):
                main(words)
        except SystemExit as stop:
            code = stop.code
        finally:
            signal.alarm(0)
        errors = capsys.readouterr().err
        if code in (None, 0):
            return False
        assert (code, errors.count("\n"), errors[:14]) == (2, 1, "momentum-jax: "), errors
        assert tree(pathlib.Path.cwd()) == before
        return True

    yield run
    signal.signal(signal.SIGALRM, before_alarm)


def mutated(text, rng):
    """A text with a few of its characters changed."""
    for _ in range(rng.choice([0, 0, 1, 1, 2, 5])):
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice(PIECES) + text[at + rng.choice([0, 0, 1, 3]) :]
    return text


def value_of(name, rng):
    of_text = {"optimizers": OPTIMIZERS, "grid": AXES, "landscape": LANDSCAPES}
    if name in of_text:
        return mutated(rng.choice(of_text[name]), rng)
    if name == "cluster":
        # Anything else is an address to connect to.
        return rng.choice([word for word in WORDS if not word or word.startswith("local:")])
    return rng.choice(NUMBERS if rng.random() < 0.6 else WORDS)


def command_line(rng):
    name = rng.choice([*FLAGS, *FLAGS, *COMMANDS])
    words = [name if rng.random() < 0.97 else mutated(name, rng), *VALID.get(name, [])]
    for _ in range(rng.choice([1, 1, 2, 3])):
        flags = FLAGS.get(name, FLAGS["train"])
        field = rng.choice(flags)
        text = f"--{'optimizer' if field.name == 'optimizers' else field.name.replace('_', '-')}"
        if field.name == "compilation_cache":
            continue
        text = text if rng.random() < 0.97 else mutated(text, rng)
        values = [value_of(field.name, rng) for _ in range(rng.choice([0, 1, 1, 1, 1, 1, 2]))]
        if values and rng.random() < 0.2:
            text, values = f"{text}={values[0]}", values[1:]
        words += [text, *values]
    return words


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.exhaustive) for seed in range(1, 21))])
def test_a_random_command_line_is_run_or_refused_in_one_line_and_nothing_is_written(seed, run):
    rng = random.Random(seed)
    outcomes = []
    for _ in range(50):
        words = command_line(rng)
        try:
            outcomes.append(run(words))
        except BaseException as error:
            error.add_note(f"the command line: {words!r}")
            raise
    assert True in outcomes


@pytest.mark.parametrize("name", FLAGS)
def test_what_the_random_command_lines_begin_with_is_run(name, run):
    assert not run([name, *VALID[name]])
