"""Paths over a landscape: where they go, and how far down they are."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from momentum_jax.report.figures import STYLES
from momentum_jax.tasks import Landscape
from momentum_jax.training.trajectories import Trajectory

Points = Float[np.ndarray, "points dimensions"]
Values = Float[np.ndarray, " points"]
_RESOLUTION = 201
_CONTOURS = 16
_PATH = "path"
_FRAME_MILLISECONDS = 150
_HIGHEST = 1e30


def paths_figure(landscape: Landscape, paths: Mapping[str, Trajectory]) -> Figure:
    """Paths on the contours of a landscape, and the value along them.

    In one dimension they lie on the graph of the function; in more than two the distance to the nearest minimum takes
    the place of the contours. A path that diverged is drawn to the edge of the window, where it leaves it for good.

    Args:
      landscape: where they went.
      paths: of one start each, by label.
    """
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    ground, heights = figure.subplots(1, 2, width_ratios=(1.3, 1))
    draw = {1: _draw_graph, 2: draw_contours}.get(landscape.dimensions, _draw_distances)
    draw(ground, landscape, list(paths.values()))
    _draw_heights(heights, landscape, paths)
    named = [label + (" (diverged)" if path.diverged else "") for label, path in paths.items()]
    handles = [Line2D([], [], **_style(i)) for i in range(len(paths))]
    legend = figure.legend(handles, [" "] * len(handles), loc="outside lower center", ncols=5, frameon=False)
    # Matplotlib leaves out a label that begins with an underscore.
    for text, name in zip(legend.get_texts(), named, strict=True):
        text.set(text=name, parse_math=False)
    return figure


def animate_paths(landscape: Landscape, paths: Mapping[str, Trajectory]) -> bytes:
    """`paths_figure` as an animated GIF, a frame for each iteration."""
    figure = paths_figure(landscape, paths)
    figure.set_dpi(70)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    # What the whole figure was laid out to stays where it is.
    figure.set_layout_engine("none")
    lines = [line for axes in figure.axes for line in axes.lines if line.get_gid() == _PATH]
    whole = [(np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in lines]
    frames = []
    for shown in range(1, 1 + max(len(x) for x, _ in whole)):
        for line, (x, y) in zip(lines, whole, strict=True):
            line.set_data(x[:shown], y[:shown])
        canvas.draw()
        # A few colours keep it small.
        frames.append(PIL.Image.fromarray(np.array(canvas.buffer_rgba())).convert("RGB").quantize(64))
    content = io.BytesIO()
    durations = [_FRAME_MILLISECONDS] * (len(frames) - 1) + [20 * _FRAME_MILLISECONDS]
    frames[0].save(content, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    return content.getvalue()


def draw_contours(axes: Axes, landscape: Landscape, paths: Sequence[Trajectory]) -> None:
    """Paths on the contours of a landscape of two dimensions; a star is a minimum, a white dot a start.

    Contours are spaced by a factor above the lowest minimum, evenly where there is none.
    """
    x, y = (np.linspace(low, high, _RESOLUTION) for low, high in landscape.window)
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    values = _evaluate(landscape, grid.reshape(-1, 2)).reshape(len(y), len(x))
    if len(landscape.minima):
        floor = min(values.min(), _lowest(landscape))
        levels = floor + np.geomspace(np.quantile(values - floor, 0.01), values.max() - floor, _CONTOURS)
    else:
        levels = np.linspace(values.min(), values.max(), _CONTOURS)
    # A plain has none.
    if np.isfinite(values).all() and values.max() > values.min():
        filled = axes.contourf(x, y, values, levels, cmap="Greys_r", alpha=0.35, extend="both")
        lines = axes.contour(x, y, values, levels, colors="#888888", linewidths=0.5)
        for contours in (filled, lines):
            # As lines they would fill megabytes of an SVG.
            contours.set_rasterized(True)
    axes.plot(*landscape.minima.T, "*", color="black", markersize=11 if len(landscape.minima) < 10 else 5)
    for i, points in enumerate(_within_window(path, landscape) for path in paths):
        axes.plot(*points.T, gid=_PATH, **_style(i))
        axes.plot(*points[:1].T, "o", color="black", markersize=7, markerfacecolor="white")
    axes.set(xlim=landscape.window[0], ylim=landscape.window[1], xlabel="x", ylabel="y")
    _set_title(axes, landscape)


def _within_window(path: Trajectory, landscape: Landscape) -> Points:
    """The points of a path; if it diverged those before it leaves the window for good, and where it does."""
    points = np.asarray(path.points, np.float64)
    if not path.diverged:
        return points
    low, high = landscape.window.T
    inside = ((points >= low) & (points <= high)).all(axis=-1)
    if not inside.any():
        return points[:0]
    last = int(np.flatnonzero(inside)[-1])
    if last + 1 == len(points) or not np.isfinite(points[last + 1]).all():
        return points[: last + 1]
    step = points[last + 1] - points[last]
    to_edge = np.where(step > 0, high - points[last], low - points[last])
    share = min(to / by for to, by in zip(to_edge, step, strict=True) if by != 0)
    return np.concatenate([points[: last + 1], [points[last] + share * step]])


def _draw_graph(axes: Axes, landscape: Landscape, paths: Sequence[Trajectory]) -> None:
    low, high = landscape.window[0]
    x = np.linspace(low, high, 10 * _RESOLUTION)
    axes.plot(x, _evaluate(landscape, x[:, None]), color="#888888")
    axes.plot(landscape.minima[:, 0], _evaluate(landscape, landscape.minima), "*", color="black", markersize=11)
    for i, points in enumerate(_within_window(path, landscape) for path in paths):
        axes.plot(points[:, 0], _evaluate(landscape, points), gid=_PATH, **_style(i))
    axes.set(xlim=landscape.window[0], xlabel="x", ylabel="f(x)")
    _set_title(axes, landscape)


def _draw_distances(axes: Axes, landscape: Landscape, paths: Sequence[Trajectory]) -> None:
    for i, points in enumerate(_within_window(path, landscape) for path in paths):
        apart = np.linalg.norm(points[:, None] - landscape.minima, axis=-1)
        # Where there is no minimum, from where the coordinates are 0.
        distance = apart.min(axis=-1) if len(landscape.minima) else np.linalg.norm(points, axis=-1)
        axes.plot(distance, gid=_PATH, **_style(i))
    _logarithmic(axes)
    of = "the nearest minimum" if len(landscape.minima) else "the origin"
    axes.set(xlabel="Iterations (updates)", ylabel=f"Distance to {of}")
    _set_title(axes, landscape)


def _draw_heights(axes: Axes, landscape: Landscape, paths: Mapping[str, Trajectory]) -> None:
    has_minima = len(landscape.minima) > 0
    floor = _lowest(landscape) if has_minima else 0.0
    for i, path in enumerate(paths.values()):
        heights = np.asarray(path.values, np.float64) - floor
        # Beyond what a drawing can take there is nothing to see.
        drawn = np.isfinite(heights) & (np.abs(heights) < _HIGHEST)
        axes.plot(np.where(drawn, heights, np.nan), gid=_PATH, **_style(i))
    first = max(abs(float(path.values[0]) - floor) for path in paths.values())
    # What cannot be drawn sets no limit.
    first = first if first < _HIGHEST else 0.0
    if has_minima:
        _logarithmic(axes)
        axes.set_ylim(top=10 * first or None)
    else:
        # A saddle itself is at height 0.
        first = first or 1.0
        axes.set_ylim(-10 * first, 2 * first)
    above = "Height above the lowest minimum, f(w) − f(w*)" if has_minima else "Height f(w)"
    axes.set(xlabel="Iterations (updates)", ylabel=above)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _set_title(axes: Axes, landscape: Landscape) -> None:
    # As text: a dollar sign begins no formula.
    axes.set_title(landscape.formula, parse_math=False)


def _logarithmic(axes: Axes) -> None:
    """The axis of values, where any of them is on it."""
    if any((np.asarray(line.get_ydata()) > 0).any() for line in axes.lines):
        axes.set_yscale("log", nonpositive="mask")


def _style(i: int) -> dict[str, Any]:
    style = STYLES[i % len(STYLES)]
    return {
        "color": style.color,
        "marker": style.marker,
        "linestyle": style.linestyle,
        "markersize": 4,
        "linewidth": 1.5,
    }


def _lowest(landscape: Landscape) -> float:
    return float(_evaluate(landscape, landscape.minima[:1])[0])


def _evaluate(landscape: Landscape, points: Points) -> Values:
    function: Callable[[Any], Any] = jax.vmap(landscape.function)
    return np.asarray(function(jnp.asarray(points, jnp.result_type(float))), np.float64)
