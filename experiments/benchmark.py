"""How fast are training and a single update beside what people write, and beside this machine's own peaks?

Training: the work is the tutorial's: SGD and Momentum on MNIST, batches of 128, the loss recorded before and after
each update (92 MFLOP a step and optimizer). The peers are in peers.py. Some train one seed, some several at once: those
are compared by their time a seed. Compiling and loading are not counted. The other tasks by name, each with momentum,
the loss before each update and a tenth of the iterations (logistic and least_squares with all), are beside the loops in
task_peers.py.

Sweeps: trials of the tutorial's network, each a run with a learning rate and a momentum, without the loss after the
update (64 MFLOP a step). Compiling, loading and evaluating are not counted. Also with half of the runs diverging.
sweep_costs.py says how the other costs of sweeps are measured.

The limit: what NumPy's float32 matrix products reach with all cores at work at once.

The command: `momentum-jax` from the start of the process until its table and figure are there, beside a plain script
that does the same work, with an empty compilation cache and again with the one that it has left.

An update: the momentum of 10 million float32 parameters and its application, compiled, with donated buffers, by this
package and by optax.sgd in turn in one process, with fresh buffers each time. It must read parameters, velocity and
gradient and write two of them: 20 bytes a parameter, held against how fast the cores together read memory and write
it back in place. (A copy to elsewhere is slower than its 8 bytes a float: most processors first read what they write.)

Every contender runs in a process of its own, in turn, several times over. What is reported are medians over the rounds
of ratios within a round, since the machines are shared and noisy. Writes benchmark.json and the figure benchmark.png
beside this script.

With --before CHECKOUT the sweeps and the command of an earlier checkout of this repository are measured in the same
rounds.

A contender is a function of the sizes that returns a number or a dictionary of them. To add one, enter it in CONTENDERS
and what is made of it in `ratios`.
"""

import argparse
import concurrent.futures
import importlib.metadata
import importlib.util
import itertools
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import command_costs
import numpy as np
import peers
import sweep_costs
import task_peers
from matplotlib.figure import Figure
from peers import flops_per_step
from plain_script import LEARNING_RATE, MOMENTUM

import momentum_jax as mj
from momentum_jax._base.machine import cores
from momentum_jax.report import STYLES, save_figure

HERE = pathlib.Path(__file__).parent
FASTER = "times faster than "
# So that NumPy's products take one core each.
ONE_THREAD = (("OPENBLAS_NUM_THREADS", "1"), ("MKL_NUM_THREADS", "1"))
# The tasks that are trained with several seeds, too.
TASKS_OF_SEEDS = ("convnet", "char_transformer")
# The contenders that an earlier checkout can be, too.
BEFORE = {name: f"{name} before" for name in ("sweep", "sweep_diverging", "command")}


class Sizes(NamedTuple):
    """How much work each contender is given."""

    iterations: int
    seeds: int
    parameters: int
    trials: int


class Contender(NamedTuple):
    """Something that is measured: seconds, or whatever its ratios make sense of."""

    measure: Callable[[Sizes], Any]
    needs: str | None = None
    environment: tuple[tuple[str, str], ...] = ()


class Ratio(NamedTuple):
    """A number made, within a round, of what some contenders measured, and what it ought to reach, or stay under."""

    contenders: Sequence[str]
    of: Callable[..., float]
    target: float | None = None
    stay_under: bool = False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=8, help="of the contenders that train several at once")
    parser.add_argument("--parameters", type=int, default=10_000_000, help="of the update")
    parser.add_argument("--trials", type=trials, default=64, help="of the sweeps: a multiple of 8")
    parser.add_argument(
        "--before", type=pathlib.Path, metavar="CHECKOUT", help="an earlier checkout of this repository"
    )
    parser.add_argument(
        "--contenders", type=names, default=list(CONTENDERS), help=f"some of {','.join(CONTENDERS)}; by default all"
    )
    parser.add_argument("--out", type=pathlib.Path, default=HERE, help="folder for the results")
    parser.add_argument("--measure", choices=CONTENDERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sizes = Sizes(arguments.iterations, arguments.seeds, arguments.parameters, arguments.trials)
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, sizes)))
        return

    rounds: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    for i in range(arguments.rounds):
        measured: dict[str, Any] = {}
        for name in arguments.contenders:
            if name not in left_out:
                outcome = run(name, sizes)
                (left_out if "left out" in outcome else measured)[name] = next(iter(outcome.values()))
            if arguments.before and name in BEFORE:
                measured[BEFORE[name]] = run(name, sizes, arguments.before)["measured"]
        rounds.append(measured)
        print(f"round {i + 1} of {arguments.rounds}: {measured}", file=sys.stderr)
    report = summarize(rounds, left_out, sizes)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "benchmark.json").write_text(json.dumps(report, indent=1) + "\n")
    save_figure(draw(report), arguments.out / "benchmark")
    for name, value in report["median ratios"].items():
        print(f"{name}: {value:.2f}{verdict(report, name)}")
    for name, reason in left_out.items():
        print(f"left out: {name}, {reason}")


