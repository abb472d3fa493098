"""Do the suite's tuned runs hang on JAX? PyTorch's SGD repeats three tasks, from the same weights and batches.

Finding: No: in float64 PyTorch repeats 6 of 6 tuned runs of 1,000 iterations, every loss to a relative 1e-09. Each
optimizer is the best of 8 trials. The largest relative differences of a loss before an update are as follows. MNIST MLP
(sgd with α = 0.16 and momentum with α = 0.13 and β = 0.658): 1e-14 in float64 and 340 % in float32, where the mean
losses of the last tenth differ by 6 %, after a first loss that differs by 1 % at iteration 56. logistic regression (sgd
with α = 3.4 and momentum with α = 1.1 and β = 0.817): 8e-16 in float64 and 6e-07 in float32, where the mean losses of
the last tenth differ by 1e-08. least squares (sgd with α = 0.76 and momentum with α = 0.17 and β = 0.928): 6e-15 in
float64 and 2e-06 in float32, where the mean losses of the last tenth differ by 1e-07.

It needs PyTorch. The tasks are those of the same names in `momentum_jax.comparison.suite`, with 1,000 iterations. SGD
and momentum are tuned on each in the space of `compare`, in float32 as in the suite. Both tuned runs are repeated by a
loop of PyTorch with its networks and its `torch.optim.SGD`, once in float32 and once in float64.

Whether PyTorch repeats a run is asked in float64: every loss before an update must agree to a relative 1e-9. A rounding
error of 1e-16 grows along a run, but not to this. In float32 no tolerance would mean anything on the network. The two
add in other orders, an error of 6e-8 grows along the run, and at once where a ReLU falls on the other side of zero, so
that after some hundred iterations the losses of a batch are other ones. How far apart they come is measured.
"""

import argparse
import dataclasses
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from own_loop import torch_network
from study import Study, run

import momentum_jax as mj
from momentum_jax.comparison.answer import best_of_sweep
from momentum_jax.comparison.suite import suite
from momentum_jax.comparison.tuning import default_space
from momentum_jax.report import STYLES
from momentum_jax.training.validate import resolve_task

TASKS = ("MNIST MLP", "logistic regression", "least squares")
DTYPES: tuple[Literal["float32", "float64"], ...] = ("float32", "float64")
OPTIMIZERS = ("sgd", "momentum")
SEED = 0
# The relative difference that is allowed in float64, and that from which runs are said to part.
TOLERANCE, PARTED = 1e-9, 0.01
# The end of a run, as a part of its iterations.
END = 0.1

# From rows of the training set to the loss of PyTorch on them.
Loss = Callable[[np.ndarray], Any]


class Replay(NamedTuple):
    """The losses before the updates of a run, ours and PyTorch's."""

    ours: Float[np.ndarray, " iterations"]
    theirs: Float[np.ndarray, " iterations"]

    @property
    def differences(self) -> Float[np.ndarray, " iterations"]:
        """Relative ones, of each loss."""
        return np.asarray(np.abs(self.theirs - self.ours) / self.ours)

    @property
    def parts_at(self) -> int | None:
        """The first iteration whose losses differ by more than a hundredth, counted from 1."""
        parted = self.differences > PARTED
        return int(parted.argmax()) + 1 if parted.any() else None

    @property
    def at_the_end(self) -> float:
        """The relative difference of the mean losses at the end."""
        ours, theirs = (losses[-max(1, round(END * len(losses))) :].mean() for losses in self)
        return float(abs(theirs - ours) / ours)


def study(arguments: argparse.Namespace) -> Study:
    if not importlib.util.find_spec("torch"):
        raise SystemExit("this study needs PyTorch: pip install torch")
    iterations, trials = (3, 1) if arguments.fast else (1000, 8)
    replays: dict[tuple[str, str], list[Replay]] = {}
    runs = []
    for name in TASKS:
        optimizers = {label: suite()[name].optimizers[label] for label in OPTIMIZERS}
        fields: dict[str, Any] = {"optimizers": optimizers, "iterations": iterations, "seeds": (SEED,)}
        cfg = dataclasses.replace(suite()[name], loss_after=False, **fields)
        for label, (optimizer, pair) in repeat(name, cfg, trials).items():
            replays[name, label] = pair
            runs.append(summarize(name, label, optimizer, pair))
    numbers = {"iterations": iterations, "trials": trials, "runs": runs}
    return Study(draw(replays), find(numbers), numbers)


