"""The tutorial's study: plain mini-batch SGD and Momentum on MNIST, at the same learning rate.

Finding: Over 20 seeds the smoothed loss reaches 0.3 after 146 iterations with Momentum (117 to 172) and after 808 with
SGD (678 to 928). After 2,000 iterations the training loss is 0.072 against 0.224, the test accuracy 96.8 % against 93.4
%. Both have the learning rate 0.01, so the effective learning rate is 0.1 against 0.01. This is not yet an answer to
whether momentum helps.
"""

import argparse
import pathlib

import jax
import numpy as np

import momentum_jax as mj
from momentum_jax._base.machine import cores
from momentum_jax.analysis import first_reached, smooth_curve
from momentum_jax.report import losses_figure, save_figure

HERE = pathlib.Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="runs of each optimizer")
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--out", type=pathlib.Path, default=HERE, help="folder for the figure")
    arguments = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", cores())

    cfg = mj.Config(
        seeds=arguments.seeds,
        iterations=arguments.iterations,
        optimizers={
            "sgd": mj.OptimizerConfig("sgd", learning_rate=0.01),
            "momentum": mj.OptimizerConfig("momentum", learning_rate=0.01, momentum=0.9),
        },
    )
    result = mj.train(cfg)
    for label, losses in result.losses_before.items():
        reached = first_reached(smooth_curve(losses), 0.3)
        print(
            f"{label:>8}: training loss {describe(result.train_loss[label], '.3f')}, "
            f"test accuracy {describe(result.test_accuracy[label], '.2%')}, "
            f"smoothed loss 0.3 reached at iteration {describe(reached[reached >= 0], '.0f')} "
            f"by {np.mean(reached >= 0):.0%} of {arguments.seeds} seeds"
        )
    arguments.out.mkdir(parents=True, exist_ok=True)
    save_figure(losses_figure(result), arguments.out / "mnist_comparison")


def describe(values: np.ndarray, form: str) -> str:
    """Median over seeds with the range."""
    if not len(values):
        return "never"
    return f"{np.median(values):{form}} ({values.min():{form}} to {values.max():{form}})"


if __name__ == "__main__":
    main()