def names(text: str) -> list[str]:
    chosen = text.split(",")
    unknown = [name for name in chosen if name not in CONTENDERS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no contender is called {', '.join(unknown)}")
    return chosen


def trials(text: str) -> int:
    """Half of the learning rates diverge, and each is combined with all momenta."""
    count, unit = int(text), 2 * len(sweep_costs.MOMENTA)
    if count < unit or count % unit:
        raise argparse.ArgumentTypeError(f"must be a multiple of {unit}, not {count}")
    return count


def verdict(report: dict[str, Any], name: str) -> str:
    if name not in report["targets"]:
        return ""
    entry = report["targets"][name]
    return f" (target: {entry['sense']} {entry['target']:g}, {'met' if entry['met'] else 'missed'})"


def measure(name: str, sizes: Sizes) -> dict[str, Any]:
    """{"measured": what the contender returns}, or {"left out": why it cannot run here}."""
    contender = CONTENDERS[name]
    if contender.needs and importlib.util.find_spec(contender.needs) is None:
        return {"left out": f"{contender.needs} is not installed"}
    try:
        return {"measured": contender.measure(sizes)}
    except peers.UnavailableError as reason:
        return {"left out": str(reason)}


def run(name: str, sizes: Sizes, checkout: pathlib.Path = HERE.parent) -> dict[str, Any]:
    """`measure` in a process of its own, which imports the package of a checkout."""
    path = os.pathsep.join(filter(None, [str(checkout.resolve()), os.environ.get("PYTHONPATH")]))
    flags = itertools.chain.from_iterable((f"--{size}", str(value)) for size, value in sizes._asdict().items())
    output = subprocess.run(
        [sys.executable, __file__, "--measure", name, *flags],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, **dict(CONTENDERS[name].environment)},
    ).stdout
    outcome: dict[str, Any] = json.loads(output.splitlines()[-1])
    return outcome


def times_faster(ours: str, theirs: str, target: float | None = None) -> Ratio:
    return Ratio((ours, theirs), lambda ours, theirs: theirs / ours, target)


def ratios(sizes: Sizes) -> dict[str, Ratio]:
    """In the order in which they are shown."""
    return training_ratios(sizes) | task_ratios(sizes) | sweep_ratios(sizes) | command_ratios() | update_ratios(sizes)


def training_ratios(sizes: Sizes) -> dict[str, Ratio]:
    work = 2 * sizes.iterations * flops_per_step()
    return {
        f"{FASTER}the Flax and Optax loop": times_faster("momentum_jax", "flax", 2.8),
        f"{FASTER}the NumPy loop, float32": times_faster("momentum_jax", "numpy", 8),
        f"{FASTER}the NumPy loop, float64": times_faster("momentum_jax", "numpy64", 8),
        f"{FASTER}PyTorch": times_faster("momentum_jax", "torch_eager", 4),
        f"{FASTER}PyTorch with torch.compile": times_faster("momentum_jax", "torch_compiled"),
        f"{FASTER}PyTorch's vmap over {sizes.seeds} seeds": times_faster("momentum_jax_seeds", "torch_vmap"),
        f"{FASTER}PureJaxRL's vmap over {sizes.seeds} seeds": times_faster("momentum_jax_seeds", "purejaxrl"),
        "share of the float32 matrix-product peak": Ratio(
            ("momentum_jax", "limit"), lambda seconds, limit: work / seconds / limit
        ),
    }


