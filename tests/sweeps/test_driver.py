"""Every run of a sweep has the bits that it has alone, whatever the company, the devices and the interruptions."""

import collections
import itertools
import types

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import momentum_jax as mj
from momentum_jax._base.errors import InputError
from momentum_jax.results.record import Run
from momentum_jax.sweeps import batches
from momentum_jax.training.devices import Capacity, choose_meshes
from momentum_jax.training.groups import Group
from tests.compilations import compilations
from tests.sweeps.small import (
    CHUNK,
    METRICS,
    MOMENTUM,
    PAIR,
    QUADRATIC,
    ROWS,
    SMALL,
    SPACE,
    alone,
    init,
    loss,
    one_device,
    small,
    stop_after,
)


def same_bits(a, b):
    """Histories, evaluations and parameters, to the last bit."""
    jax.tree.map(
        lambda x, y: np.testing.assert_array_equal(_bytes(x), _bytes(y)),
        [a.losses_after, a.losses_before, a.metrics, a.evaluations, a.params],
        [b.losses_after, b.losses_before, b.metrics, b.evaluations, b.params],
    )


def _bytes(array):
    return np.ascontiguousarray(array).view(np.uint8)


@pytest.fixture(scope="module")
def whole():
    """A sweep of six trials and three seeds, in one batch."""
    return mj.sweep(small(seeds=3), SPACE, keep_params=True, chunk=CHUNK)


@pytest.fixture
def small_batches(monkeypatch):
    """Batches of one run on each device."""
    monkeypatch.setattr(batches, "BATCH_ITERATIONS", SMALL["iterations"])


@pytest.mark.parametrize(
    ("label", "position", "i"),
    [
        pytest.param("sgd", 0, 0, marks=pytest.mark.exhaustive),
        ("sgd", 1, 2),
        pytest.param("momentum", 0, 2, marks=pytest.mark.exhaustive),
        ("momentum", 3, 1),
    ],
)
def test_every_run_of_a_sweep_has_the_bits_that_it_has_in_train_alone(whole, label, position, i):
    run = alone(label, whole.trials[label][position], seed=i)
    for name in ("losses_before", "failed", "diverged_at", "train_loss", "test_loss", "test_accuracy"):
        assert getattr(whole, name)[label][position, i].tobytes() == getattr(run, name)[label][0].tobytes()
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(a[position, i], b[0]), whole.params[label], run.params[label]
    )


def test_devices_chunks_and_batches_do_not_change_a_bit(whole, small_batches):
    same_bits(mj.sweep(small(seeds=3), SPACE, keep_params=True, **one_device()), whole)


def test_histories_are_by_trial_seed_and_iteration_in_the_order_of_the_table(whole):
    assert {label: a.shape for label, a in whole.losses_before.items()} == {"sgd": (2, 3, 30), "momentum": (4, 3, 30)}
    assert whole.evaluations["test_loss"]["momentum"].shape == (4, 3, 1)
    assert whole.test_accuracy["sgd"].shape == whole.failed["sgd"].shape == (2, 3)
    assert {leaf.shape[:2] for leaf in jax.tree.leaves(whole.params["momentum"])} == {(4, 3)}
    assert not any(missing.any() for missing in whole.missing.values())
    table = whole.table()
    assert table.column_names == [
        *("optimizer", "learning_rate", "momentum", "seed"),
        *("final_train_loss", "test_loss", "test_accuracy", "failed", "diverged_at"),
    ]
    described = list(zip(*(table.column(name).to_pylist() for name in table.column_names[:4]), strict=True))
    trials = [("sgd", 0.1, None), ("sgd", 0.3, None)]
    # Bare names come first, so that they change last.
    trials += [("momentum", rate, momentum) for rate in (0.1, 0.3) for momentum in (0.5, 0.9)]
    assert described == [(*trial, seed) for trial in trials for seed in range(3)]
    for column, by_label in (("test_loss", whole.test_loss), ("final_train_loss", whole.train_loss)):
        assert table.column(column).to_pylist() == [float(v) for a in by_label.values() for v in a.reshape(-1)]


