"""What the whole command costs beside a plain script: seconds from the start of the process until its figure is there.

Each is run with an empty compilation cache, and again with the one that it has left.
"""

import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

import numpy as np

import momentum_jax as mj

PLAIN_SCRIPT = pathlib.Path(__file__).with_name("plain_script.py")
CACHES = ("empty", "warm")


def command(iterations: int) -> dict[str, dict[str, float]]:
    """Seconds of `momentum-jax` in total and of each phase that it tells, with an empty and with a warm cache."""
    program = [sys.executable, "-m", "momentum_jax", "--iterations", str(iterations), "--out", "result", "--json"]
    with tempfile.TemporaryDirectory() as folder:
        environment = {"MOMENTUM_JAX_COMPILATION_CACHE": f"{folder}/cache"}

        def once(name: str) -> dict[str, float]:
            seconds, output = _timed(program, pathlib.Path(folder, name), environment)
            return {"total": seconds, **json.loads(output)["seconds"]}

        return {name: once(name) for name in CACHES}


def plain_script(iterations: int) -> dict[str, dict[str, float]]:
    """Seconds of the plain script, with an empty and with a warm cache. It is told to keep every program there."""
    with tempfile.TemporaryDirectory() as folder:
        data = write_idx(pathlib.Path(folder, "data"))
        program = [sys.executable, str(PLAIN_SCRIPT), str(data), "result", "--iterations", str(iterations)]
        environment = {
            "JAX_COMPILATION_CACHE_DIR": f"{folder}/cache",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        return {name: {"total": _timed(program, pathlib.Path(folder, name), environment)[0]} for name in CACHES}


def write_idx(folder: pathlib.Path) -> pathlib.Path:
    """Writes MNIST as its four unpacked files, and returns their folder."""
    folder.mkdir()
    dataset = mj.load_dataset("mnist")
    parts = {"train": (dataset.x_train, dataset.y_train), "t10k": (dataset.x_test, dataset.y_test)}
    for part, (images, labels) in parts.items():
        header = struct.pack(">4I", 0x803, len(images), 28, 28)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = struct.pack(">2I", 0x801, len(labels))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(header + labels.astype(np.uint8).tobytes())
    return folder


def _timed(program: Sequence[str], folder: pathlib.Path, environment: Mapping[str, str]) -> tuple[float, str]:
    """Seconds of a program in a folder of its own, and what it printed."""
    folder.mkdir()
    began = time.perf_counter()
    done = subprocess.run(
        program, check=True, stdout=subprocess.PIPE, text=True, cwd=folder, env={**os.environ, **environment}
    )
    return time.perf_counter() - began, done.stdout
