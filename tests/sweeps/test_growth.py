"""A sweep's folder grows by trials and seeds, and holds the runs of one set of functions only."""

import dataclasses

import jax
import jax.numpy as jnp
import optax
import pytest

import momentum_jax as mj
from momentum_jax._base.errors import InputError
from momentum_jax.sweeps import batches
from tests.sweeps.small import CHUNK, MOMENTUM, PAIR, QUADRATIC, ROWS, SMALL, init, loss, small

SPACE = {"learning_rate": [0.1, 0.3]}


@pytest.fixture(autouse=True)
def quick_small_batches(monkeypatch, compiled_quickly):
    """Batches of one run on each device."""
    monkeypatch.setattr(batches, "BATCH_ITERATIONS", SMALL["iterations"])


def sweep(folder, cfg=None, space=SPACE, **options):
    return mj.sweep(cfg or small(seeds=2), space, **{"task": QUADRATIC, "folder": folder, "chunk": CHUNK, **options})


def parts(folder):
    return {path.name: path.read_bytes() for path in (folder / "parts").iterdir()}


def trained(monkeypatch):
    """Counts the runs that are trained from now on."""
    counts = []
    plan = batches.plan_batches
    monkeypatch.setattr(
        batches, "plan_batches", lambda program: counts.extend(map(len, planned := plan(program))) or planned
    )
    return counts


@pytest.mark.parametrize(
    ("cfg", "space", "options", "more"),
    [
        (small(seeds=3), SPACE, {}, 4),
        (small(seeds=(7, 1, 0)), SPACE, {}, 4),
        (small(seeds=2), {"learning_rate": [0.01, 0.1, 0.3]}, {}, 4),
        (small(seeds=2), {"learning_rate": [0.3, 0.1], "momentum": {"momentum": [0.5, 0.9]}}, {}, 4),
        (small(seeds=2), {"learning_rate": [0.1, 0.3], "batch_size": [16, 8]}, {}, 8),
        (small(seeds=2, optimizers={**PAIR, "more": MOMENTUM}), {"learning_rate": [0.1, 0.3]}, {}, 4),
        (small(seeds=2, batch_size=9), {"learning_rate": [0.1, 0.3], "batch_size": [16]}, {}, 0),
        (small(seeds=1), {"learning_rate": [0.1]}, {}, 0),
    ],
    ids=["seeds", "other seeds", "values", "axis", "batch sizes", "optimizer", "where it stands", "fewer"],
)
def test_a_folder_grows_to_the_bits_of_a_new_one_and_trains_what_is_missing_only(
    tmp_path, monkeypatch, cfg, space, options, more
):
    sweep(tmp_path / "grown")
    before = parts(tmp_path / "grown")
    counts = trained(monkeypatch)
    grown = sweep(tmp_path / "grown", cfg, space, **options)
    assert sum(counts) == more
    assert grown == sweep(None, cfg, space, **options)
    assert before.items() <= parts(tmp_path / "grown").items()
    assert mj.Result.load(tmp_path / "grown") == grown
    # Back to what it was: nothing is trained.
    counts.clear()
    assert sweep(tmp_path / "grown") == sweep(tmp_path / "grown")
    assert not sum(counts)


@pytest.mark.parametrize("search", ["random", "sobol"])
def test_a_larger_budget_keeps_the_trials_of_the_smaller_one(tmp_path, monkeypatch, search):
    space = {"learning_rate": mj.LogUniform(0.01, 1)}
    sweep(tmp_path, small(), space, search=search, budget=2)
    counts = trained(monkeypatch)
    assert sweep(tmp_path, small(), space, search=search, budget=3).losses_before["sgd"].shape == (3, 1, 30)
    assert sum(counts) == 2


def named(function, like):
    """A function under the name of another one."""
    function.__module__, function.__qualname__ = like.__module__, like.__qualname__
    return function


def evaluate(params, train, test):
    return {"train_loss": loss(params, train)}


def metric(params, state, grads):
    return params["w"][0]


def factory(rate):
    return optax.sgd(rate)


