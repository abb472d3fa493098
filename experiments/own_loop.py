"""Does a training loop in PyTorch come to the verdicts of ours? `torch.optim.SGD` with and without momentum, on MNIST.

Finding: Yes: 9 of 9 verdicts have the same outcome. The losses before the updates differ by at most 4e-12 % in any
iteration of the runs that are judged, and the tuning chose the same learning rates. Each run has 500 iterations in
float64, from the same weights and with the same batches; 10 seeds judge, 2 others chose the best of 4 learning rates of
each optimizer.

It needs PyTorch. The loop is `train_with_torch`; all else is what `compare` does with any task.
"""

import argparse
import functools
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from study import Study, run

import momentum_jax as mj
from momentum_jax.tasks import image_classification

OPTIMIZERS = {
    "sgd": mj.OptimizerConfig("sgd", learning_rate=0.01),
    "momentum": mj.OptimizerConfig("momentum", learning_rate=0.01, momentum=0.9),
}
METRICS = {
    "train_loss": "training loss",
    "test_accuracy": "test accuracy",
    "iterations_to_target": "iterations to a loss of 0.5",
}
TARGET = 0.5
# Examples of one slice of an evaluation.
SLICE = 10_000


class Design(NamedTuple):
    """How much is run: the iterations and seeds to judge with, the learning rates tried, and the seeds that choose."""

    iterations: int
    seeds: int
    rates: int
    tuning_seeds: int


FULL = Design(iterations=500, seeds=10, rates=4, tuning_seeds=2)
FAST = Design(iterations=3, seeds=1, rates=1, tuning_seeds=1)


def study(arguments: argparse.Namespace) -> Study:
    if not importlib.util.find_spec("torch"):
        raise SystemExit("this study needs PyTorch: pip install torch")
    design = FAST if arguments.fast else FULL
    # In float64 the two differ by so little that no ReLU falls on the other side of zero.
    cfg = mj.Config(iterations=design.iterations, seeds=design.seeds, optimizers=OPTIMIZERS, dtype="float64")
    torch_task = mj.HostTask(
        train_with_torch,
        scores=("train_loss", "test_loss", "test_accuracy"),
        baseline_loss=task_of("train").baseline_loss,
        provenance=task_of("train").provenance,
    )
    ours, theirs = (
        mj.compare(
            cfg,
            space={"learning_rate": mj.LogUniform(0.01, 1.0).grid(design.rates) if design.rates > 1 else [0.1]},
            search="grid",
            rerun_seeds=0,
            tuning_seeds=design.tuning_seeds,
            judge_by=list(METRICS),
            target=TARGET,
            task=task,
            folder=arguments.folder and arguments.folder / name,
        )
        for name, task in (("ours", None), ("torch", torch_task))
    )
    numbers = {
        "design": design._asdict(),
        "verdicts": [as_json(*pair) for pair in zip(ours.verdicts, theirs.verdicts, strict=True)],
        "best": [best_rates(comparison) for comparison in (ours, theirs)],
        "largest_difference": largest_difference(ours, theirs),
    }
    return Study(draw(ours, theirs), find(numbers), numbers)


