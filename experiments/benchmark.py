"""How fast are training and a single update beside what people write, and beside this machine's own peaks?

Training: the work is the tutorial's: SGD and Momentum on MNIST, batches of 128, the loss recorded before and after
each update (92 MFLOP a step and optimizer). Every contender runs in a process of its own, in turn, several times over;
compiling and loading are not counted.

An update: the momentum of 10 million float32 parameters and its application, compiled, with donated buffers, by this
package and by optax.sgd in turn in one process, with fresh buffers each time. It must read parameters, velocity and
gradient and write two of them: 20 bytes a parameter, held against how fast the cores together read memory and write
it back in place. (A copy to elsewhere is slower than its 8 bytes a float: most processors first read what they write.)

What is reported are medians over the rounds of ratios within a round, since the machines are shared and noisy. Writes
benchmark.json beside this script.
"""

import argparse
import concurrent.futures
import importlib.metadata
import itertools
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np

HERE = pathlib.Path(__file__).parent
CONTENDERS = ("momentum_jax", "flax", "numpy", "numpy64", "peak", "update")
LAYERS = (784, 100, 100, 100, 100, 10)
BATCH = 128


def flops_per_step() -> int:
    """Of the matrix products of one step of one optimizer: forward, backward, and forward again after the update.

    The backward pass has two products a layer, but needs no gradient with respect to the pixels.
    """
    products = [2 * BATCH * a * b for a, b in itertools.pairwise(LAYERS)]
    return 4 * sum(products) - products[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--parameters", type=int, default=10_000_000, help="of the update")
    parser.add_argument("--out", type=pathlib.Path, default=HERE, help="folder for benchmark.json")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        size = arguments.parameters if arguments.contender == "update" else arguments.iterations
        print(json.dumps(globals()[f"time_{arguments.contender}"](size)))
        return

    rounds = []
    for i in range(arguments.rounds):
        rounds.append({name: run(name, arguments) for name in CONTENDERS})
        print(f"round {i + 1} of {arguments.rounds}: {rounds[-1]}", file=sys.stderr)
    report = summarize(rounds, arguments.iterations, arguments.parameters)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "benchmark.json").write_text(json.dumps(report, indent=1) + "\n")
    for name, value in report["median ratios"].items():
        print(f"{name}: {value:.2f}")