def repeat(name: str, cfg: mj.Config, trials: int) -> dict[str, tuple[mj.OptimizerConfig, list[Replay]]]:
    """Each optimizer with the lowest training loss of so many trials, and its replays in both dtypes."""
    swept = mj.sweep(cfg, default_space(cfg.optimizers), search="sobol", budget=trials)
    assert swept.trials is not None
    best = {label: at for label, (at, _) in best_of_sweep(swept).items()}
    tuned = {label: swept.trials[label][at].optimizer for label, at in best.items()}
    single, double = (dataclasses.replace(cfg, optimizers=tuned, dtype=dtype) for dtype in DTYPES)
    precise = mj.train(double)
    return {
        label: (
            optimizer,
            [
                Replay(swept.losses_before[label][best[label], 0].astype(np.float64), replayed(name, single, label)),
                Replay(precise.losses_before[label][0], replayed(name, double, label)),
            ],
        )
        for label, optimizer in tuned.items()
    }


def replayed(name: str, cfg: mj.Config, label: str) -> Float[np.ndarray, " iterations"]:
    """PyTorch's losses before the updates of a run, from our initial weights and with our batches."""
    params, data = mj.initial_params(cfg, SEED, label), resolve_task(cfg, None).train
    weights, loss = LOSSES[name](params, data, cfg.dtype)
    hyperparameters = cfg.optimizers[label].hyperparameters
    return np.array(torch_losses(weights, loss, mj.batch_indices(cfg, SEED), hyperparameters))


def torch_losses(
    weights: Sequence[Any], loss: Loss, batches: np.ndarray, hyperparameters: Mapping[str, Any]
) -> list[float]:
    """The losses before the updates of a plain PyTorch loop."""
    import torch

    torch.set_num_threads(1)
    optimizer = torch.optim.SGD(
        weights, lr=hyperparameters["learning_rate"], momentum=hyperparameters.get("momentum", 0.0)
    )
    losses = []
    for rows in batches:
        optimizer.zero_grad()
        value = loss(rows)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


def _classifier(layers: Any, data: Any, scale: float, dtype: str) -> tuple[Any, Loss]:
    """Of layers with ReLUs between them, with the mean cross-entropy of inputs over the scale."""
    import torch

    inputs, labels = data
    network = torch_network({"params": layers}).to(getattr(torch, dtype))

    def loss(rows: np.ndarray) -> Any:
        logits = network(torch.tensor(inputs[rows]).to(getattr(torch, dtype)) / scale)
        return torch.nn.functional.cross_entropy(logits, torch.tensor(labels[rows].astype(np.int64)))

    return list(network.parameters()), loss


def _mlp(params: Any, data: Any, dtype: str) -> tuple[Any, Loss]:
    return _classifier(params["params"], data, 255, dtype)


def _logistic(params: Any, data: Any, dtype: str) -> tuple[Any, Loss]:
    layer = {"kernel": params["weights"], "bias": params["bias"]}
    return _classifier({"Dense_0": layer}, data, 1, dtype)


def _least_squares(params: Any, data: Any, dtype: str) -> tuple[Any, Loss]:
    import torch

    w, x, y = (torch.tensor(np.array(array)).to(getattr(torch, dtype)) for array in (params, *data))
    w.requires_grad_()

    def loss(rows: np.ndarray) -> Any:
        at = torch.tensor(rows)
        return 0.5 * ((x[at] @ w - y[at]) ** 2).mean()

    return [w], loss