@pytest.mark.exhaustive
def test_a_sweep_of_batch_sizes_has_a_column_of_them_and_the_bits_of_runs_alone():
    cfg = small(optimizers={"momentum": MOMENTUM})
    result = mj.sweep(cfg, {"batch_size": [8, 16]}, task=QUADRATIC, chunk=CHUNK)
    assert result.table().column("batch_size").to_pylist() == [8, 16]
    for position, size in enumerate((8, 16)):
        run = alone("momentum", result.trials["momentum"][position], task=QUADRATIC)
        assert run.config.batch_size == size
        assert result.losses_before["momentum"][position].tobytes() == run.losses_before["momentum"].tobytes()


@pytest.mark.usefixtures("compiled_quickly")
def test_the_only_batch_size_has_a_column_where_it_is_not_the_configs():
    columns = [
        mj.sweep(small(), {"batch_size": [size]}, task=QUADRATIC, chunk=CHUNK).table().column_names for size in (8, 16)
    ]
    assert ["batch_size" in names for names in columns] == [True, False]


@pytest.mark.usefixtures("compiled_quickly")
def test_one_program_serves_all_runs_of_a_structure_however_many_they_are():
    cfg = {seeds: small(optimizers={"momentum": MOMENTUM}, seeds=seeds) for seeds in (1, 2)}
    # A loss of its own is a program of its own.
    one, other = (mj.Task(init, lambda params, batch: loss(params, batch), ROWS, ROWS[:50]) for _ in range(2))

    def run(task, rates, seeds):
        mj.sweep(cfg[seeds], {"learning_rate": rates, "momentum": [0.5, 0.9]}, task=task, chunk=CHUNK)

    few = compilations(lambda: run(one, [0.1], 1))
    many = compilations(lambda: run(other, [0.1, 0.2, 0.3, 0.4], 2))
    # Initialisation, chunk and evaluation, and the first time the draw and what is run eagerly.
    assert 3 <= many <= few
    assert compilations(lambda: run(other, [1.0, 0.7, 0.5, 0.01], 2)) == 0
    # Another number of runs has other shapes, of the initialisation, the chunk and the evaluation.
    assert compilations(lambda: run(other, [1.0, 0.7, 0.5], 2)) <= 3


def test_more_runs_than_a_batch_holds_compile_nothing_more(small_batches):
    def run(rates):
        mj.sweep(small(optimizers={"momentum": MOMENTUM}), {"learning_rate": rates}, task=QUADRATIC, chunk=CHUNK)

    run([0.1, 0.2])
    assert compilations(lambda: run([0.1, 0.2, 0.3, 0.4, 0.5])) == 0


@pytest.mark.exhaustive
def test_groups_of_unequal_size_share_the_batches(small_batches):
    space = {
        "sgd": {"learning_rate": [0.1]},
        "momentum": {"momentum": [0.1, 0.2, 0.3, 0.4, 0.5], "convention": ["inside", "outside"]},
    }
    result = mj.sweep(small(seeds=2), space, task=QUADRATIC, chunk=CHUNK)
    assert {label: a.shape for label, a in result.losses_before.items()} == {"sgd": (1, 2, 30), "momentum": (10, 2, 30)}
    for label, position in (("sgd", 0), ("momentum", 0), ("momentum", 3), ("momentum", 9)):
        run = alone(label, result.trials[label][position], seed=1, task=QUADRATIC)
        assert result.losses_before[label][position, 1].tobytes() == run.losses_before[label][0].tobytes()


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 6)), min_size=1, max_size=6), st.integers(1, 2))
def test_the_batches_train_every_run_once_and_no_device_has_two_groups_at_a_time(sizes, devices):
    meshes = choose_meshes([size for size, _ in sizes], jax.devices()[:devices])
    groups = [
        Group(None, 16, tuple(Run(str(number), i, None, 0) for i in range(size)), ({},) * size)
        for number, (size, _) in enumerate(sizes)
    ]
    capacities = [Capacity(mesh, per_device) for mesh, (_, per_device) in zip(meshes, sizes, strict=True)]
    planned = batches.plan_batches(types.SimpleNamespace(groups=groups, capacities=capacities))
    assert sorted(itertools.chain(*planned)) == sorted(run for group in groups for run in group.runs)
    for batch in planned:
        counts = collections.Counter(int(run.label) for run in batch)
        assert all(count <= capacities[number].total for number, count in counts.items())
        busy = [device for number in counts for device in capacities[number].mesh.devices]
        assert len(busy) == len(set(busy))