def task_ratios(sizes: Sizes) -> dict[str, Ratio]:
    faster = {
        f"{FASTER}the Flax loop, {name}": times_faster(name, f"{name}_flax", 1 if name in TASKS_OF_SEEDS else None)
        for name in task_peers.LOSSES
    }
    return faster | {
        f"{FASTER}the Flax loop over {sizes.seeds} seeds, {name}": times_faster(f"{name}_seeds", f"{name}_flax", 1.8)
        for name in TASKS_OF_SEEDS
    }


def sweep_ratios(sizes: Sizes) -> dict[str, Ratio]:
    work = sizes.trials * sizes.iterations * flops_per_step(loss_after=False)
    of = f"of {sizes.trials} trials"

    def faster(theirs: str, target: float | None = None, ours: str = "sweep") -> Ratio:
        return Ratio((ours, theirs), lambda ours, theirs: theirs["training"] / ours["training"], target)

    return {
        f"{FASTER}vmap by hand, sweep {of}": faster("sweep_vmap", 1.7),
        f"{FASTER}vmap by hand with one key, sweep {of}": faster("sweep_vmap_one_key"),
        f"{FASTER}PyTorch on each core, sweep {of}": faster("sweep_torch", 3.5),
        f"{FASTER}before, sweep {of}": faster(BEFORE["sweep"], 1.35),
        f"{FASTER}before, half of the runs diverging": faster(BEFORE["sweep_diverging"], 2.3, "sweep_diverging"),
        f"sweep {of}: runs a second": Ratio(("sweep",), lambda sweep: sizes.trials / sweep["training"]),
        f"sweep {of}: time with half of the runs diverging over that with none": Ratio(
            ("sweep_diverging", "sweep"),
            lambda diverging, sweep: diverging["training"] / sweep["training"],
            0.6,
            stay_under=True,
        ),
        f"sweep {of}: share of the limit of {cores()} cores while training": Ratio(
            ("sweep", "limit"), lambda sweep, limit: work / sweep["training"] / limit, 0.85
        ),
        "sweep: time a run of 512 over that of 8": Ratio(("cost",), lambda cost: cost["ratio"], 1.05, stay_under=True),
        "sweep: seconds of compiling for 512 runs over those for 8": Ratio(
            ("cost",), lambda cost: cost["seconds of compiling for 512 runs"] / cost["seconds of compiling for 8 runs"]
        ),
        "sweep: GB of memory for 2,048 short runs": Ratio(
            ("memory",), lambda memory: memory / 1e9, 0.6, stay_under=True
        ),
        "sweep: time on Ray workers here over that in one process, from the second batch of runs on": Ratio(
            ("ray",), lambda ray: ray["ratios"]["steady"], 1.05, stay_under=True
        ),
    }


def command_ratios() -> dict[str, Ratio]:
    def over(theirs: str, cache: str, target: float | None = None) -> Ratio:
        return Ratio(
            ("command", theirs),
            lambda ours, theirs: ours[cache]["total"] / theirs[cache]["total"],
            target,
            stay_under=True,
        )

    def rest(cache: str, target: float) -> Ratio:
        def seconds(command: Any) -> float:
            return float(command[cache]["total"] - command[cache]["training"] - command[cache]["drawing"])

        return Ratio(("command",), seconds, target, stay_under=True)

    return {
        "command: time over that of the plain script, warm cache": over("plain_script", "warm", 0.6),
        "command: time over that of the plain script, empty cache": over("plain_script", "empty"),
        "command: time over that before, warm cache": over(BEFORE["command"], "warm"),
        "command: time over that before, empty cache": over(BEFORE["command"], "empty"),
        "command: seconds of all but training and drawing, warm cache": rest("warm", 3),
        "command: seconds of all but training and drawing, empty cache": rest("empty", 5),
        "command: seconds of tracing and compiling, warm cache": Ratio(
            ("command",), lambda command: command["warm"]["compiling"], 1, stay_under=True
        ),
        "time of the command with a warm compilation cache over that with an empty one": Ratio(
            ("command",), lambda command: command["warm"]["total"] / command["empty"]["total"]
        ),
    }


