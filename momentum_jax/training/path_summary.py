"""What is shown of a trajectory: where each path begins and ends, or the shapes of its arrays while they are traced."""

import itertools
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import Float

from momentum_jax._base.display import LINES, Row, Summary, counted, fields_summary
from momentum_jax._base.errors import shown

if TYPE_CHECKING:
    from momentum_jax.training.trajectories import Trajectory

_MOST_COORDINATES = 4


def summary_of(path: "Trajectory") -> Summary:
    """The summary of a trajectory, whose leaves may be anything that a pytree's can be."""
    if not all(map(_is_concrete, path)) or not _fit(path):
        return fields_summary("Trajectory", {name: _form(leaf) for name, leaf in path._asdict().items()})
    points, values, diverged = (np.asarray(array, np.float64) for array in (path.points, path.values, path.diverged))
    iterations, dimensions = points.shape[-2] - 1, points.shape[-1]
    paths = counted(diverged.size, "path")
    axes = f" ({' × '.join(map(str, diverged.shape))})" if diverged.ndim > 1 else ""
    steps = f"{counted(iterations, 'iteration')} in {counted(dimensions, 'dimension')}"
    places = itertools.islice(np.ndindex(diverged.shape), LINES)
    return Summary(
        title=f"Trajectory of {paths}{axes}: {steps}",
        lines=(_ends(values[..., -1], diverged),) if diverged.size > 1 else (),
        columns=("path", "from", "to", "value", "diverged"),
        rows=tuple(
            Row(
                (
                    ", ".join(map(str, place)) or "-",
                    _point(points[place][0]),
                    _point(points[place][-1]),
                    f"{values[place][0]:.4g} to {values[place][-1]:.4g}",
                    "yes" if diverged[place] else "no",
                ),
                (values[place],),
            )
            for place in places
        ),
        total=diverged.size,
        curves="value",
    )


def _ends(values: Float[np.ndarray, "*paths"], diverged: Float[np.ndarray, "*paths"]) -> str:
    """How many of several paths diverged, and how high the others ended."""
    text = f"{int(diverged.sum()):,} of them diverged"
    there = values[diverged == 0]
    if not len(there):
        return text
    # Between infinities of both signs there is no median.
    with np.errstate(invalid="ignore", over="ignore"):
        median = np.median(there)
    return f"{text}; the others end at {median:.4g} (median; {there.min():.4g} to {there.max():.4g})"


def _is_concrete(leaf: Any) -> bool:
    """Whether a leaf is an array whose numbers can be read here and now."""
    if isinstance(leaf, jax.core.Tracer):
        return False
    if isinstance(leaf, jax.Array):
        return leaf.is_fully_addressable and not leaf.is_deleted()
    return isinstance(leaf, np.ndarray) and leaf.dtype != object


def _fit(path: "Trajectory") -> bool:
    """Whether the shapes are those of paths that have a point."""
    points, values, diverged = np.shape(path.points), np.shape(path.values), np.shape(path.diverged)
    return len(points) > 1 and 0 not in points[-2:] and points[:-1] == values and points[:-2] == diverged


def _form(leaf: Any) -> str:
    """The dtype and the shape of a leaf that has them."""
    if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
        return shown(leaf)
    kind = " traced" if isinstance(leaf, jax.core.Tracer) else ""
    return f"{leaf.dtype}[{', '.join(map(str, leaf.shape))}]{kind}"


def _point(coordinates: Float[np.ndarray, " dimensions"]) -> str:
    listed = [f"{x:.4g}" for x in coordinates[:_MOST_COORDINATES]]
    return f"({', '.join(listed)}{', …' if len(coordinates) > _MOST_COORDINATES else ''})"
