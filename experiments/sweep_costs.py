"""What sweeps cost: their share of the processor's peak, the cost of a run, memory, and Ray's overhead.

Each function is to be called in a process of its own.
"""

import os
import pathlib
import resource
import subprocess
import sys
import time
from typing import Any

from peers import flops_per_step

ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
PEAK = f"""
import sys
sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})
from peers import matrix_product_peak
print(matrix_product_peak())
"""


class Clock:
    """The progress of a sweep with the time of each report that runs are trained."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.reports: list[tuple[float, int]] = []

    def __call__(self, phase: str, done: int, total: int, note: str = "") -> None:
        if phase == "runs":
            self.reports.append((time.perf_counter() - self.began, done))

    def seconds_from(self, runs: int, to: int) -> float:
        """From the first report of so many runs to the first of so many others."""
        return self._first(to) - self._first(runs)

    def _first(self, runs: int) -> float:
        return next(seconds for seconds, done in self.reports if done >= runs)


def use_all_cores() -> int:
    import jax

    from momentum_jax._base.machine import cores

    jax.config.update("jax_num_cpu_devices", cores())
    return cores()


def peak_of_one_thread() -> float:
    """FLOP/s on a float32 matrix product by NumPy, the best of ten."""
    command = [sys.executable, "-c", PEAK]
    return float(
        subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | ONE_THREAD).stdout
    )


def sweep_share_of_peak(iterations: int = 2000, batches: int = 2) -> dict[str, float]:
    """Of all cores' matrix-product peak, what batches of the tutorial's runs reach while they train, and all in all.

    While they train: from the end of a batch's first chunk of iterations to that of its last. All in all: from the end
    of compiling until the result is there, with evaluating and writing in the time but not in the work.
    """
    import momentum_jax as mj
    from momentum_jax.sweeps.batches import runs_at_once
    from momentum_jax.training.loop import CHUNK

    cores = use_all_cores()
    peak = cores * peak_of_one_thread()
    at_once = cores * runs_at_once(iterations, CHUNK)
    cfg = mj.Config(
        iterations=iterations,
        seeds=at_once * batches // 4,
        optimizers={"momentum": mj.OptimizerConfig("momentum", learning_rate=0.01, momentum=0.9)},
    )
    clock = Clock()
    mj.sweep(cfg, {"learning_rate": [0.003, 0.01, 0.03, 0.1]}, progress=clock)
    whole = time.perf_counter() - clock.began - clock.reports[0][0]
    # A report when all is compiled, then one after each chunk of each batch of runs.
    chunks = iterations // CHUNK
    ends = [seconds for seconds, _ in clock.reports[1:]]
    training = sum(ends[batch * chunks + chunks - 1] - ends[batch * chunks] for batch in range(batches))
    trained = batches * at_once * (chunks - 1) * CHUNK
    total = clock.reports[-1][1] * iterations
    return {
        "training": trained * flops_per_step() / training / peak,
        "all in all": total * flops_per_step() / whole / peak,
    }


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
