"""The figure of a performance profile."""

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from momentum_jax._base.display import counted
from momentum_jax.analysis import performance_profile
from momentum_jax.analysis.profiles import LIMIT
from momentum_jax.comparison.task_comparison import Profile, TaskComparison
from momentum_jax.report.drawing import PLAIN_TEXT, add_legend, styles_of

# In proportions: lines that coincide stand so far apart.
_APART = 0.012


@mpl.rc_context(PLAIN_TEXT)
def profile_figure(compared: TaskComparison, protocol: str) -> Figure:
    """Draws the performance profile of a protocol; see `draw_profile`."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    draw_profile(figure.add_subplot(), compared, protocol)
    return figure


def draw_profile(axes: Axes, compared: TaskComparison, protocol: str) -> None:
    """Draws for each optimizer the proportion of tasks on which its time is within a factor of the best, from 1 to 4.

    Lines that coincide are drawn a little apart.
    """
    profile = compared.profiles[protocol]
    factors = profile_factors(profile)
    curves = performance_profile(profile.ratios, factors)
    styles = styles_of(compared.optimizers)
    lines = []
    for i, (label, curve) in enumerate(zip(compared.optimizers, curves, strict=True)):
        style, apart = styles[label], _APART * (i - (len(curves) - 1) / 2)
        lines += axes.step(
            factors, curve + apart, where="post", color=style.color, linestyle=style.linestyle, marker=style.marker
        )
    axes.set(
        title=f"{profile.title}, {counted(len(profile.tasks), 'task')}",
        xlabel="Factor of the fastest optimizer's iterations to the target",
        ylabel="Tasks within that factor",
        xlim=(1, LIMIT),
        ylim=(-0.03, 1.05),
    )
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(alpha=0.25)
    add_legend(axes, lines, [f"{label} (score {profile.scores[label]:.2f})" for label in compared.optimizers])


def profile_factors(profile: Profile) -> Float[np.ndarray, " factors"]:
    """The factors from 1 to 4 at which a curve of the profile has a step, and both ends."""
    return np.unique([1.0, *profile.ratios[profile.ratios <= LIMIT], LIMIT])
