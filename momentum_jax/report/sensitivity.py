"""The figure of a sweep over one hyperparameter: the final loss against it."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from momentum_jax.report.drawing import (
    PLAIN_TEXT,
    Style,
    add_edge_row,
    add_legend,
    clip_middle,
    is_log,
    is_wide,
    limit_values,
    plain,
    say,
    styles_of,
)
from momentum_jax.report.heatmaps import ByLabel, Shown, heatmap_figure, shown_of
from momentum_jax.results.result import Result
from momentum_jax.results.tables import in_words, numeric_of, text_of, varying_hyperparameters


def sweep_figure(result: Result) -> tuple[str, Figure]:
    """The figure of a sweep and its name: "heatmap" if two hyperparameters of an optimizer vary, or "sensitivity"."""
    return ("heatmap", heatmap_figure(result)) if has_heatmap(result) else ("sensitivity", sensitivity_figure(result))


def has_heatmap(result: Result, labels: Sequence[str] | None = None) -> bool:
    """Whether of any of these optimizers of a sweep two hyperparameters that are numbers vary."""
    assert result.trials is not None
    return any(
        len(numeric_of(varying_hyperparameters(own))) > 1
        for label, own in result.trials.items()
        if labels is None or label in labels
    )


@mpl.rc_context(PLAIN_TEXT)
def sensitivity_figure(
    result: Result, losses: ByLabel | None = None, what: str | None = None, labels: Sequence[str] | None = None
) -> Figure:
    """Draws the final loss against the hyperparameter that varies; see `draw_sensitivity`.

    If it is not the same one for all optimizers, there is a panel for each.

    Args:
      result: of a sweep.
      losses: by label, what is drawn, of which less is better; by default the final training loss.
      what: the name of that loss, with its unit.
      labels: the optimizers to draw, by default all.
    """
    names = varying_names(result, labels)
    figure = Figure(figsize=(5.6 if len(names) == 1 else 4.4 * len(names), 4.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        draw_sensitivity(axes, result, name, losses, what, labels)
    return figure


def varying_names(result: Result, labels: Sequence[str] | None = None) -> list[str]:
    """The hyperparameter of each optimizer to draw the loss against; [""] if none varies."""
    assert result.trials is not None
    names = {
        _name(varying_hyperparameters(own)) for label, own in result.trials.items() if labels is None or label in labels
    }
    return sorted(names - {""}) or [""]


@mpl.rc_context(PLAIN_TEXT)
def draw_sensitivity(
    axes: Axes,
    result: Result,
    name: str,
    losses: ByLabel | None = None,
    what: str | None = None,
    labels: Sequence[str] | None = None,
) -> None:
    """Draws the median final loss of each trial against a hyperparameter, with the range over the seeds.

    Of trials with the same value the best is drawn. A trial of which most runs failed stands in a row of its own. If
    fewer failed, the range reaches up to that row. An optimizer with one trial is a horizontal line. Without a
    hyperparameter, "", each optimizer has a place of its own.

    Args:
      axes: to draw into.
      result: of a sweep.
      name: of the hyperparameter.
      losses: by label, what is drawn, of which less is better; by default the final training loss.
      what: the name of that loss, with its unit.
      labels: the optimizers to draw, by default all.
    """
    assert result.trials is not None
    drawn = [label for label in result.trials if labels is None or label in labels]
    shown = shown_of(result, drawn, losses, what)
    places, ticks = _places(result, drawn, name)
    best = {label: chosen for label in places if len(chosen := _best(result, label, places[label], shown))}
    axes.set_xlabel(clip_middle(in_words(name)), parse_math=False)
    title = shown.title.replace(", median of", ", median and range of")
    axes.set_ylabel(title.replace(" (", "\n(") if " (" in title else title.replace(", ", ",\n"), parse_math=False)
    if not best:
        say(axes, "no run is finished")
        return
    across = np.concatenate([places[label] for label in best])
    if ticks:
        axes.set_xticks(range(len(ticks)), [clip_middle(tick, 16) for tick in ticks], parse_math=False)
        axes.set_xlim(-0.5, len(ticks) - 0.5)
    elif is_log(name, across[np.isfinite(across)]):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(plain)
    runs = {label: _runs_of(result, label, chosen, shown) for label, chosen in best.items()}
    every = np.concatenate([of_label.reshape(-1) for of_label in runs.values()])
    limit_values(axes, every, logarithmic=is_wide(every))
    row = add_edge_row(axes, "failed").marks if np.isinf(every).any() else None
    styles = styles_of(list(result.trials))
    for label, chosen in best.items():
        at, medians = places[label][chosen], shown.medians[label][chosen]
        _draw_trials(axes, at, medians, runs[label], row, styles[label], joined=not ticks)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    if name and len(drawn) > 1:
        handles = [Line2D([], [], **styles[label]._asdict()) for label in best]
        add_legend(axes, handles, list(best))


def _runs_of(
    result: Result, label: str, chosen: Int[np.ndarray, " chosen"], shown: Shown
) -> Float[np.ndarray, "chosen seeds"]:
    """The losses of runs, infinite where they failed and NaN where they are not finished."""
    losses = np.asarray(shown.losses[label][chosen], np.float64)
    failed = result.failed[label][chosen] | ~np.isfinite(losses)
    return np.where(result.missing[label][chosen], np.nan, np.where(failed, np.inf, losses))


def _draw_trials(
    axes: Axes,
    x: Float[np.ndarray, " chosen"],
    medians: Float[np.ndarray, " chosen"],
    runs: Float[np.ndarray, "chosen seeds"],
    row: float | None,
    style: Style,
    *,
    joined: bool,
) -> None:
    """Draws the trials of an optimizer, joined by a line if asked for; infinite losses are drawn at the row."""
    low, high = np.nanmin(runs, axis=1), np.nanmax(runs, axis=1)
    low, middle, high = (of if row is None else np.where(np.isinf(of), row, of) for of in (low, medians, high))
    if np.isnan(x).all():
        axes.axhline(middle[0], color=style.color, linestyle=style.linestyle)
        axes.axhspan(low[0], high[0], color=style.color, alpha=0.15, linewidth=0)
        return
    if joined:
        # A line through the row would show losses that there are not.
        axes.plot(x, np.where(np.isinf(medians), np.nan, medians), color=style.color, linestyle=style.linestyle)
    axes.plot(x, middle, style.marker, color=style.color)
    if runs.shape[1] > 1:
        axes.errorbar(x, middle, [middle - low, high - middle], fmt="none", color=style.color, capsize=3, linewidth=1)


def _name(varying: Mapping[str, Sequence[Any]]) -> str:
    """The hyperparameter to draw against: the first that is a number, or else a word; "" if none varies."""
    return next(iter([*numeric_of(varying), *varying]), "")


def _places(
    result: Result, labels: Sequence[str], name: str
) -> tuple[dict[str, Float[np.ndarray, " trials"]], list[str]]:
    """Where the trials of optimizers stand on the x axis, NaN for everywhere; and the words there, if there are any.

    An optimizer that varies in another hyperparameter is not among them.
    """
    assert result.trials is not None
    if not name:
        return {label: np.full(len(result.trials[label]), float(i)) for i, label in enumerate(labels)}, list(labels)
    columns = {label: varying_hyperparameters(result.trials[label]) for label in labels}
    with_name = [own for own in columns.values() if name in own]
    words: list[str] = []
    if any(name not in numeric_of(own) for own in with_name):
        words = list(dict.fromkeys(text_of(value) for own in with_name for value in own[name]))
    places = {}
    for label, own in columns.items():
        if name in own:
            values = [words.index(text_of(value)) if words else value for value in own[name]]
            places[label] = np.asarray(values, np.float64)
        elif not own:
            places[label] = np.full(len(result.trials[label]), np.nan)
    return places, words


def _best(result: Result, label: str, places: Float[np.ndarray, " trials"], shown: Shown) -> Int[np.ndarray, " chosen"]:
    """The finished trials, of those at one place the best, from left to right."""
    finished = np.asarray((~result.missing[label]).any(axis=1))
    order = [i for i in np.argsort(shown.medians[label], kind="stable").tolist() if finished[i]]
    first: dict[float, int] = {}
    for i in order:
        first.setdefault(float(np.nan_to_num(places[i])), i)
    return np.asarray([first[place] for place in sorted(first)], np.int64)
