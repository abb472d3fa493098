"""Figures of paths over a landscape: where they go, and how the value falls."""

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

from momentum_jax.report.drawing import STYLES, add_legend
from momentum_jax.tasks import Landscape
from momentum_jax.training.trajectories import Trajectory

Points = Float[np.ndarray, "points dimensions"]
Values = Float[np.ndarray, " points"]
_RESOLUTION = 201
_CONTOURS = 16
_PATH = "path"
_FRAME_MILLISECONDS = 150
_HIGHEST = 1e30
_MOST_COORDINATES = 6


def paths_figure(landscape: Landscape, paths: Mapping[str, Trajectory]) -> Figure:
    """Draws paths on the contours of a landscape, and the value along each path.

    In one dimension the paths are drawn on the graph of the function. In more than two dimensions the distance to the
    nearest minimum is drawn instead of contours. A path that diverged is drawn to where it finally leaves the window.

    Args:
      landscape: the landscape of all paths.
      paths: by label, each from one start.
    """
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    ground, heights = figure.subplots(1, 2, width_ratios=(1.3, 1))
    _draw_ground(ground, landscape, list(paths.values()))
    _draw_heights(heights, landscape, paths)
    handles = [Line2D([], [], **_style(i)) for i in range(len(paths))]
    add_legend(figure, handles, _named(paths), loc="outside lower center", ncols=5 if len(paths) > 4 else 4)
    return figure


def draw_paths(axes: Axes, paths: Mapping[str, Trajectory], landscape: Landscape | None, *, of: int) -> None:
    """Draws where paths go: on a landscape, as in `paths_figure`; or without one.

    Without a landscape, paths in two dimensions are drawn in their plane. In other dimensions their first coordinates
    are drawn against the iterations.

    Args:
      axes: to draw into.
      paths: by label.
      landscape: of all paths, or None.
      of: how many paths there are; the title says so if they are not all drawn.
    """
    dimensions = next(iter(paths.values())).points.shape[-1]
    if landscape is not None:
        _draw_ground(axes, landscape, list(paths.values()))
    else:
        (_draw_plane if dimensions == 2 else _draw_coordinates)(axes, _within_reach(list(paths.values())))
    diverged = sum(bool(path.diverged) for path in paths.values())
    if of > len(paths):
        axes.set_title(f"{len(paths)} of {of:,} paths{f', {diverged} of them diverged' if diverged else ''}")
    elif of > 1 or diverged:
        handles = [Line2D([], [], **_style(i)) for i in range(len(paths))]
        add_legend(axes, handles, _named(paths), frameon=True)


def _within_reach(paths: Sequence[Trajectory]) -> list[Points]:
    """The points of paths; of those that diverged, the ones not ten times farther out than all starts and others."""
    points = [np.asarray(path.points, np.float64) for path in paths]
    inside = [own[:1] if path.diverged else own for own, path in zip(points, paths, strict=True)]
    reach = 10 * max(float(np.abs(own[np.isfinite(own)]).max(initial=0)) for own in inside) or 10.0
    return [np.where((np.abs(own) <= min(reach, _HIGHEST)).all(axis=-1, keepdims=True), own, np.nan) for own in points]


def _draw_plane(axes: Axes, paths: Sequence[Points]) -> None:
    for i, points in enumerate(paths):
        axes.plot(*points.T, gid=_PATH, **_style(i))
        axes.plot(*points[:1].T, "o", color="black", markersize=7, markerfacecolor="white")
    axes.set(xlabel="x", ylabel="y", title="A white dot is a start")
    axes.grid(alpha=0.25)


def _draw_coordinates(axes: Axes, paths: Sequence[Points]) -> None:
    dimensions = paths[0].shape[-1]
    for i, points in enumerate(paths):
        for coordinate in range(min(dimensions, _MOST_COORDINATES)):
            # Of one path the coordinates are told apart, of several the paths.
            axes.plot(points[:, coordinate], gid=_PATH, **_style(i if len(paths) > 1 else coordinate))
    if len(paths) == 1 and dimensions > 1:
        names = [f"coordinate {coordinate}" for coordinate in range(min(dimensions, _MOST_COORDINATES))]
        add_legend(axes, list(axes.lines), names)
    axes.set(xlabel="Iterations (updates)", ylabel="Position" if dimensions == 1 else "Coordinates")
    if dimensions > _MOST_COORDINATES:
        axes.set_title(f"The first {_MOST_COORDINATES} of {dimensions:,} coordinates")
    axes.grid(alpha=0.25)


def _named(paths: Mapping[str, Trajectory]) -> list[str]:
    return [label + (" (diverged)" if path.diverged else "") for label, path in paths.items()]


