"""What the `plot` methods of results call: they draw into given axes, or make the figure and hand it to pyplot."""

import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from momentum_jax._base.errors import InputError, check_choice, shown
from momentum_jax.comparison.result import Comparison
from momentum_jax.comparison.task_answer import decisive_protocol
from momentum_jax.comparison.task_comparison import TaskComparison
from momentum_jax.report.comparisons import (
    add_optimizers_legend,
    draw_protocols,
    metrics_of,
    three_way_figure,
)
from momentum_jax.report.figures import draw_losses, losses_figure
from momentum_jax.report.heatmaps import draw_heatmap, heatmap_figure
from momentum_jax.report.paths import draw_paths
from momentum_jax.report.profiles import draw_profile, profile_figure
from momentum_jax.report.sensitivity import draw_sensitivity, has_heatmap, sensitivity_figure, varying_names
from momentum_jax.results.result import Result
from momentum_jax.tasks.landscapes import Landscape, make_landscape
from momentum_jax.training.trajectories import Trajectory

# More paths than these would take seconds to draw, and hide each other.
_MOST_PATHS = 100


def plot_result(result: Result, ax: Any, label: str | None, *, log: bool) -> Axes | Figure:
    """See `Result.plot`."""
    if label is not None:
        check_choice("label", label, list(result.config.optimizers))
    labels = None if label is None else [label]
    if result.trials is None:
        if ax is None:
            return hand_over(losses_figure(result, labels, log=log))
        draw_losses(check_axes(ax), result, labels, log=log)
    elif log:
        raise InputError("log=True is for the losses of a training; the figures of a sweep choose their scales")
    elif ax is None:
        figure = heatmap_figure if has_heatmap(result, labels) else sensitivity_figure
        return hand_over(figure(result, labels=labels))
    elif has_heatmap(result, labels):
        panels = labels or [label for label in result.trials if has_heatmap(result, [label])]
        draw_heatmap(check_axes(ax), result, only("label", panels))
    else:
        name = only("label", varying_names(result, labels))
        draw_sensitivity(check_axes(ax), result, name, labels=labels)
    return check_axes(ax)


def plot_comparison(compared: Comparison, ax: Any, metrics: Sequence[str] | None) -> Axes | Figure:
    """See `Comparison.plot`."""
    there = metrics_of(compared)
    given = [metrics] if isinstance(metrics, str) else metrics
    for metric in given or ():
        check_choice("metrics", metric, there)
    if ax is None:
        return hand_over(three_way_figure(compared, given or there[:3]))
    draw_protocols(check_axes(ax), compared, only("metrics", given or there[:1]))
    add_optimizers_legend(ax, compared, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, fontsize="small")
    return check_axes(ax)


def plot_profile(compared: TaskComparison, ax: Any, protocol: str | None) -> Axes | Figure:
    """See `TaskComparison.plot`."""
    name = decisive_protocol(compared) if protocol is None else protocol
    if name is None or not compared.profiles[name].tasks:
        raise InputError(f"no task has times{'' if protocol is None else f' in protocol {protocol!r}'} to draw")
    if ax is None:
        return hand_over(profile_figure(compared, name))
    draw_profile(check_axes(ax), compared, name)
    return check_axes(ax)


def plot_trajectory(
    paths: Trajectory, landscape: Landscape | str | None, ax: Any, labels: Sequence[str] | None
) -> Axes | Figure:
    """See `Trajectory.plot`."""
    ground = make_landscape(landscape) if isinstance(landscape, str) else landscape
    fields = [np.asarray(field) for field in paths]
    *leading, _, dimensions = fields[0].shape
    if ground is not None and not isinstance(ground, Landscape):
        raise InputError(f"landscape must be a Landscape, its name or None, not {shown(ground)}")
    if ground is not None and ground.dimensions != dimensions:
        raise InputError(f"landscape {ground.name} has {ground.dimensions} dimensions and the path has {dimensions}")
    count = math.prod(leading)
    if labels is not None and (isinstance(labels, str) or len(labels) != count):
        raise InputError(f"labels must be a list of one text for each of {count} paths, not {shown(labels)}")
    names = labels or [str(list(index)) if index else "path" for index in np.ndindex(*leading)]
    chosen = np.unique(np.linspace(0, count - 1, min(count, _MOST_PATHS)).astype(int)).tolist()
    flat = [field.reshape(count, *field.shape[len(leading) :]) for field in fields]
    drawn = {str(names[i]): Trajectory(*(field[i] for field in flat)) for i in chosen}
    figure = Figure(figsize=(6.4, 4.8), layout="constrained") if ax is None else None
    axes = check_axes(ax) if figure is None else figure.add_subplot()
    draw_paths(axes, drawn, ground, of=count)
    return axes if figure is None else hand_over(figure)


def check_axes(ax: Any) -> Axes:
    """The axes that were given.

    Raises:
      InputError: they are none of Matplotlib's.
    """
    if not isinstance(ax, Axes):
        raise InputError(f"ax must be a matplotlib Axes, such as figure.add_subplot(), not {type(ax).__name__}")
    return ax


def only(option: str, panels: Sequence[str]) -> str:
    """The one panel to draw into given axes.

    Raises:
      InputError: there are several.
    """
    if len(panels) > 1:
        raise InputError(f"ax takes one panel and there are {len(panels)}; choose one with {option}, or leave ax out")
    return panels[0]


def hand_over(figure: Figure) -> Axes | Figure:
    """Gives a figure to pyplot, which shows it in a notebook and with `plt.show()`; returns its axes if it has one.

    A notebook with the inline backend shows a Figure that is the value of a cell, and those of pyplot too: a Figure of
    several axes is left out of pyplot there, so that it is not shown twice.
    """
    panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    # Figures of the width of a column would be too small to read on a screen.
    figure.set_dpi(200 if figure.get_figwidth() < 5 else 100)
    if len(panels) == 1 or "inline" not in mpl.get_backend():
        import matplotlib.pyplot as plt

        plt.figure(figure)
    return panels[0] if len(panels) == 1 else figure