def update_ratios(sizes: Sizes) -> dict[str, Ratio]:
    return {
        f"time of an update of {sizes.parameters:,} parameters over that of optax.sgd": Ratio(
            ("update",), lambda update: update["momentum"] / update["optax"]
        ),
        "share of the memory bandwidth in that update": Ratio(
            # 20 bytes a parameter here, 8 in the stream.
            ("update",),
            lambda update: 20 / update["momentum"] / (8 / update["stream"]),
        ),
    }


def summarize(rounds: list[dict[str, Any]], left_out: dict[str, str], sizes: Sizes) -> dict[str, Any]:
    """What is written: ratios of which a contender is missing are left out."""
    medians, ranges, targets = {}, {}, {}
    for name, ratio in ratios(sizes).items():
        complete = [r for r in rounds if all(contender in r for contender in ratio.contenders)]
        values = [ratio.of(*(r[contender] for contender in ratio.contenders)) for r in complete]
        if not values:
            continue
        medians[name] = statistics.median(values)
        ranges[name] = [min(values), max(values)]
        if ratio.target is not None:
            met = medians[name] <= ratio.target if ratio.stay_under else medians[name] >= ratio.target
            sense = "at most" if ratio.stay_under else "at least"
            targets[name] = {"sense": sense, "target": ratio.target, "measured": medians[name], "met": met}
    return {
        "work": f"2 optimizers x {sizes.iterations} iterations x {flops_per_step() / 1e6:.1f} MFLOP",
        "machine": f"{cores()} cores, {platform.machine()}, Python {platform.python_version()}, {versions()}",
        "median ratios": medians,
        "ranges": ranges,
        "targets": targets,
        "median seconds of the command": median_phases([r["command"] for r in rounds if "command" in r]),
        "left out": left_out,
        "rounds": rounds,
    }


def versions() -> str:
    installed = [("JAX", "jax"), ("NumPy", "numpy"), ("PyTorch", "torch")]
    return ", ".join(
        f"{name} {importlib.metadata.version(package)}"
        for name, package in installed
        if importlib.util.find_spec(package)
    )


