"""`train(…, checkpoint=…)`: stopped anywhere and gone on with, it ends with the bits of a training in one go."""

import dataclasses
import errno
import io
import json
import os
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import momentum_jax as mj
from momentum_jax._base import files
from momentum_jax._base.errors import InputError
from momentum_jax._base.trees import digest_of_tree, pack, unpack
from momentum_jax.training.checkpoint import FORMAT

OPTIMIZERS = {
    "momentum": mj.OptimizerConfig("momentum", learning_rate=0.1, momentum=0.9),
    # Integer counts in the state.
    "adam": mj.OptimizerConfig("optax.adam", learning_rate=0.01),
    "scheduled": mj.OptimizerConfig(
        "sgd", learning_rate=mj.Schedule("step_decay", init_value=0.1, transition_steps=7, decay_rate=0.5)
    ),
    # Evaluated elsewhere than where it trains.
    "free": mj.OptimizerConfig("optax.contrib.schedule_free_sgd", learning_rate=0.5),
}
CFG = mj.Config(iterations=30, batch_size=16, seeds=2, optimizers=OPTIMIZERS)
ONE = mj.Config(iterations=30, batch_size=16, seeds=2, optimizers={"momentum": OPTIMIZERS["momentum"]})
METRICS = {
    "position": lambda params, state, grads: params["w"],
    "uphill": lambda params, state, grads: jnp.sum(grads["w"]) > 0,
}


def _loss(params, batch):
    return jnp.mean(jnp.sum((params["w"][None] - batch.astype(params["w"].dtype)) ** 2, axis=-1)) / 2


def _init(key):
    return {"w": jax.random.normal(key, [3])}


ROWS = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
QUADRATIC = mj.Task(init=_init, loss=_loss, train=ROWS, test=ROWS[:50])


def train(cfg, path, **options):
    return mj.train(cfg, task=QUADRATIC, **{"chunk": 10, "checkpoint": path, "checkpoint_seconds": 0, **options})


def stop_at(iteration):
    def progress(phase, done, total):
        if phase == "training" and done >= iteration:
            raise KeyboardInterrupt

    return progress


def same(a, b):
    """Equal to the bit in all but how long it took."""
    assert dataclasses.replace(a, provenance={}) == dataclasses.replace(b, provenance={})


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({}, {}),
        pytest.param({"dtype": "bfloat16"}, {}, marks=pytest.mark.exhaustive),
        ({"evaluate_every": 7, "record_every": 4}, {"metrics": METRICS}),
    ],
    ids=["float32", "bfloat16", "thinned and evaluated, with metrics"],
)
def test_a_training_stopped_again_and_again_ends_with_the_bits_of_one_in_one_go(tmp_path, changes, options):
    cfg = dataclasses.replace(CFG, **changes)
    whole = train(cfg, None, **options)
    for at in (7, 20):
        with pytest.raises(mj.Interrupted) as stop:
            train(cfg, tmp_path / "place", progress=stop_at(at), **options)
        partial = stop.value.result
        for label, losses in partial.losses.items():
            # A prefix, at least as long as what was asked for.
            assert partial.iterations[-1] >= at - cfg.record_every
            np.testing.assert_array_equal(losses, whole.losses[label][:, : losses.shape[1]])
    seen = []
    same(train(cfg, tmp_path / "place", progress=lambda *call: seen.append(call), **options), whole)
    assert min(done for phase, done, _ in seen if phase == "training") == 20


@pytest.mark.usefixtures("compiled")
def test_it_goes_on_with_another_chunk_and_other_devices(tmp_path):
    whole = train(CFG, None)
    with pytest.raises(mj.Interrupted):
        train(CFG, tmp_path / "place", progress=stop_at(10), devices=jax.devices()[:2])
    same(train(CFG, tmp_path / "place", devices=jax.devices()[:1], chunk=7), whole)


@pytest.mark.exhaustive
@pytest.mark.usefixtures("compiled")
def test_a_network_of_the_library_goes_on_too(tmp_path):
    cfg = mj.Config(hidden_sizes=(10,), iterations=30, batch_size=16, seeds=2, optimizers=ONE.optimizers)
    options = {"chunk": 10, "checkpoint_seconds": 0}
    with pytest.raises(mj.Interrupted):
        mj.train(cfg, checkpoint=tmp_path / "place", progress=stop_at(20), **options)
    same(mj.train(cfg, checkpoint=str(tmp_path / "place"), **options), mj.train(cfg, **options))


