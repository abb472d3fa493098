"""How often the intervals cover: simulated, or computed exactly over all samples."""

import numpy as np
import pytest
from scipy import stats

from momentum_jax.analysis import (
    mean_interval,
    median_interval,
    proportion_difference_interval,
    proportion_interval,
    wins_interval,
)

# Sums of at most some hundred probabilities.
ROUNDING = 1e-12


def ends(interval):
    return interval.low, interval.high


# The distributions to cover, by name: how to draw, and which of SciPy's it is where it is not symmetric about 0.
SYMMETRIC = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "uniform": lambda rng, shape: rng.uniform(-1, 1, size=shape),
    "Laplace": lambda rng, shape: rng.laplace(size=shape),
    "t with 3 degrees": lambda rng, shape: rng.standard_t(3, size=shape),
    "lognormals' difference": lambda rng, shape: rng.lognormal(size=shape) - rng.lognormal(size=shape),
}
SKEWED = {
    "exponential": (lambda rng, shape: rng.exponential(size=shape), stats.expon()),
    "lognormal": (lambda rng, shape: rng.lognormal(size=shape), stats.lognorm(1)),
}


def assert_covers(interval, draw, truth, n, simulations, offered):
    """Fails where so few covered intervals would have a probability below 1e-4 if 93 % were covered."""
    rng = np.random.default_rng(0)
    covered = sum(low <= truth <= high for low, high in (ends(interval(x)) for x in draw(rng, (simulations, n))))
    assert stats.binom.cdf(covered, simulations, offered) > 1e-4, covered / simulations


@pytest.mark.parametrize("n", [5, 10, 30])
@pytest.mark.parametrize("draw", SYMMETRIC.values(), ids=SYMMETRIC)
def test_students_interval_covers_symmetric_differences(draw, n):
    assert_covers(mean_interval, draw, 0, n, 2000, offered=0.93)


@pytest.mark.parametrize(("name", "n"), [("exponential", 40), ("lognormal", 300)])
def test_students_interval_covers_skewed_differences_from_the_stated_number_on(name, n):
    draw, distribution = SKEWED[name]
    assert_covers(mean_interval, draw, distribution.mean(), n, 2000, offered=0.93)


@pytest.mark.parametrize("n", [6, 9, 30])
@pytest.mark.parametrize("name", [*SYMMETRIC, *SKEWED])
def test_the_medians_interval_covers_with_its_level_whatever_the_distribution(name, n):
    draw, distribution = SKEWED.get(name) or (SYMMETRIC[name], None)
    truth = distribution.median() if distribution else 0
    assert_covers(median_interval, draw, truth, n, 1000, offered=0.95)


def splits(n):
    """All ways to split n runs into three kinds."""
    return [(i, j, n - i - j) for i in range(n + 1) for j in range(n + 1 - i)]


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
@pytest.mark.parametrize("n", [1, 5, 12])
def test_a_proportion_is_covered_with_its_level_exactly_computed(n, level):
    intervals = [proportion_interval(k, n, level) for k in range(n + 1)]
    for p in np.linspace(0, 1, 101):
        covered = [low <= p <= high for low, high in map(ends, intervals)]
        assert stats.binom.pmf(np.arange(n + 1), n, p) @ covered >= level - ROUNDING


@pytest.mark.parametrize("n", [3, 8])
def test_wins_and_differences_of_proportions_are_covered_with_their_level_exactly_computed(n):
    counts = np.array(splits(n))
    wins = [wins_interval(np.repeat([-1.0, 1.0, 0.0], count)) for count in counts]
    differences = []
    for only_a, only_b, _ in counts:
        a, b = np.zeros((2, n), bool)
        a[:only_a], b[only_a : only_a + only_b] = True, True
        differences.append(proportion_difference_interval(a, b))
    for first, second, third in splits(12):
        p = np.array([first, second, third]) / 12
        probability = stats.multinomial(n, p).pmf(counts)
        beats = p[0] + p[2] / 2
        for intervals, truth in ((wins, beats), (differences, p[0] - p[1])):
            # What is certain lies on the end itself, which may be rounded.
            covered = [low - ROUNDING <= truth <= high + ROUNDING for low, high in map(ends, intervals)]
            assert probability @ covered >= 0.95 - ROUNDING
