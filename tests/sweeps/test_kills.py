"""Sweeps and trainings that are killed with SIGKILL and started again end with the bits of undisturbed ones.

By default one sweep is killed once; the exhaustive tests kill at random moments.

MOMENTUM_JAX_KILLS says how many kills each shall survive; three by default.
"""

import dataclasses
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

import momentum_jax as mj
from momentum_jax._base.trees import unpack
from tests.sweeps.small import CHUNK, QUADRATIC, SPACE, small

KILLS = int(os.environ.get("MOMENTUM_JAX_KILLS", "3"))

HELD = """
import sys, time
import jax
jax.config.update("jax_num_cpu_devices", 2)
import momentum_jax as mj
from momentum_jax.sweeps import batches
from tests.sweeps.small import CHUNK, QUADRATIC, SMALL, SPACE, small

batches.BATCH_ITERATIONS = SMALL["iterations"]

def hold(phase, done, total, note=""):
    if phase == "runs" and done > 4:
        print("held", flush=True)
        time.sleep(600)

mj.sweep(small(seeds=2, dataset="mnist"), SPACE, task=QUADRATIC, folder=sys.argv[1], chunk=CHUNK, progress=hold)
"""


def test_a_sweep_killed_in_the_middle_is_finished_by_another_process_with_the_same_bits(tmp_path):
    root = str(pathlib.Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([root, *sys.path])}
    command = [sys.executable, "-W", "ignore", "-c", HELD, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"held\n"
        finally:
            process.send_signal(signal.SIGKILL)
    before = {path.name for path in (tmp_path / "parts").iterdir()}
    assert 0 < len(mj.Result.load(tmp_path).table()) < 12
    options = {"task": QUADRATIC, "chunk": CHUNK}
    cfg = small(seeds=2, dataset="mnist")
    assert mj.sweep(cfg, SPACE, folder=tmp_path, **options) == mj.sweep(cfg, SPACE, **options)
    assert before < {path.name for path in (tmp_path / "parts").iterdir()}


WORK = """
import sys
import jax
jax.config.update("jax_num_cpu_devices", 2)
import jax.numpy as jnp
import numpy as np
import momentum_jax as mj
from momentum_jax.sweeps import batches

def loss(params, batch):
    return jnp.mean(jnp.sum((params["w"] @ batch.T - 1) ** 2, axis=0)) / 2

def init(key):
    return {"w": jax.random.normal(key, [20, 20])}

def working(phase, done, total, note=""):
    if phase in ("runs", "training"):
        print("working", flush=True)

rows = np.random.default_rng(0).normal(size=(200, 20)).astype(np.float32)
task = mj.Task(init=init, loss=loss, train=rows, test=rows[:50])
optimizers = {
    "momentum": mj.OptimizerConfig("momentum", learning_rate=0.01, momentum=0.9),
    "adam": mj.OptimizerConfig("optax.adam", learning_rate=0.01),
}
kind, place, out = sys.argv[1:]
if kind == "sweep":
    batches.BATCH_ITERATIONS = 1000
    cfg = mj.Config(iterations=1000, batch_size=16, seeds=4, optimizers=optimizers, record_every=10)
    space = {"learning_rate": [0.001, 0.003, 0.01, 0.03, 1e20]}
    mj.sweep(cfg, space, task=task, folder=place, keep_params=True, chunk=200, progress=working)
else:
    cfg = mj.Config(iterations=10000, batch_size=16, seeds=2, optimizers=optimizers, evaluate_every=2500)
    result = mj.train(cfg, task=task, chunk=50, checkpoint=place, checkpoint_seconds=0, progress=working)
    result.save(out)
"""


class Worker:
    """A process at work, and what it takes to make one cheaply."""

    def __init__(self, folder: pathlib.Path):
        self.script = folder / "work.py"
        self.script.write_text(WORK)
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }

    def start(self, *arguments) -> subprocess.Popen:
        command = [sys.executable, "-W", "ignore", str(self.script), *map(str, arguments)]
        return subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def finish(self, *arguments) -> None:
        with self.start(*arguments) as process:
            _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors.decode()


def survive(worker, kind, fresh, progress, done):
    """Kills and starts again until there were enough kills, some in the middle of the work, then lets it end.

    Args:
      worker: what starts processes.
      kind: of the work.
      fresh: gives arguments for a new beginning.
      progress: what has been done so far, from 0 to 1, by the arguments.
      done: looks at what is there at an end.
    """
    rng = random.Random(0)
    arguments, kills, shares = fresh(), 0, []
    while kills < KILLS or not any(0 < share < 1 for share in shares):
        assert kills < KILLS + 20
        with worker.start(kind, *arguments) as process:
            if kills % 4 == 3:
                # While it imports, compiles, opens the folder.
                time.sleep(rng.uniform(0, 3))
            else:
                process.stdout.readline()
                time.sleep(rng.uniform(0, 0.5))
            process.send_signal(signal.SIGKILL)
            _, errors = process.communicate(timeout=300)
        if process.returncode == 0:
            done(*arguments)
            arguments = fresh()
            continue
        assert process.returncode == -signal.SIGKILL, errors.decode()
        kills += 1
        shares.append(progress(*arguments))
        if shares[-1] == 1:
            # Killed after its last writing: further kills would find nothing to disturb.
            worker.finish(kind, *arguments)
            done(*arguments)
            arguments = fresh()
    worker.finish(kind, *arguments)
    done(*arguments)
    sys.stdout.write(f"{kind}: {kills} kills, with this share done: {[round(share, 2) for share in shares]}\n")


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    return Worker(tmp_path_factory.mktemp("work"))


@pytest.mark.exhaustive
def test_a_sweep_killed_at_random_moments_ends_with_the_same_table_and_the_same_bits(worker, tmp_path):
    worker.finish("sweep", tmp_path / "undisturbed", "-")
    undisturbed, ends = mj.Result.load(tmp_path / "undisturbed"), []
    count = len(list((tmp_path / "undisturbed" / "parts").iterdir()))

    def fresh():
        return tmp_path / f"disturbed {len(ends)}", "-"

    def progress(folder, _):
        return len(list((folder / "parts").glob("*.parquet"))) / count

    def done(folder, _):
        ends.append(mj.Result.load(folder))
        assert ends[-1] == undisturbed
        # As text, in which a NaN is equal to itself.
        assert str(ends[-1].table().to_pylist()) == str(undisturbed.table().to_pylist())
        assert undisturbed.failed["momentum"][-1].all()
        assert not list(folder.rglob(".*"))
        assert not (folder / "damaged").exists()

    survive(worker, "sweep", fresh, progress, done)
    assert ends


@pytest.mark.exhaustive
def test_a_training_killed_at_random_moments_ends_with_the_same_bits(worker, tmp_path):
    worker.finish("train", tmp_path / "checkpoint", tmp_path / "undisturbed")
    undisturbed, ends = mj.Result.load(tmp_path / "undisturbed"), []

    def fresh():
        return tmp_path / f"place {len(ends)}" / "checkpoint", tmp_path / f"result {len(ends)}"

    def progress(place, _):
        if not place.exists():
            return 0
        snapshot, _ = unpack(place.read_bytes())
        return int(snapshot["step"]) / undisturbed.config.iterations

    def done(place, out):
        ends.append(mj.Result.load(out))
        assert dataclasses.replace(ends[-1], provenance={}) == dataclasses.replace(undisturbed, provenance={})
        assert [path.name for path in place.parent.iterdir()] == ["checkpoint"]

    survive(worker, "train", fresh, progress, done)
    assert ends
