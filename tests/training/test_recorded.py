"""What a callback is given, held against the result of the same training; and the loggers of the README."""

import collections
import dataclasses
import pathlib
import re
import signal
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax.sweeps import resume
from momentum_jax.training import recorded as module
from tests.training.small import PAIR, quadratic_task, same_bits, small

TASK = quadratic_task()
METRICS = {"norm": lambda params, state, grads: jnp.linalg.norm(params["w"])}
# One program for all tests. At a rate of 1e30 the loss overflows within a few iterations.
OPTIMIZERS = {**PAIR, "far": mj.OptimizerConfig("sgd", learning_rate=1e30)}
CFG = small(optimizers=OPTIMIZERS, seeds=2, evaluate_every=10, record_every=3)
README = pathlib.Path(module.__file__).parent / "README.md"


def train(**options):
    return mj.train(CFG, task=TASK, metrics=METRICS, **{"chunk": 5, "progress": False, **options})


@pytest.fixture(scope="module")
def whole():
    return train()


def check_complete(given, result):
    """What was given, put together, is the result; up to the divergence of a run that diverged."""
    for label in result.config.optimizers:
        for row, seed in enumerate(result.config.seed_tuple):
            own = [recorded for recorded in given if (recorded.label, recorded.seed) == (label, seed)]
            last = result.diverged_at[label][row]
            kept = result.iterations <= last if last >= 0 else result.iterations >= 0
            pieces = {
                "iterations": result.iterations[kept],
                "losses_before": result.losses_before[label][row][kept],
                "losses": result.losses[label][row][kept],
            }
            for name, values in pieces.items():
                np.testing.assert_array_equal(np.concatenate([getattr(one, name) for one in own]), values)
            norms = np.concatenate([one.metrics["norm"] for one in own])
            np.testing.assert_array_equal(norms, result.metrics["norm"][label][row][kept])
            updates = [n for one in own for n in one.evaluation_iterations]
            assert updates == ([] if last >= 0 else list(result.evaluation_iterations))
            if updates:
                losses = np.concatenate([one.evaluations["test_loss"] for one in own if one.evaluations])
                np.testing.assert_array_equal(losses, result.evaluations["test_loss"][label][row])


def test_everything_recorded_is_handed_out_once_and_no_bit_of_a_run_is_changed(whole):
    given = []

    def callback(recorded):
        given.append(recorded._replace(losses_before=recorded.losses_before.copy()))
        recorded.losses_before[:] = np.nan

    same_bits(train(callback=callback), whole)
    assert (whole.diverged_at["far"] >= 0).all()
    check_complete(given, whole)
    assert given[0].trial.optimizer == OPTIMIZERS[given[0].label]


# The calls 27 to 30 are those of the last evaluation.
@pytest.mark.parametrize(("call", "done"), [(1, 5), (8, 10), (17, 20), (27, 30), (30, 30)])
@pytest.mark.parametrize("stop", [KeyboardInterrupt, ZeroDivisionError])
def test_a_callback_that_stops_a_training_loses_nothing_and_is_given_nothing_twice(whole, tmp_path, call, done, stop):
    given = []

    def callback(recorded):
        given.append(recorded)
        if len(given) == call:
            raise stop("of the callback")

    with pytest.raises(mj.Interrupted if stop is KeyboardInterrupt else stop) as stopped:
        train(callback=callback, checkpoint=tmp_path / "place", checkpoint_seconds=1e6)
    if stop is KeyboardInterrupt:
        assert stopped.value.done == done
        np.testing.assert_array_equal(stopped.value.result.iterations, whole.iterations[whole.iterations < done])
    else:
        assert stopped.traceback[-1].name == "callback"
        assert len(given) == call
    before = len(given)
    same_bits(train(callback=given.append, checkpoint=tmp_path / "place"), whole)
    times = [(one.label, one.seed, int(n)) for one in given for n in one.iterations]
    assert len(times) == len(set(times))
    assert (before < len(given)) == (done < CFG.iterations)
    if stop is KeyboardInterrupt:
        # Runs that an error kept from the callback have had their turn.
        check_complete(given, whole)