def test_a_divergence_before_the_stop_is_remembered(tmp_path):
    cfg = dataclasses.replace(ONE, optimizers={"wild": mj.OptimizerConfig("sgd", learning_rate=1e10)}, record_every=13)
    whole = train(cfg, None)
    assert 0 <= whole.diverged_at["wild"][0] < 10
    with pytest.raises(mj.Interrupted):
        train(cfg, tmp_path / "place", progress=stop_at(20))
    same(train(cfg, tmp_path / "place"), whole)


def test_an_interrupt_writes_the_place_whatever_the_time_and_the_end_leaves_it(tmp_path):
    with pytest.raises(mj.Interrupted):
        train(ONE, tmp_path / "a" / "place", progress=stop_at(20), checkpoint_seconds=1e6)
    assert int(unpack((tmp_path / "a" / "place").read_bytes())[0]["step"]) == 20
    seen = []
    train(ONE, tmp_path / "a" / "place", progress=lambda *call: seen.append(call))
    assert [done for phase, done, _ in seen if phase == "training"] == [20, 30]
    # Finished, it is evaluated again and that is all.
    seen.clear()
    same(train(ONE, tmp_path / "a" / "place", progress=lambda *call: seen.append(call)), train(ONE, None))
    assert "training" not in [phase for phase, *_ in seen]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["place"]