TASK = mj.Task(init=init, loss=loss, train=ROWS, evaluate=evaluate)
OWN = small(optimizers={"own": mj.OptimizerConfig(factory, rate=0.1)})
OTHER = {
    "loss": {"task": dataclasses.replace(TASK, loss=named(lambda params, batch: 2 * loss(params, batch), loss))},
    "constant of the loss": {
        "task": dataclasses.replace(TASK, loss=named(lambda p, b: loss(p, b + jnp.asarray(ROWS[:1])), loss))
    },
    "initialisation": {
        "task": dataclasses.replace(TASK, init=named(lambda key: {"w": jax.random.normal(key, [3]) / 2}, init))
    },
    "evaluation": {
        "task": dataclasses.replace(
            TASK, evaluate=named(lambda params, train, test: {"train_loss": 2 * loss(params, train)}, evaluate)
        )
    },
    "metric": {"metrics": {"first": named(lambda params, state, grads: params["w"][1], metric)}},
    "factory": {
        "cfg": small(optimizers={"own": mj.OptimizerConfig(named(lambda rate: optax.sgd(2 * rate), factory), rate=0.1)})
    },
}


@pytest.mark.parametrize("changes", OTHER.values(), ids=OTHER)
@pytest.mark.parametrize("kind", ["sweep", "training"])
def test_runs_are_not_taken_for_those_of_another_function_of_the_same_name(tmp_path, changes, kind):
    options = {"cfg": OWN, "task": TASK, "metrics": {"first": metric}}

    def run(cfg, **given):
        if kind == "sweep":
            return mj.sweep(cfg, {"rate": [0.1, 0.2]}, folder=tmp_path / "runs", chunk=CHUNK, **given)
        return mj.train(cfg, checkpoint=tmp_path / "runs", chunk=CHUNK, checkpoint_seconds=0, **given)

    result = run(**options)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "lock"}
    with pytest.raises(InputError, match=r"computed\.(init|evaluate|loss) is|compute something else|programs is"):
        run(**{**options, **changes})
    assert {path: path.read_bytes() for path in before} == before
    assert run(**options).losses_before["own"].tobytes() == result.losses_before["own"].tobytes()


def test_trainings_of_another_loss_of_the_same_name_are_not_compared():
    one = mj.train(small(optimizers={"a": MOMENTUM}), task=TASK, chunk=CHUNK)
    for changes in (OTHER["loss"], OTHER["initialisation"]):
        two = mj.train(small(optimizers={"b": MOMENTUM}), chunk=CHUNK, **changes)
        with pytest.raises(InputError, match="the same names and compute something else"):
            mj.compare_results(one, two)


def test_other_data_and_another_default_evaluation_are_not_taken_for_the_same(tmp_path):
    # What a task says of its data is not believed: it may have been said of other data.
    said = {"source": "mine", "digest": "known"}
    task = mj.Task(init=init, loss=loss, train=ROWS, provenance=said)
    mj.sweep(OWN, {"rate": [0.1]}, task=task, folder=tmp_path / "sweep", chunk=CHUNK)
    others = {
        "data is": dataclasses.replace(task, train=ROWS[::-1].copy()),
        # The same on batches, another on the whole set.
        "computed.evaluate is": dataclasses.replace(
            task, loss=named(lambda p, b: loss(p, b) * (1 if b.shape[0] == SMALL["batch_size"] else 2), loss)
        ),
    }
    for difference, other in others.items():
        with pytest.raises(InputError, match=difference):
            mj.sweep(OWN, {"rate": [0.1]}, task=other, folder=tmp_path / "sweep", chunk=CHUNK)


def test_losses_in_bfloat16_are_read_back(tmp_path):
    task = mj.Task(init=init, loss=lambda p, b: loss(p, b.astype(p["w"].dtype)), train=ROWS)
    cfg = small(dtype="bfloat16", optimizers={"momentum": MOMENTUM})
    result = mj.sweep(cfg, {}, task=task, folder=tmp_path, chunk=CHUNK)
    assert result.losses_before["momentum"].dtype == jnp.bfloat16
    assert mj.Result.load(tmp_path) == result == mj.sweep(cfg, {}, task=task, folder=tmp_path, chunk=CHUNK)


def test_a_training_is_not_saved_into_the_folder_of_a_sweep(tmp_path):
    sweep(tmp_path)
    result = mj.train(small(), task=QUADRATIC, chunk=CHUNK)
    with pytest.raises(InputError, match="holds a sweep; choose another"):
        result.save(tmp_path)