def median_phases(commands: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    if not commands:
        return {}
    return {
        cache: {phase: statistics.median(command[cache][phase] for command in commands) for phase in phases}
        for cache, phases in commands[0].items()
    }


def draw(report: dict[str, Any]) -> Figure:
    """How many times faster than each peer: the median as a bar, the range over rounds, and the target."""
    faster = {name: value for name, value in report["median ratios"].items() if name.startswith(FASTER)}
    figure = Figure(figsize=(8, 1.4 + 0.42 * len(faster)), layout="constrained")
    axes = figure.add_subplot()
    for row, (name, median) in enumerate(faster.items()):
        low, high = report["ranges"][name]
        axes.barh(row, median, height=0.6, color=STYLES[6].color)
        axes.plot([low, high], [row, row], color="black", marker="|", markersize=7, linewidth=1.2)
        target = report["targets"].get(name, {}).get("target")
        if target is not None:
            axes.plot(target, row, color=STYLES[0].color, marker="D", markersize=7, linestyle="none")
        axes.annotate(f"{median:.1f}", (0, row), (4, 0), textcoords="offset points", va="center")
    axes.axvline(1, color="black", linewidth=0.8, linestyle=":")
    axes.set(
        yticks=range(len(faster)),
        yticklabels=[name.removeprefix(FASTER) for name in faster],
        xlabel="Times faster than that peer, per run (1: as fast)",
        xlim=(0, None),
        title=f"Training time: medians of {len(report['rounds'])} rounds",
    )
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    axes.plot([], [], color="black", marker="|", markersize=7, linewidth=1.2, label="lowest to highest round")
    if report["targets"]:
        axes.plot([], [], color=STYLES[0].color, marker="D", markersize=7, linestyle="none", label="target")
    figure.legend(loc="outside lower right", ncols=2, frameon=False)
    return figure


def train_seconds(seeds: int, iterations: int) -> float:
    """Of the training phase of `mj.train`, divided by the number of seeds."""
    import jax

    jax.config.update("jax_num_cpu_devices", cores())
    cfg = mj.Config(
        iterations=iterations,
        seeds=seeds,
        optimizers={
            "sgd": mj.OptimizerConfig("sgd", learning_rate=LEARNING_RATE),
            "momentum": mj.OptimizerConfig("momentum", learning_rate=LEARNING_RATE, momentum=MOMENTUM),
        },
    )
    return float(mj.train(cfg).provenance["seconds"]["training"]) / seeds


def sweep(sizes: Sizes, *, diverging: bool = False) -> dict[str, float]:
    rates = sweep_costs.learning_rates(sizes.trials // len(sweep_costs.MOMENTA), diverging)
    return sweep_costs.sweep_seconds(rates, sizes.iterations)


def grid(sizes: Sizes) -> list[tuple[float, float]]:
    """The trials of `sweep`."""
    rates = sweep_costs.learning_rates(sizes.trials // len(sweep_costs.MOMENTA))
    return list(itertools.product(rates, sweep_costs.MOMENTA))


def update(sizes: Sizes) -> dict[str, float]:
    """Median seconds of one update by momentum_jax, by Optax, and of as many floats read and written back."""
    import jax
    import jax.numpy as jnp
    import optax

    parameters = sizes.parameters
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


def task_contenders(name: str) -> dict[str, Contender]:
    """A task by name, the loop that is its peer and, for some, the task with several seeds."""

    def seconds(sizes: Sizes, seeds: int = 1) -> float:
        return task_peers.task_seconds(name, seeds, task_peers.iterations_of(name, sizes.iterations))

    def seconds_of_loop(sizes: Sizes) -> float:
        return task_peers.loop_seconds(name, task_peers.iterations_of(name, sizes.iterations))

    contenders = {name: Contender(seconds), f"{name}_flax": Contender(seconds_of_loop)}
    if name in TASKS_OF_SEEDS:
        contenders[f"{name}_seeds"] = Contender(lambda sizes: seconds(sizes, sizes.seeds))
    return contenders


CONTENDERS = {
    "momentum_jax": Contender(lambda sizes: train_seconds(1, sizes.iterations)),
    "flax": Contender(lambda sizes: peers.seconds(peers.flax_loop, sizes.iterations)),
    "numpy": Contender(lambda sizes: peers.seconds(peers.numpy_loop, sizes.iterations)),
    # The weights that the tutorial's code makes are of this type.
    "numpy64": Contender(lambda sizes: peers.seconds(peers.numpy_loop, sizes.iterations, np.float64)),
    "torch_eager": Contender(lambda sizes: peers.seconds(peers.torch_eager, sizes.iterations), needs="torch"),
    "torch_compiled": Contender(lambda sizes: peers.seconds(peers.torch_compiled, sizes.iterations), needs="torch"),
    "momentum_jax_seeds": Contender(lambda sizes: train_seconds(sizes.seeds, sizes.iterations)),
    "torch_vmap": Contender(
        lambda sizes: peers.seconds_a_seed(peers.torch_vmap, sizes.seeds, sizes.iterations), needs="torch"
    ),
    "purejaxrl": Contender(lambda sizes: peers.purejaxrl_seconds_a_seed(sizes.seeds, sizes.iterations)),
    **{key: contender for name in task_peers.LOSSES for key, contender in task_contenders(name).items()},
    "sweep": Contender(sweep),
    "limit": Contender(lambda sizes: peers.matrix_product_limit(), environment=ONE_THREAD),
    "sweep_diverging": Contender(lambda sizes: sweep(sizes, diverging=True)),
    "sweep_vmap": Contender(lambda sizes: {"training": peers.vmap_sweep_seconds(grid(sizes), sizes.iterations)}),
    "sweep_vmap_one_key": Contender(
        lambda sizes: {"training": peers.vmap_sweep_seconds(grid(sizes), sizes.iterations, one_key=True)}
    ),
    "sweep_torch": Contender(
        lambda sizes: {"training": peers.torch_sweep_seconds(grid(sizes), sizes.iterations)}, needs="torch"
    ),
    "cost": Contender(lambda sizes: sweep_costs.cost_per_run()),
    "memory": Contender(lambda sizes: sweep_costs.memory_of_short_runs()),
    "ray": Contender(lambda sizes: sweep_costs.ray_overhead(sizes.iterations), needs="ray"),
    "command": Contender(lambda sizes: command_costs.command(sizes.iterations)),
    "plain_script": Contender(lambda sizes: command_costs.plain_script(sizes.iterations)),
    "update": Contender(update),
}


if __name__ == "__main__":
    main()