def test_thinned_histories_are_those_of_the_whole_and_divergence_is_still_known_to_the_iteration(whole):
    cfg = small(seeds=3, record_every=7, evaluate_every=13)
    thin = mj.sweep(cfg, SPACE, keep_params=True, chunk=CHUNK)
    assert thin.iterations.tolist() == [0, 7, 14, 21, 28, 29]
    assert thin.evaluation_iterations.tolist() == [13, 26, 30]
    for label in PAIR:
        np.testing.assert_array_equal(thin.losses_before[label], whole.losses_before[label][..., thin.iterations])
        for name, by_label in whole.evaluations.items():
            assert thin.evaluations[name][label].shape == (*by_label[label].shape[:2], 3)
            np.testing.assert_array_equal(thin.evaluations[name][label][..., -1:], by_label[label])
    # The error of a coordinate grows by |1 − η| an iteration, and its square leaves float32 at 2^128.
    space = {"sgd": {"learning_rate": [0.1, 50.0, 10.0]}}
    cfg = small(optimizers={"sgd": PAIR["sgd"]})
    whole, thin = (
        mj.sweep(c, space, task=QUADRATIC, chunk=CHUNK) for c in (cfg, small(optimizers=cfg.optimizers, record_every=7))
    )
    diverged_at = whole.diverged_at["sgd"][:, 0].tolist()
    assert diverged_at[0] == -1
    for position in (1, 2):
        losses = whole.losses_before["sgd"][position, 0]
        first = np.flatnonzero(~np.isfinite(losses))[0]
        assert diverged_at[position] == first
        assert first % 7
    assert thin.diverged_at["sgd"][:, 0].tolist() == diverged_at
    assert thin.table().column("diverged_at").to_pylist() == [None, *diverged_at[1:]]


def test_a_run_that_diverges_is_recorded_and_does_not_touch_its_neighbours(whole, small_batches):
    space = {"learning_rate": [0.1, 1e20, 0.3], "momentum": {"momentum": [0.5, 0.9]}}
    result = mj.sweep(small(seeds=3), space, **one_device())
    assert result.failed["sgd"].tolist() == [[False] * 3, [True] * 3, [False] * 3]
    assert (result.diverged_at["momentum"][2:4] >= 0).all()
    np.testing.assert_array_equal(result.losses_before["sgd"][[0, 2]], whole.losses_before["sgd"])
    np.testing.assert_array_equal(result.losses_before["momentum"][[0, 1, 4, 5]], whole.losses_before["momentum"])


@pytest.mark.parametrize(
    "optimizers",
    [
        pytest.param({"sgd": PAIR["sgd"]}, marks=pytest.mark.contained),
        pytest.param(PAIR, marks=pytest.mark.exhaustive),
    ],
    ids=list,
)
def test_metrics_of_ones_own_task_are_those_that_train_records(tmp_path, optimizers):
    cfg = small(seeds=2, record_every=4, optimizers=optimizers)
    result = mj.sweep(cfg, {"learning_rate": [0.1, 0.2]}, task=QUADRATIC, metrics=METRICS, folder=tmp_path)
    assert result.metrics["position"]["sgd"].shape == (2, 2, 9, 3)
    assert [str(result.metrics[name]["sgd"].dtype) for name in METRICS] == ["float32", "bool", "bfloat16"]
    apart = mj.train(cfg, task=QUADRATIC, metrics=METRICS)
    for name, by_label in apart.metrics.items():
        for label, values in by_label.items():
            assert result.metrics[name][label].dtype == values.dtype
            assert result.metrics[name][label][0].tobytes() == values.tobytes()
    assert mj.Result.load(tmp_path) == result
    assert result.table().column("test_accuracy").null_count == 4 * len(optimizers)