def _draw_ground(axes: Axes, landscape: Landscape, paths: Sequence[Trajectory]) -> None:
    draw = {1: _draw_graph, 2: draw_contours}.get(landscape.dimensions, _draw_distances)
    draw(axes, landscape, paths)


def animate_paths(landscape: Landscape, paths: Mapping[str, Trajectory]) -> bytes:
    """Animates `paths_figure` as a GIF with a frame for each iteration; returns its bytes."""
    figure = paths_figure(landscape, paths)
    figure.set_dpi(70)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    # The layout of the whole figure is kept for all frames.
    figure.set_layout_engine("none")
    lines = [line for axes in figure.axes for line in axes.lines if line.get_gid() == _PATH]
    whole = [(np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in lines]
    frames = []
    for shown in range(1, 1 + max(len(x) for x, _ in whole)):
        for line, (x, y) in zip(lines, whole, strict=True):
            line.set_data(x[:shown], y[:shown])
        canvas.draw()
        # 64 colours keep the file small.
        frames.append(PIL.Image.fromarray(np.array(canvas.buffer_rgba())).convert("RGB").quantize(64))
    content = io.BytesIO()
    durations = [_FRAME_MILLISECONDS] * (len(frames) - 1) + [20 * _FRAME_MILLISECONDS]
    frames[0].save(content, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    return content.getvalue()


def draw_contours(axes: Axes, landscape: Landscape, paths: Sequence[Trajectory], first: int = 0) -> None:
    """Draws paths on the contours of a landscape of two dimensions; a star is a minimum, a white dot a start.

    Contour levels above the lowest minimum grow geometrically; without a minimum they are evenly spaced.

    Args:
      axes: to draw into.
      landscape: of two dimensions.
      paths: each from one start.
      first: the position in `STYLES` of the first path's style.
    """
    x, y = (np.linspace(low, high, _RESOLUTION) for low, high in landscape.window)
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    values = _evaluate(landscape, grid.reshape(-1, 2)).reshape(len(y), len(x))
    if len(landscape.minima):
        floor = min(values.min(), _lowest(landscape))
        levels = floor + np.geomspace(np.quantile(values - floor, 0.01), values.max() - floor, _CONTOURS)
    else:
        levels = np.linspace(values.min(), values.max(), _CONTOURS)
    # A function that is constant or not finite has no contours.
    if np.isfinite(values).all() and values.max() > values.min():
        filled = axes.contourf(x, y, values, levels, cmap="Greys_r", alpha=0.35, extend="both")
        lines = axes.contour(x, y, values, levels, colors="#888888", linewidths=0.5)
        for contours in (filled, lines):
            # As vectors they would take megabytes of an SVG.
            contours.set_rasterized(True)
    axes.plot(*landscape.minima.T, "*", color="black", markersize=11 if len(landscape.minima) < 10 else 5)
    for i, points in enumerate((_within_window(path, landscape) for path in paths), first):
        axes.plot(*points.T, gid=_PATH, **_style(i))
        axes.plot(*points[:1].T, "o", color="black", markersize=7, markerfacecolor="white")
    axes.set(xlim=landscape.window[0], ylim=landscape.window[1], xlabel="x", ylabel="y")
    _set_title(axes, landscape)


def _within_window(path: Trajectory, landscape: Landscape) -> Points:
    """The points of a path; of one that diverged, up to where it finally leaves the window, which is the last point."""
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
    fraction = min(to / by for to, by in zip(to_edge, step, strict=True) if by != 0)
    return np.concatenate([points[: last + 1], [points[last] + fraction * step]])


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
        # Without a minimum, the distance to the origin is drawn.
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
        # Matplotlib overflows on values much larger than this.
        drawn = np.isfinite(heights) & (np.abs(heights) < _HIGHEST)
        axes.plot(np.where(drawn, heights, np.nan), gid=_PATH, **_style(i))
    first = max(abs(float(path.values[0]) - floor) for path in paths.values())
    # A start that is too high to be drawn must not set the limit of the axis.
    first = first if first < _HIGHEST else 0.0
    if has_minima:
        _logarithmic(axes)
        axes.set_ylim(top=10 * first or None)
    else:
        # A path that starts on a saddle starts at height 0, which sets no scale.
        first = first or 1.0
        axes.set_ylim(-10 * first, 2 * first)
    above = "Height above the lowest minimum, f(w) − f(w*)" if has_minima else "Height f(w)"
    axes.set(xlabel="Iterations (updates)", ylabel=above)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _set_title(axes: Axes, landscape: Landscape) -> None:
    # A dollar sign must not start a formula.
    axes.set_title(landscape.formula, parse_math=False)


def _logarithmic(axes: Axes) -> None:
    """Makes the y axis logarithmic if any value is positive."""
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
