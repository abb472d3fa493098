"""How much of a GPU do a thousand runs of Momentum on MNIST use, as one program?

Not yet run on a GPU: so far only its tests on a CPU have run it.

The work: 1,000 seeds x 2,000 iterations of the tutorial's Momentum, batches of 128, the loss recorded before and after
each update (92 MFLOP a step). One program holds all of it: a vmap over seeds of a scan over iterations, in chunks of
runs that follow one another. Every size of chunk is timed with products in float32, in TF32 and in bfloat16 (with sums
in float32), and held against what the same device reaches on one large matrix product of each kind. Compiling is
reported apart. The mean loss over the last iterations says what the shorter formats cost in quality.

Needs no more than jax, flax, optax, NumPy and jaxtyping. Writes gpu_benchmark.json.

    python experiments/gpu_benchmark.py --out gpu_benchmark.json
"""

import argparse
import datetime
import itertools
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import momentum_jax as mj
from momentum_jax._base.machine import provenance

LAYERS = (784, 100, 100, 100, 100, 10)
BATCH = 128
LAST = 100
# What `jax.default_matmul_precision` calls them; its "bfloat16" would be TF32 on a GPU.
PRECISIONS = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "BF16_BF16_F32"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--chunks", type=integers, default=[50, 100, 250, 500, 1000], help="runs per vmap, each timed")
    parser.add_argument("--repeats", type=int, default=3, help="of each timing, of which the median counts")
    parser.add_argument("--peak-size", type=int, default=8192, help="rows and columns of the large product")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("gpu_benchmark.json"))
    arguments = parser.parse_args()

    mnist = mj.load_dataset("mnist")
    images, labels = jnp.asarray(mnist.x_train), jnp.asarray(mnist.y_train)
    params_key, batches_key = jax.random.split(jax.random.key(0))
    params = jax.jit(jax.vmap(initial_params))(jax.random.split(params_key, arguments.runs))
    inputs = (params, jax.random.split(batches_key, arguments.runs), images, labels)
    work = arguments.runs * arguments.iterations * flops_per_step()
    peaks = {name: peak(name, arguments.peak_size, arguments.repeats) for name in PRECISIONS}
    measured: list[dict[str, Any]] = []
    failed = []
    for precision, chunk in itertools.product(PRECISIONS, arguments.chunks):
        configuration = {"precision": precision, "chunk": chunk}
        try:
            with jax.default_matmul_precision(PRECISIONS[precision]):
                program, compiling = compiled(make_program(arguments.iterations, chunk), *inputs)
            losses, training = timed(program, arguments.repeats, *inputs)
        except (jax.errors.JaxRuntimeError, ValueError) as error:
            # Too large a chunk for the device's memory, or a precision that it does not have: the others still count.
            failed.append(configuration | {"error": str(error)[:500]})
            print(failed[-1], file=sys.stderr)
            continue
        rates = {
            "seconds": training,
            "seconds compiling": compiling,
            "TFLOP/s": work / training / 1e12,
            "share of the float32 peak": work / training / peaks["float32"],
            "share of its own precision's peak": work / training / peaks[precision],
            "mean loss at the end": float(losses[:, -LAST:, 0].mean()),
            "runs that are not finite": int((~jnp.isfinite(losses).all((1, 2))).sum()),
        }
        measured.append(configuration | rates)
        print(measured[-1], file=sys.stderr)
    slowest_first = sorted(measured, key=lambda entry: entry["seconds"], reverse=True)
    fastest = {entry["precision"]: entry for entry in slowest_first}
    report = {
        "work": f"{arguments.runs} runs x {arguments.iterations} iterations x {flops_per_step() / 1e6:.1f} MFLOP",
        "date": datetime.date.today().isoformat(),
        "machine": provenance(jax.devices(), {"source": mnist.source, "digest": mnist.digest}),
        f"peak TFLOP/s of a {arguments.peak_size}³ product": {name: value / 1e12 for name, value in peaks.items()},
        "fastest": fastest,
        "measured": measured,
        "failed": failed,
    }
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    for name, best in fastest.items():
        print(
            f"{name}: {best['seconds']:.2f} s in chunks of {best['chunk']}, {best['TFLOP/s']:.2f} TFLOP/s, "
            f"{best['share of the float32 peak']:.0%} of the float32 peak"
        )


def integers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def flops_per_step() -> int:
    """Of the matrix products: forward, backward without the gradient of the pixels, forward after the update."""
    products = [2 * BATCH * a * b for a, b in itertools.pairwise(LAYERS)]
    return 4 * sum(products) - products[0]


def initial_params(key: jax.Array) -> Any:
    return mj.MLP().init(key, jnp.zeros([1, LAYERS[0]]))


def make_program(iterations: int, chunk: int) -> Callable[..., jax.Array]:
    """All runs as one function.

    Its arguments are their initial weights and keys (each with a leading axis of runs), the images and the labels; it
    returns the losses [runs, iterations, before and after].
    """
    mlp = mj.MLP()
    optimizer = mj.momentum(0.01, 0.9)

    def loss(params: Any, pixels: jax.Array, targets: jax.Array) -> jax.Array:
        logits: Any = mlp.apply(params, pixels.astype(jnp.float32) / 255)
        losses: jax.Array = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
        return losses.mean()

    def program(params: Any, keys: jax.Array, images: jax.Array, labels: jax.Array) -> jax.Array:
        def step(carry: Any, key: jax.Array) -> tuple[Any, jax.Array]:
            params, state = carry
            rows = jax.random.randint(key, [BATCH], 0, len(labels))
            pixels, targets = images[rows], labels[rows]
            before, grads = jax.value_and_grad(loss)(params, pixels, targets)
            updates, state = optimizer.update(grads, state)
            params = optax.apply_updates(params, updates)
            return (params, state), jnp.stack([before, loss(params, pixels, targets)])

        def run(inputs: tuple[Any, jax.Array]) -> jax.Array:
            params, key = inputs
            keys = jax.random.split(key, iterations)
            losses: jax.Array = jax.lax.scan(step, (params, optimizer.init(params)), keys)[1]
            return losses

        mapped: jax.Array = jax.lax.map(run, (params, keys), batch_size=chunk)
        return mapped

    return program


def peak(precision: str, size: int, repeats: int) -> float:
    """FLOP/s of a product of two square matrices: of bfloat16 where that is asked for, otherwise of float32."""
    dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    a, b = jax.random.normal(jax.random.key(0), [2, size, size], dtype)
    with jax.default_matmul_precision(PRECISIONS[precision]):
        product, _ = compiled(lambda a, b: jnp.matmul(a, b, preferred_element_type=jnp.float32), a, b)
    timed(product, 1, a, b)
    products = 10
    _, seconds = timed(lambda a, b: [product(a, b) for _ in range(products)], repeats, a, b)
    return products * 2 * size**3 / seconds


def compiled(function: Callable[..., Any], *arguments: Any) -> tuple[Callable[..., Any], float]:
    """The program for such arguments, and the seconds of making it."""
    began = time.perf_counter()
    program = jax.jit(function).lower(*arguments).compile()
    return program, time.perf_counter() - began


def timed(function: Callable[..., Any], repeats: int, *arguments: Any) -> tuple[Any, float]:
    """What a function returns, and the median of the seconds that it takes."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        result = jax.block_until_ready(function(*arguments))
        seconds.append(time.perf_counter() - began)
    return result, statistics.median(seconds)


if __name__ == "__main__":
    main()