@pytest.mark.exhaustive
def test_a_metric_may_have_another_shape_and_dtype_for_every_optimizer(tmp_path):
    # The first leaf of the state: a count for Adam, the velocity for momentum.
    optimizers = {"adam": mj.OptimizerConfig("optax.adam", learning_rate=0.1), "momentum": MOMENTUM}
    metrics = {"first": lambda params, state, grads: jax.tree.leaves(state)[0]}
    # One run of each, side by side in one batch, so that both are in one part.
    cfg = small(optimizers=optimizers)
    result = mj.sweep(cfg, {}, task=QUADRATIC, metrics=metrics, folder=tmp_path, chunk=CHUNK)
    assert len(list((tmp_path / "parts").iterdir())) == 1
    apart = mj.train(cfg, task=QUADRATIC, metrics=metrics)
    for label in optimizers:
        assert result.metrics["first"][label][0].tobytes() == apart.metrics["first"][label].tobytes()
        assert result.metrics["first"][label].dtype == apart.metrics["first"][label].dtype


@pytest.mark.exhaustive
def test_vmap_agrees_with_map_to_rounding_and_is_recorded(tmp_path):
    cfg = small(seeds=3)
    batched, one_by_one = (
        mj.sweep(cfg, SPACE, task=QUADRATIC, layout=layout, chunk=CHUNK, folder=tmp_path / layout)
        for layout in ("vmap", "map")
    )
    assert batched.provenance["environment"]["layout"] == "vmap"
    assert one_by_one.provenance["environment"]["layout"] == "map"
    for label in cfg.optimizers:
        # float32 rounds at 6e-8; thirty steps of a linear recurrence that contracts add up less than a hundred.
        np.testing.assert_allclose(batched.losses_before[label], one_by_one.losses_before[label], rtol=1e-5)
        np.testing.assert_allclose(batched.train_loss[label], one_by_one.train_loss[label], rtol=1e-5)
    with pytest.raises(InputError, match=r'holds another sweep: environment\.layout is "vmap", not "map"'):
        mj.sweep(cfg, SPACE, task=QUADRATIC, layout="map", folder=tmp_path / "vmap")


def test_ctrl_c_leaves_the_finished_runs_and_the_same_call_goes_on_to_the_same_bits(whole, tmp_path, small_batches):
    cfg, calls, stops = small(seeds=3), 0, []
    while True:
        try:
            result = mj.sweep(
                cfg, SPACE, folder=tmp_path, keep_params=True, **one_device(), progress=stop_after(13 + calls)
            )
            break
        except mj.Interrupted as stop:
            stops.append(stop.result)
            calls += 9
    assert len(stops) >= 2
    for partial in stops:
        finished = sum(int((~missing).sum()) for missing in partial.missing.values())
        assert 0 < finished < 18
        assert len(partial.table()) == finished
        assert mj.Result.load(tmp_path).table().slice(0, 1) == partial.table().slice(0, 1)
        for label in PAIR:
            there = ~partial.missing[label]
            assert np.isnan(partial.losses_before[label][partial.missing[label]]).all()
            np.testing.assert_array_equal(partial.losses_before[label][there], whole.losses_before[label][there])
            np.testing.assert_array_equal(partial.test_loss[label][there], whole.test_loss[label][there])
    assert result.table().equals(whole.table())
    assert result == whole
    assert mj.Result.load(tmp_path) == whole


def test_a_sweep_is_kept_in_its_folder_not_saved(whole, tmp_path):
    with pytest.raises(InputError, match="a sweep is kept in the folder that it is given"):
        whole.save(tmp_path)