def press_once(monkeypatch, module, name):
    """Presses Ctrl-C at the second call of what a module calls by this name."""
    made, presses = getattr(module, name), iter([False, True])

    def make(*values, **fields):
        if next(presses, False):
            signal.raise_signal(signal.SIGINT)
        return made(*values, **fields)

    monkeypatch.setattr(module, name, make)


class Pressed(collections.deque):
    """A queue that a Ctrl-C strikes when the first of what was recorded leaves it."""

    struck = False

    def popleft(self):
        left = super().popleft()
        if isinstance(left, mj.Recorded) and not Pressed.struck:
            Pressed.struck = True
            signal.raise_signal(signal.SIGINT)
        return left


@pytest.mark.parametrize("where", ["while the queue is filled", "between the queue and the call"])
def test_a_ctrl_c_around_the_calls_loses_nothing_and_hands_out_nothing_twice(whole, tmp_path, monkeypatch, where):
    given, options = [], {"checkpoint": tmp_path / "place", "checkpoint_seconds": 1e6}
    if where == "while the queue is filled":
        press_once(monkeypatch, module, "Recorded")
    else:
        monkeypatch.setattr(Pressed, "struck", False)
        monkeypatch.setattr(module.collections, "deque", Pressed)
    with pytest.raises(mj.Interrupted):
        train(callback=given.append, **options)
    monkeypatch.undo()
    same_bits(train(callback=given.append, **options), whole)
    check_complete(given, whole)


def test_an_error_at_the_last_evaluation_leaves_a_checkpoint_of_all_that_was_done(whole, tmp_path):
    def callback(recorded):
        if recorded.evaluation_iterations == (CFG.iterations,):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(callback=callback, checkpoint=tmp_path / "place")
    given, phases = [], []
    again = train(callback=given.append, checkpoint=tmp_path / "place", progress=lambda *call: phases.append(call))
    same_bits(again, whole)
    assert given == []
    assert {phase for phase, *_ in phases} == {"compiling"}


def test_a_sweep_hands_out_each_run_when_it_is_finished_and_no_run_of_an_earlier_call(tmp_path):
    cfg = dataclasses.replace(CFG, loss_after=True, seeds=1)
    space, options = {"sgd": {"learning_rate": [0.1, 0.2]}}, {"task": TASK, "folder": tmp_path, "progress": False}
    given = []
    mj.sweep(cfg, space, callback=given.append, **options)
    assert len(given) == 4
    more = []
    result = mj.sweep(dataclasses.replace(cfg, seeds=2), space, callback=more.append, **options)
    assert {one.seed for one in more} == {1}
    assert len(more) == 4
    for one in (*given, *more):
        position = result.trials[one.label].index(one.trial)
        last = result.diverged_at[one.label][position, one.seed]
        assert one.iterations.tolist() == [n for n in result.iterations.tolist() if last < 0 or n <= last]
        losses = result.losses_before[one.label][position, one.seed][: len(one.iterations)]
        np.testing.assert_array_equal(one.losses_before, losses)
        assert one.evaluation_iterations == (() if last >= 0 else (10, 20, 30))
        expected = result.evaluations["test_loss"][one.label][position, one.seed][: len(one.evaluation_iterations)]
        np.testing.assert_array_equal(one.evaluations["test_loss"], expected)


@pytest.mark.parametrize("where", ["in the callback", "while they are kept"])
def test_a_ctrl_c_in_a_sweep_hands_out_every_run_that_is_kept(tmp_path, monkeypatch, where):
    # The eight runs are finished four at a time.
    cfg, space = dataclasses.replace(CFG, loss_after=True, optimizers=PAIR), {"learning_rate": [0.1, 0.2]}
    given, options = [], {"task": TASK, "folder": tmp_path, "progress": False}

    def callback(recorded):
        given.append(recorded)
        if where == "in the callback" and len(given) == 1:
            raise KeyboardInterrupt

    if where == "while they are kept":
        press_once(monkeypatch, resume, "recorded_of_whole")
    with pytest.raises(mj.Interrupted) as stopped:
        mj.sweep(cfg, space, callback=callback, **options)
    assert len(given) == stopped.value.done > 1
    monkeypatch.undo()
    mj.sweep(cfg, space, callback=given.append, **options)
    assert len({(one.label, one.trial, one.seed) for one in given}) == len(given) == 8