@functools.cache
def task_of(data: str) -> mj.Task:
    """The tutorial's network and MNIST. For the tuning a sixth of the training images is held out, as by `compare`."""
    task = image_classification(mj.load_dataset("mnist"))
    return task if data == "train" else task.split_validation(task.num_examples // 6)


def train_with_torch(
    hyperparameters: Mapping[str, Any], seed: int, iterations: int, data: str = "train"
) -> tuple[list[float], dict[str, float]]:
    """A plain PyTorch loop from the initial weights and with the batches of our runs."""
    import torch

    torch.set_num_threads(1)
    task = task_of(data)
    cfg = mj.Config(iterations=iterations, batch_size=hyperparameters["batch_size"], dtype="float64")
    network = torch_network(mj.initial_params(cfg, seed, "sgd", task=task))
    optimizer = torch.optim.SGD(
        network.parameters(), lr=hyperparameters["learning_rate"], momentum=hyperparameters.get("momentum", 0.0)
    )

    def loss_and_accuracy(images: Any, labels: Any) -> tuple[Any, Any]:
        logits = network(torch.tensor(np.asarray(images) / 255))
        labels = torch.tensor(np.asarray(labels, np.int64))
        return torch.nn.functional.cross_entropy(logits, labels), (logits.argmax(1) == labels).double().mean()

    def evaluate(images: Any, labels: Any) -> list[float]:
        """Loss and accuracy over a set."""
        with torch.no_grad():
            starts = range(0, len(images), SLICE)
            means = [loss_and_accuracy(images[i : i + SLICE], labels[i : i + SLICE]) for i in starts]
        sizes = [len(images[i : i + SLICE]) for i in starts]
        return [float(np.average([float(mean[k]) for mean in means], weights=sizes)) for k in range(2)]

    losses = []
    (images, labels), test = task.train, task.test or ()
    for rows in mj.batch_indices(cfg, seed, task=task):
        loss, _ = loss_and_accuracy(images[rows], labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    train_loss, _ = evaluate(images, labels)
    test_loss, test_accuracy = evaluate(*test)
    return losses, {"train_loss": train_loss, "test_loss": test_loss, "test_accuracy": test_accuracy}


def torch_network(params: Any) -> Any:
    """The network of PyTorch with the weights of one of ours."""
    import torch

    modules: list[Any] = []
    for layer in params["params"].values():
        inputs, outputs = layer["kernel"].shape
        linear = torch.nn.Linear(inputs, outputs, dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(np.array(layer["kernel"]).T))
            linear.bias.copy_(torch.tensor(np.array(layer["bias"])))
        modules += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*modules[:-1])


def as_json(ours: Any, theirs: Any) -> dict[str, Any]:
    return {
        "protocol": ours.protocol,
        "metric": ours.metric,
        "outcomes": [ours.outcome, theirs.outcome],
        "sentences": [ours.sentence, theirs.sentence],
    }


def best_rates(comparison: mj.Comparison) -> dict[str, float]:
    arms = comparison.protocols["tuned"].arms
    return {label: arm.trial.optimizer.hyperparameters["learning_rate"] for label, arm in arms.items()}


def largest_difference(ours: mj.Comparison, theirs: mj.Comparison) -> float:
    """Of the losses before the updates, over the runs that are judged: relative, to two digits."""
    pairs = [
        (protocol.arms[label].losses_before, theirs.protocols[name].arms[label].losses_before)
        for name, protocol in ours.protocols.items()
        for label in protocol.arms
    ]
    return float(f"{max(float(np.max(np.abs(a - b) / a)) for a, b in pairs):.1e}")


def find(numbers: Mapping[str, Any]) -> str:
    verdicts: Sequence[Mapping[str, Any]] = numbers["verdicts"]
    same = sum(entry["outcomes"][0] == entry["outcomes"][1] for entry in verdicts)
    design = Design(**numbers["design"])
    rates = "the same" if numbers["best"][0] == numbers["best"][1] else "other"
    return (
        f"{'Yes' if same == len(verdicts) else 'No'}: {same} of {len(verdicts)} verdicts have the same outcome. The "
        f"losses before the updates differ by at most {100 * numbers['largest_difference']:.1g} % in any iteration of "
        f"the runs that are judged, and the tuning chose {rates} learning rates. Each run has {design.iterations} "
        f"iterations in float64, from the same weights and with the same batches; {design.seeds} seeds judge, "
        f"{design.tuning_seeds} others chose the best of {design.rates} learning rates of each optimizer."
    )


def draw(ours: mj.Comparison, theirs: mj.Comparison) -> Figure:
    """The interval of each difference between momentum and SGD: ours, and below it that of PyTorch."""
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots(1, len(METRICS))
    protocols = list(ours.protocols)
    for axis, (metric, title) in zip(axes, METRICS.items(), strict=True):
        factor = 100 if metric == "test_accuracy" else 1
        for comparison, name, color, shift in ((ours, "ours", "C0", -0.12), (theirs, "PyTorch", "C1", 0.12)):
            found = [verdict for verdict in comparison.verdicts if verdict.metric == metric]
            ends = np.array([[v.difference.value, v.difference.low, v.difference.high] for v in found]) * factor
            heights = np.array([protocols.index(verdict.protocol) for verdict in found]) + shift
            axis.hlines(heights, ends[:, 1], ends[:, 2], color, linewidth=3, alpha=0.6)
            axis.plot(ends[:, 0], heights, "o", color=color, label=name)
        axis.axvline(0, color="0.6", linewidth=1)
        axis.set_yticks(range(len(protocols)), [ours.protocols[p].title.replace(", ", ",\n") for p in protocols])
        axis.invert_yaxis()
        axis.label_outer()
        axis.set_title(title)
    axes[0].set_xlabel("nats")
    axes[1].set_xlabel("percentage points")
    axes[2].set_xlabel("iterations")
    axes[0].legend()
    figure.suptitle("Difference between momentum and SGD: median over seeds, and its interval")
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    run(study, argv)


if __name__ == "__main__":
    main()
