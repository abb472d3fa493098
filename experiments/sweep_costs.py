"""What sweeps cost: their seconds, also where runs diverge, the cost of a run, memory, and Ray's overhead.

Each function is to be called in a process of its own.
"""

import dataclasses
import resource
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

MOMENTA = (0.0, 0.5, 0.8, 0.9)
# With all of these momenta they train.
LEARNING_RATES = (0.001, 0.03)
# So much longer updates that the second loss is not finite.
DIVERGING = 1e32


class Clock:
    """The progress of a sweep with the time of each report that runs are trained."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.reports: list[tuple[float, float]] = []

    def __call__(self, phase: str, done: float, total: int, note: str = "") -> None:
        if phase == "runs":
            self.reports.append((time.perf_counter() - self.began, done))

    def seconds_from(self, runs: float, to: float) -> float:
        """From the first report of so many runs to the first of so many others."""
        return self._first(to) - self._first(runs)

    def _first(self, runs: float) -> float:
        return next(seconds for seconds, done in self.reports if done >= runs)


def use_all_cores() -> int:
    import jax

    from momentum_jax._base.machine import cores

    jax.config.update("jax_num_cpu_devices", cores())
    return cores()


def learning_rates(count: int, diverging: bool = False) -> list[float]:
    """Learning rates in ascending order; if `diverging`, the upper half is too large."""
    rates = [float(rate) for rate in np.geomspace(*LEARNING_RATES, count)]
    return [*rates[: count // 2], *(DIVERGING * rate for rate in rates[count // 2 :])] if diverging else rates


def sweep_seconds(rates: Sequence[float], iterations: int) -> dict[str, float]:
    """Seconds until a sweep over learning rates and `MOMENTA` is compiled, and from there until its result is there.

    As in the other ways of sweeping, nothing is evaluated.

    Raises:
      RuntimeError: there diverged not the runs whose learning rate is above 1, or one not in the first tenth.
    """
    import momentum_jax as mj
    from momentum_jax.tasks import image_classification

    use_all_cores()
    task = dataclasses.replace(image_classification(mj.load_dataset("mnist")), evaluate=lambda *_: {})
    momentum = mj.OptimizerConfig("momentum", learning_rate=0.01, momentum=0.9)
    cfg = mj.Config(iterations=iterations, optimizers={"momentum": momentum})
    # What draws the initial weights is compiled when a first run begins.
    mj.sweep(dataclasses.replace(cfg, iterations=1), {"learning_rate": [0.01]}, task=task)
    clock = Clock()
    result = mj.sweep(cfg, {"learning_rate": rates, "momentum": MOMENTA}, task=task, progress=clock)
    whole = time.perf_counter() - clock.began
    at = result.diverged_at["momentum"][:, 0]
    too_large = len(MOMENTA) * sum(rate > 1 for rate in rates)
    if (at >= 0).sum() != too_large or at.max() > iterations / 10:
        raise RuntimeError(f"the runs diverged at {at.tolist()}")
    return {"compiling": clock.reports[0][0], "training": whole - clock.reports[0][0]}


def cost_per_run(few: int = 8, many: int = 512) -> dict[str, float]:
    """Seconds a run in sweeps of few and of many short runs, their ratio, and the seconds of compiling before each."""
    import momentum_jax as mj

    use_all_cores()
    cfg = mj.Config(
        iterations=100,
        hidden_sizes=(10,),
        optimizers={"momentum": mj.OptimizerConfig("momentum", learning_rate=0.01, momentum=0.9)},
    )
    # What is read and imported once.
    mj.sweep(cfg, {"learning_rate": [0.1]})
    costs: dict[str, float] = {}
    for runs in (few, many):
        clock = Clock()
        mj.sweep(cfg, {"learning_rate": [0.1 * (i + 1) / runs for i in range(runs)]}, progress=clock)
        compiled = clock.reports[0][0]
        costs[f"seconds of compiling for {runs} runs"] = compiled
        costs[f"seconds a run of {runs}"] = (time.perf_counter() - clock.began - compiled) / runs
    costs["ratio"] = costs[f"seconds a run of {many}"] / costs[f"seconds a run of {few}"]
    return costs


def memory_of_short_runs(runs: int = 2048) -> float:
    """Bytes that this process had in memory at most, in a sweep of so many short runs."""
    import momentum_jax as mj

    use_all_cores()
    cfg = mj.Config(
        iterations=20,
        hidden_sizes=(10,),
        seeds=16,
        optimizers={"momentum": mj.OptimizerConfig("momentum", learning_rate=0.01, momentum=0.9)},
    )
    mj.sweep(cfg, {"learning_rate": [0.1 * (i + 1) / runs for i in range(runs // 16)]})
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def ray_overhead(iterations: int = 2000, batches: int = 3) -> dict[str, Any]:
    """Seconds of a sweep by a Ray worker for each core over those in this process: from its second batch on, and whole.

    Whole: with compiling, and for Ray with the start of its processes.
    """
    import momentum_jax as mj
    from momentum_jax.sweeps.batches import runs_at_once
    from momentum_jax.training.loop import CHUNK

    cores = use_all_cores()
    at_once = cores * runs_at_once(iterations, CHUNK)
    cfg = mj.Config(
        iterations=iterations,
        seeds=at_once * batches // 4,
        optimizers={"momentum": mj.OptimizerConfig("momentum", learning_rate=0.01, momentum=0.9)},
    )
    seconds: dict[str, dict[str, float]] = {}
    for name, cluster in (("here", None), ("ray", f"local:{cores}")):
        clock = Clock()
        mj.sweep(cfg, {"learning_rate": [0.003, 0.01, 0.03, 0.1]}, cluster=cluster, progress=clock)
        total = clock.reports[-1][1]
        seconds[name] = {"steady": clock.seconds_from(at_once, total), "whole": time.perf_counter() - clock.began}
    ratios = {kind: seconds["ray"][kind] / seconds["here"][kind] for kind in ("steady", "whole")}
    return {"seconds": seconds, "ratios": ratios}
