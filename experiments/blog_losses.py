"""Are the losses that the tutorial printed draws from our distribution?

Finding: Yes. Each of the 19 printed losses lies in the central 95 % of 200 seeds with independent initial weights;
their mean quantile is 0.47.
"""

import argparse
import csv
import pathlib

import jax
import numpy as np
from matplotlib.figure import Figure

import momentum_jax as mj
from momentum_jax._base.machine import cores
from momentum_jax.report import STYLES, save_figure

HERE = pathlib.Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200, help="runs of each optimizer")
    parser.add_argument("--out", type=pathlib.Path, default=HERE, help="folder for the table and the figure")
    arguments = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", cores())

    with (HERE / "blog_losses.csv").open() as file:
        printed = [(int(row["iteration"]), row["optimizer"], float(row["loss"])) for row in csv.DictReader(file)]
    result = mj.train(
        mj.Config(
            seeds=arguments.seeds,
            iterations=max(iteration for iteration, _, _ in printed) + 1,
            optimizers={
                "sgd": mj.OptimizerConfig("sgd", learning_rate=0.01),
                "momentum": mj.OptimizerConfig("momentum", learning_rate=0.01, momentum=0.9),
            },
            # The tutorial's two networks start from weights of their own.
            shared_init=False,
        ),
    )
    quantiles = [
        float(np.mean(result.losses[optimizer][:, iteration] <= loss)) for iteration, optimizer, loss in printed
    ]

    arguments.out.mkdir(parents=True, exist_ok=True)
    with (arguments.out / "blog_losses_quantiles.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["iteration", "optimizer", "loss", "quantile"])
        for (iteration, optimizer, loss), quantile in zip(printed, quantiles, strict=True):
            writer.writerow([iteration, optimizer, loss, quantile])
            print(f"{optimizer:>8} {iteration:>5} {loss:.4f}  quantile {quantile:.3f}")
    inside = sum(0.025 <= quantile <= 0.975 for quantile in quantiles)
    extreme = sum(quantile in (0, 1) for quantile in quantiles)
    print(
        f"{inside} of {len(quantiles)} printed losses lie in the central 95 % of {arguments.seeds} seeds, "
        f"{extreme} outside all of them; the mean quantile is {np.mean(quantiles):.2f}"
    )
    save_figure(draw(result, printed), arguments.out / "blog_losses")


def draw(result: mj.Result, printed: list[tuple[int, str, float]]) -> Figure:
    """The distribution over seeds at every iteration that the tutorial could have printed, and what it printed."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    iterations = result.iterations[::100]
    for axes, (optimizer, losses), style in zip(panels, result.losses.items(), STYLES, strict=False):
        low, median, high = np.percentile(losses[:, iterations], [2.5, 50, 97.5], axis=0)
        axes.fill_between(iterations, low, high, color=style.color, alpha=0.25, linewidth=0, label="central 95 %")
        axes.plot(iterations, median, color=style.color, label=f"median of {len(losses)} seeds")
        own = [(iteration, loss) for iteration, label, loss in printed if label == optimizer]
        axes.plot(
            *zip(*own, strict=True),
            "kx",
            zorder=3,
            markersize=7,
            markeredgewidth=1.6,
            clip_on=False,
            label="printed in the tutorial",
        )
        axes.set(title=optimizer, xlabel="Iterations (parameter updates)", yscale="log", xlim=(0, iterations[-1]))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
    panels[0].set_ylabel("Cross-entropy on the batch just used (nats)")
    return figure


if __name__ == "__main__":
    main()