def run(contender: str, arguments: argparse.Namespace) -> Any:
    """Seconds (for the peak: FLOP/s of one core) of one contender, in a process of its own."""
    # The peak is that of one core; the others may use what they know how to use.
    environment = os.environ | ({"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} if contender == "peak" else {})
    sizes = ["--iterations", str(arguments.iterations), "--parameters", str(arguments.parameters)]
    command = [sys.executable, __file__, "--contender", contender, *sizes]
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    return json.loads(output.splitlines()[-1])


def summarize(rounds: list[dict[str, Any]], iterations: int, parameters: int) -> dict[str, Any]:
    cores = len(os.sched_getaffinity(0))
    work = 2 * iterations * flops_per_step()
    ratios = {
        "times faster than the Flax and Optax loop": [r["flax"] / r["momentum_jax"] for r in rounds],
        "times faster than the NumPy loop, float32": [r["numpy"] / r["momentum_jax"] for r in rounds],
        "times faster than the NumPy loop, float64": [r["numpy64"] / r["momentum_jax"] for r in rounds],
        "share of the float32 matrix-product peak": [work / r["momentum_jax"] / (cores * r["peak"]) for r in rounds],
        f"time of an update of {parameters:,} parameters over that of optax.sgd": [
            r["update"]["momentum"] / r["update"]["optax"] for r in rounds
        ],
        "share of the memory bandwidth in that update": [
            # 20 bytes a parameter here, 8 in the stream.
            20 / r["update"]["momentum"] / (8 / r["update"]["stream"])
            for r in rounds
        ],
    }
    return {
        "work": f"2 optimizers x {iterations} iterations x {flops_per_step() / 1e6:.1f} MFLOP",
        "machine": f"{cores} cores, {platform.machine()}, Python {platform.python_version()}, "
        f"JAX {importlib.metadata.version('jax')}",
        "median ratios": {name: statistics.median(values) for name, values in ratios.items()},
        "rounds": rounds,
    }


def time_momentum_jax(iterations: int) -> float:
    import jax

    import momentum_jax as mj
    from momentum_jax.machine import cores

    jax.config.update("jax_num_cpu_devices", cores())
    cfg = mj.Config(
        iterations=iterations,
        optimizers={
            "sgd": mj.OptimizerConfig("sgd", learning_rate=0.01),
            "momentum": mj.OptimizerConfig("momentum", learning_rate=0.01, momentum=0.9),
        },
    )
    return float(mj.train(cfg).provenance["seconds"]["training"])


def time_flax(iterations: int) -> float:
    """The loop of Flax's own examples: a TrainState for each optimizer, one jitted step an iteration."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax.training.train_state import TrainState

    import momentum_jax as mj

    mnist = mj.load_dataset("mnist")
    x, y = jnp.asarray(mnist.x_train, jnp.float32) / 255, jnp.asarray(mnist.y_train)
    mlp = mj.MLP()

    @jax.jit
    def train_step(state: TrainState, images: jax.Array, labels: jax.Array) -> tuple[TrainState, jax.Array, jax.Array]:
        def loss(params: object) -> jax.Array:
            logits = state.apply_fn(params, images)
            losses: jax.Array = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean()

        before, grads = jax.value_and_grad(loss)(state.params)
        state = state.apply_gradients(grads=grads)
        return state, before, loss(state.params)

    params = mlp.init(jax.random.key(0), x[:1])
    states = [
        TrainState.create(apply_fn=mlp.apply, params=params, tx=tx) for tx in (optax.sgd(0.01), optax.sgd(0.01, 0.9))
    ]
    rng = np.random.default_rng(0)

    def loop(states: list[TrainState], count: int) -> list[TrainState]:
        losses = []
        for _ in range(count):
            rows = rng.integers(0, len(y), BATCH)
            images, labels = x[rows], y[rows]
            for i, state in enumerate(states):
                states[i], before, after = train_step(state, images, labels)
                losses.append((before, after))
        jax.block_until_ready((states, losses))
        return states

    states = loop(states, 3)
    began = time.perf_counter()
    loop(states, iterations)
    return time.perf_counter() - began


def time_numpy(iterations: int, dtype: type = np.float32) -> float:
    from numpy_tutorial import MiniSGD, Momentum, train

    import momentum_jax as mj

    mnist = mj.load_dataset("mnist")
    rng = np.random.default_rng(0)
    x = mnist.x_train.astype(np.float32) / np.float32(255)
    params = {}
    for i, (a, b) in enumerate(itertools.pairwise(LAYERS)):
        params[f"W{i}"] = (rng.normal(size=(a, b)) * np.sqrt(2 / a)).astype(dtype)
        params[f"b{i}"] = np.zeros(b, dtype)
    batches = rng.integers(0, len(x), (iterations, BATCH))
    began = time.perf_counter()
    train(params, x, mnist.y_train, batches, [MiniSGD(), Momentum()])
    return time.perf_counter() - began


def time_numpy64(iterations: int) -> float:
    """With float64 weights, which is what the tutorial's code makes."""
    return time_numpy(iterations, np.float64)


def time_peak(iterations: int) -> float:
    """FLOP/s of one core on a float32 matrix product, the best of ten."""
    del iterations
    n = 2048
    a = np.random.default_rng(0).normal(size=(n, n)).astype(np.float32)
    seconds = []
    for _ in range(10):
        began = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - began)
    return 2 * n**3 / min(seconds)


def time_update(parameters: int) -> dict[str, float]:
    """Median seconds of one update by momentum_jax, by Optax, and of as many floats read and written back."""
    import jax
    import jax.numpy as jnp
    import optax

    import momentum_jax as mj
    from momentum_jax.machine import cores

    optimizers = {"momentum": mj.momentum(0.01, 0.9), "optax": optax.sgd(0.01, 0.9)}

    def make_step(optimizer: optax.GradientTransformation) -> Any:
        def step(params: jax.Array, state: Any, grads: jax.Array) -> tuple[Any, Any]:
            updates, state = optimizer.update(grads, state)
            return optax.apply_updates(params, updates), state

        return jax.jit(step, donate_argnums=(0, 1))

    steps = {name: make_step(optimizer) for name, optimizer in optimizers.items()}
    grads = jnp.full(parameters, 1e-3)

    def seconds_of_update(name: str) -> float:
        params = jnp.ones(parameters)
        carry = steps[name](params, optimizers[name].init(params), grads)
        jax.block_until_ready(carry)
        began = time.perf_counter()
        for _ in range(20):
            carry = steps[name](*carry, grads)
        jax.block_until_ready(carry)
        return (time.perf_counter() - began) / 20

    streamed = np.ones((cores(), parameters // cores()), np.float32)

    def seconds_of_stream(threads: concurrent.futures.Executor) -> float:
        began = time.perf_counter()
        for _ in range(20):
            list(threads.map(lambda part: np.multiply(part, np.float32(1), out=part), streamed))
        return (time.perf_counter() - began) / 20

    seconds: dict[str, list[float]] = {"momentum": [], "optax": [], "stream": []}
    with concurrent.futures.ThreadPoolExecutor(cores()) as threads:
        for i in range(16):
            for name in sorted(optimizers, reverse=bool(i % 2)):
                seconds[name].append(seconds_of_update(name))
            seconds["stream"].append(seconds_of_stream(threads))
    return {name: statistics.median(values) for name, values in seconds.items()}


if __name__ == "__main__":
    main()