def test_without_time_for_it_nothing_is_written(tmp_path):
    train(ONE, tmp_path / "place", checkpoint_seconds=1e6)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The content of a checkpoint after twenty iterations."""
    path = tmp_path_factory.mktemp("place") / "place"
    with pytest.raises(mj.Interrupted):
        train(ONE, path, progress=stop_at(20), metrics=METRICS)
    return path.read_bytes()


def test_nothing_in_it_is_pickled(place):
    with np.load(io.BytesIO(place), allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays.files)
        head = json.loads(arrays["json"].tobytes())
    assert head["about"]["config"] == ONE.to_json()


@pytest.mark.parametrize(
    ("cfg", "options", "words"),
    [
        (dataclasses.replace(ONE, iterations=40), {}, "config.iterations is 30, not 40"),
        (dataclasses.replace(ONE, seeds=3), {}, "config.seeds is [0, 1], not [0, 1, 2]"),
        (
            dataclasses.replace(
                ONE, optimizers={"momentum": mj.OptimizerConfig("momentum", learning_rate=0.2, momentum=0.9)}
            ),
            {},
            "config.optimizers.momentum.hyperparameters.learning_rate is 0.1, not 0.2",
        ),
        (ONE, {"metrics": None}, "functions.position is"),
        (ONE, {"layout": "vmap"}, 'environment.layout is "map", not "vmap"'),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_checkpoint_of_another_training_is_refused_and_left_as_it_is(tmp_path, place, cfg, options, words):
    (tmp_path / "place").write_bytes(place)
    with pytest.raises(InputError) as error:
        train(cfg, tmp_path / "place", **{"metrics": METRICS, **options})
    assert "is of another training" in str(error.value)
    assert words in str(error.value)
    assert (tmp_path / "place").read_bytes() == place


def test_the_checkpoint_of_a_training_on_other_data_is_refused(tmp_path, place):
    (tmp_path / "place").write_bytes(place)
    other = dataclasses.replace(QUADRATIC, train=ROWS + 1)
    with pytest.raises(InputError, match="is of another training: data is"):
        mj.train(ONE, task=other, metrics=METRICS, chunk=10, checkpoint=tmp_path / "place")


@pytest.mark.parametrize(
    "content", [b"", b"a letter to my aunt", b"PK\x03\x04", b"\x80\x04N."], ids=["empty", "text", "zip", "pickle"]
)
def test_what_is_no_checkpoint_is_refused_and_left_as_it_is(tmp_path, content):
    (tmp_path / "place").write_bytes(content)
    with pytest.raises(InputError, match="is damaged, or no checkpoint; move it away to begin anew"):
        train(ONE, tmp_path / "place")
    assert (tmp_path / "place").read_bytes() == content


@pytest.mark.parametrize(("about", "there"), [({"config": {}}, "None"), ({"format": 1}, "1"), (None, "None")])
def test_the_checkpoint_of_another_version_is_refused_and_left_as_it_is(tmp_path, about, there):
    content = pack({"done": np.int64(3)}, about)
    (tmp_path / "place").write_bytes(content)
    with pytest.raises(
        InputError, match=rf"is of another version of this program \(format {there}, not {FORMAT}\); move it"
    ):
        train(ONE, tmp_path / "place")
    assert (tmp_path / "place").read_bytes() == content


def test_an_npz_of_something_else_is_refused(tmp_path):
    np.savez(tmp_path / "place.npz", x=np.arange(3), json=np.frombuffer(b"[]", np.uint8))
    with pytest.raises(InputError, match="is damaged, or no checkpoint"):
        train(ONE, tmp_path / "place.npz")


@given(st.data())
def test_a_flipped_bit_or_a_missing_end_is_found_or_does_not_matter(place, data):
    at = data.draw(st.integers(0, len(place) - 1))
    if data.draw(st.booleans()):
        spoilt = place[:at]
    else:
        spoilt = place[:at] + bytes([place[at] ^ (1 << data.draw(st.integers(0, 7)))]) + place[at + 1 :]
    try:
        snapshot, about = unpack(spoilt)
    except ValueError:
        return
    # Zip archives have fields that say nothing of the content, such as times.
    expected, about_then = unpack(place)
    assert about == about_then
    for a, b in zip(jax.tree.leaves(snapshot), jax.tree.leaves(expected), strict=True):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def test_a_flipped_bit_that_says_that_the_archive_is_encrypted_is_found(place):
    # The flags of an entry of the zip's central directory.
    at = place.index(b"PK\x01\x02") + 8
    with pytest.raises(ValueError, match="encrypted"):
        unpack(place[:at] + bytes([place[at] | 1]) + place[at + 1 :])


def test_a_place_that_cannot_be_read_or_written_is_told(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="folder' cannot be read: Is a directory"):
        train(ONE, tmp_path / "folder")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written: Not a directory"):
        train(ONE, tmp_path / "file" / "place")


@pytest.mark.parametrize("name", ["replace", "fsync"])
def test_a_writing_that_fails_is_told_and_leaves_the_one_before(tmp_path, place, monkeypatch, name):
    (tmp_path / "place").write_bytes(place)

    def fail(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(files.os, name, fail)
        with pytest.raises(InputError, match="cannot be written: No space left on device; the one before is intact"):
            train(ONE, tmp_path / "place", metrics=METRICS)
    assert (tmp_path / "place").read_bytes() == place
    assert [path.name for path in tmp_path.iterdir()] == ["place"]
    same(train(ONE, tmp_path / "place", metrics=METRICS), train(ONE, None, metrics=METRICS))


def test_what_a_killed_process_was_writing_is_cleared_away_and_nothing_else(tmp_path):
    names = [f".{name}.0123456789abcdef.tmp" for name in ("place", "place.npz", "other")]
    for name in names:
        (tmp_path / name).write_bytes(b"half")
    train(ONE, tmp_path / "place")
    assert sorted(path.name for path in tmp_path.iterdir()) == [*sorted(names[1:]), "place"]


def test_a_second_training_with_the_same_checkpoint_is_refused_and_disturbs_nothing(tmp_path):
    seen = []

    def meanwhile(phase, done, total):
        if not seen:
            before = {path: path.read_bytes() for path in tmp_path.iterdir()}
            with pytest.raises(InputError, match=rf"place' is in use by another training \(process {os.getpid()} on "):
                train(ONE, tmp_path / "place")
            assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
            seen.append(phase)

    same(train(ONE, tmp_path / "place", progress=meanwhile), train(ONE, None))
    # Refused before it compiled anything.
    assert seen == ["compiling"]
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def change(place, edit):
    """The content of a checkpoint whose state was edited, with a digest that is right."""
    state, about = unpack(place)
    del about["sha256"]
    edit(state)
    return pack(state, {**about, "sha256": digest_of_tree(state, about)})


def test_another_number_in_it_is_found_though_the_archive_is_whole(tmp_path, place):
    state, about = unpack(place)
    state["runs"][0][0][...] += 1
    (tmp_path / "place").write_bytes(pack(state, about))
    with pytest.raises(InputError, match=r"is damaged, or no checkpoint; .* its digest is of another content"):
        train(ONE, tmp_path / "place", metrics=METRICS)


@pytest.mark.parametrize(
    "edit",
    [
        lambda state: state.pop("step"),
        lambda state: state.update(step=np.int64(31)),
        lambda state: state.update(step=np.int64(-1)),
        lambda state: state.update(step=np.float32(20)),
        lambda state: state.update(runs=state["runs"] * 2),
        lambda state: state["runs"][0].__setitem__(0, state["runs"][0][0][:1]),
        lambda state: state["runs"][0].__setitem__(0, state["runs"][0][0].astype(np.float64)),
        lambda state: state["histories"][0].pop(),
        lambda state: state.update(histories=[[a[:, :1] for a in of] for of in state["histories"]]),
        lambda state: state.update(diverged_at=None),
        lambda state: state.update(evaluations={"x": {}}),
        lambda state: state.update(evaluations={"10": {"train_loss": np.zeros(3)}}),
        lambda state: state.update(evaluations=[]),
    ],
)
def test_a_state_of_another_form_is_refused_though_its_digest_is_right(tmp_path, place, edit):
    (tmp_path / "place").write_bytes(change(place, edit))
    with pytest.raises(
        InputError, match=r"does not hold the state of these runs; move it away|has no number of iterations"
    ):
        train(ONE, tmp_path / "place", metrics=METRICS)


def compressed(content):
    with np.load(io.BytesIO(content)) as arrays:
        sink = io.BytesIO()
        np.savez_compressed(sink, **arrays)
    return sink.getvalue()


def of_forty_terabytes(content):
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        header = io.BytesIO()
        shape = {"descr": "<f8", "fortran_order": False, "shape": (5 * 10**12,)}
        np.lib.format.write_array_header_1_0(header, shape)
        archive.writestr("leaf_0.npy", header.getvalue())
    return sink.getvalue()


def listed_many_times(content):
    sink = io.BytesIO(content)
    with zipfile.ZipFile(sink, "a") as archive:
        archive.filelist *= 100
        # The list is written again only if something is added.
        archive.writestr("more.npy", b"")
    return sink.getvalue()


@pytest.mark.parametrize("hostile", [compressed, of_forty_terabytes, listed_many_times])
def test_a_small_file_that_asks_for_much_memory_is_refused(tmp_path, place, hostile):
    (tmp_path / "place").write_bytes(hostile(place))
    with pytest.raises(
        InputError, match=r"is damaged, or no checkpoint; .* (compressed|is not what it holds|larger than the file)"
    ):
        train(ONE, tmp_path / "place", metrics=METRICS)


def test_a_pipe_in_its_place_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "place")
    with pytest.raises(InputError, match="place' cannot be read: place is not a regular file"):
        train(ONE, tmp_path / "place")


@pytest.mark.parametrize("seconds", [-1, float("nan"), "1"])
def test_a_time_that_cannot_be_is_refused(tmp_path, seconds):
    with pytest.raises(InputError, match="checkpoint_seconds must be"):
        train(ONE, tmp_path / "place", checkpoint_seconds=seconds)


def test_a_ctrl_c_during_the_last_evaluation_loses_no_iteration(tmp_path):
    def stop(phase, *_):
        if phase == "evaluating":
            raise KeyboardInterrupt

    with pytest.raises(mj.Interrupted) as stopped:
        train(ONE, tmp_path / "place", metrics=METRICS, progress=stop, checkpoint_seconds=1e9)
    assert stopped.value.done == ONE.iterations
    began = []
    result = train(ONE, tmp_path / "place", metrics=METRICS, progress=lambda *call: began.append(call))
    assert "training" not in {phase for phase, *_ in began}
    same(result, train(ONE, tmp_path / "other", metrics=METRICS))