def blocks():
    """The examples of the README that define `log`, by the module that they log to."""
    texts = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    names = ("tensorboardX", "wandb", "mlflow")
    return {name: text for text in texts for name in names if name in text and "def log(" in text}


def log_with(name):
    """Trains with the `log` that the README's example defines."""
    names = {}
    exec(blocks()[name], names)
    train(callback=names["log"])
    return names


def expected(whole, label, seed):
    row = whole.config.seed_tuple.index(seed)
    losses = dict(zip(whole.iterations.tolist(), whole.losses_before[label][row].tolist(), strict=True))
    tests = whole.evaluations["test_loss"][label][row].tolist()
    return losses, dict(zip(whole.evaluation_iterations, tests, strict=True))


def test_each_example_of_a_logger_has_at_most_ten_lines():
    assert set(blocks()) == {"tensorboardX", "wandb", "mlflow"}
    assert all(sum(map(bool, text.splitlines())) <= 10 for text in blocks().values())


def test_the_example_for_tensorboard_writes_event_files_with_the_losses_of_the_result(whole, tmp_path, monkeypatch):
    from tensorboardX.proto.event_pb2 import Event

    monkeypatch.chdir(tmp_path)
    names = log_with("tensorboardX")
    for writer in names["writers"].values():
        writer.close()
    (path,) = (tmp_path / "runs" / "tensorboard" / "momentum, seed 1").iterdir()
    read = {}
    for record in records_of(path):
        event = Event.FromString(record)
        for value in event.summary.value:
            read.setdefault(value.tag, {})[event.step] = value.simple_value
    losses, tests = expected(whole, "momentum", 1)
    # Both are float32.
    assert read["losses_before"] == losses
    assert read["test_loss"] == tests
    assert set(read) == {"losses_before", "losses", "norm", "train_loss", "test_loss"}


def records_of(path):
    """The records of an event file: each has its length in 8 bytes and 4 of a checksum before it, and 4 behind it."""
    content, at = path.read_bytes(), 0
    while at < len(content):
        length = int.from_bytes(content[at : at + 8], "little")
        yield content[at + 12 : at + 12 + length]
        at += 16 + length


def test_the_example_for_weights_and_biases_logs_the_losses_of_the_result(whole, monkeypatch):
    logged = {}

    def init(*, project, name, reinit):
        assert (project, reinit) == ("momentum", "create_new")

        def log(values, step):
            # Steps that go back are dropped by the service.
            assert not logged.get(name) or step >= logged[name][-1][0]
            logged.setdefault(name, []).append((step, values))

        return types.SimpleNamespace(log=log)

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    log_with("wandb")
    losses, tests = expected(whole, "sgd", 0)
    own = logged["sgd, seed 0"]
    assert {step: values["losses_before"] for step, values in own if "losses_before" in values} == losses
    assert {step: values["test_loss"] for step, values in own if "test_loss" in values} == tests


def test_the_example_for_mlflow_logs_the_losses_of_the_result(whole, monkeypatch):
    logged = {}

    class Client:
        def create_run(self, experiment_id, run_name):
            assert experiment_id == "7"
            return types.SimpleNamespace(info=types.SimpleNamespace(run_id=run_name))

        def log_metric(self, run_id, key, value, step):
            logged.setdefault(run_id, {}).setdefault(key, {})[step] = value

    fake = types.SimpleNamespace(
        MlflowClient=Client, set_experiment=lambda name: types.SimpleNamespace(experiment_id="7")
    )
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    log_with("mlflow")
    losses, tests = expected(whole, "sgd", 1)
    assert logged["sgd, seed 1"]["losses_before"] == losses
    assert logged["sgd, seed 1"]["test_loss"] == tests