LOSSES: dict[str, Callable[[Any, Any, str], tuple[Any, Loss]]] = dict(
    zip(TASKS, (_mlp, _logistic, _least_squares), strict=True)
)
"""By task, from our initial weights, its training data and a dtype to the weights and the loss of PyTorch."""


def summarize(name: str, label: str, optimizer: mj.OptimizerConfig, pair: Sequence[Replay]) -> dict[str, Any]:
    """The tuned hyperparameters, and by dtype the largest difference of a loss and that of the mean loss at the end."""
    differences: dict[str, Any] = {
        dtype: {
            "largest": float(f"{replay.differences.max():.1e}"),
            "parts at": replay.parts_at,
            "at the end": float(f"{replay.at_the_end:.1e}"),
        }
        for dtype, replay in zip(DTYPES, pair, strict=True)
    }
    return {"task": name, "optimizer": label, "hyperparameters": dict(optimizer.hyperparameters), **differences}


def find(numbers: Mapping[str, Any]) -> str:
    """The finding, from what `summarize` says of each run."""
    runs: Sequence[Mapping[str, Any]] = numbers["runs"]
    agree = [run["float64"]["largest"] <= TOLERANCE for run in runs]
    answer = "No" if all(agree) else "In part" if any(agree) else "Yes"
    return (
        f"{answer}: in float64 PyTorch repeats {sum(agree)} of {len(runs)} tuned runs of "
        f"{numbers['iterations']:,} iterations, every loss to a relative {TOLERANCE:.0e}. Each optimizer is the best "
        f"of {numbers['trials']} trials. The largest relative differences of a loss before an update are as follows. "
        f"{'. '.join(told(name, [run for run in runs if run['task'] == name]) for name in TASKS)}."
    )


def told(name: str, runs: Sequence[Mapping[str, Any]]) -> str:
    """The differences of the runs of a task."""
    double, single, end = (
        max(run[dtype][what] for run in runs)
        for dtype, what in (("float64", "largest"), ("float32", "largest"), ("float32", "at the end"))
    )
    parts = [run["float32"]["parts at"] for run in runs if run["float32"]["parts at"]]
    at = f", after a first loss that differs by {size(PARTED)} at iteration {min(parts):,}" if parts else ""
    return (
        f"{name} ({' and '.join(map(setting, runs))}): {size(double)} in float64 and {size(single)} in float32, where "
        f"the mean losses of the last tenth differ by {size(end)}{at}"
    )


def size(difference: float) -> str:
    return f"{100 * difference:.0f} %" if difference >= PARTED else f"{difference:.0e}"


def setting(run: Mapping[str, Any]) -> str:
    """An optimizer with its learning rate and its momentum."""
    hyperparameters = run["hyperparameters"]
    momentum = f" and β = {hyperparameters['momentum']:.3g}" if "momentum" in hyperparameters else ""
    return f"{run['optimizer']} with α = {hyperparameters['learning_rate']:.2g}{momentum}"


def draw(replays: Mapping[tuple[str, str], Sequence[Replay]]) -> Figure:
    """The relative difference of the losses by iteration, of each task in both dtypes."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, len(TASKS), sharey=True)
    for axes, name in zip(panels, TASKS, strict=True):
        labels = [label for task, label in replays if task == name]
        for label, style in zip(labels, STYLES, strict=False):
            for dtype, replay, width in zip(DTYPES, replays[name, label], (1.6, 0.8), strict=True):
                # Equal losses are drawn at the bottom.
                so_far = np.maximum(np.maximum.accumulate(replay.differences), 1e-17)
                line = {"color": style.color, "linewidth": width, "label": f"{label}, {dtype}"}
                axes.plot(np.arange(1, len(so_far) + 1), so_far, **line)
        axes.axhline(TOLERANCE, color="0.5", linewidth=1, linestyle=":")
        axes.set(xscale="log", yscale="log", xlabel="iteration")
        axes.set_title(name, fontsize=10)
    panels[0].set_ylabel("largest relative difference so far")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False, fontsize=9
    )
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    run(study, argv)


if __name__ == "__main__":
    main()
