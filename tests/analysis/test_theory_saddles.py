"""Escapes from saddles against runs of the recurrence, in float64 NumPy."""

import numpy as np
import pytest

from momentum_jax.analysis import theory
from tests.analysis.recurrences import each_method, formula, simulate

pytestmark = pytest.mark.usefixtures("float64")


def test_growth_on_a_saddle_has_the_printed_rates_and_steps():
    c, beta = np.array([0.1, 0.1, 0.01]), np.array([0.0, 0.9, 0.9])
    for method, printed, steps in (
        ("heavy_ball", [1.1, 1.3162, 1.0647], [73, 27, 115]),
        ("nesterov", [1.1, 1.3644, 1.0674], [73, 24, 110]),
    ):
        growth = formula(method, "saddle_growth")(c, beta)
        np.testing.assert_allclose(growth.rate, printed, atol=5e-5)
        assert np.ceil(theory.steps_to_grow(growth, 1000.0)).tolist() == steps
        # The same by steps from rest on the saddle itself.
        path = simulate(method, c, beta, -1.0, np.ones(3), 120)
        assert (path >= 1000).argmax(0).tolist() == steps


@each_method
def test_on_a_saddle_a_run_is_the_growing_term_and_the_decaying_one(method):
    rng = np.random.default_rng(4)
    c, beta = 10 ** rng.uniform(-3, 0, 3), rng.uniform(0, 0.95, 3)
    rate, amplitude = (np.asarray(part) for part in formula(method, "saddle_growth")(c, beta))
    path = simulate(method, c, beta, -1.0, np.ones(3), 60)
    k = np.arange(61)[:, None]
    other = beta * (1 + c * (method == "nesterov")) / rate
    # 60 steps of some roundings each.
    np.testing.assert_allclose(path, amplitude * rate**k + (1 - amplitude) * other**k, rtol=1e-12)


def test_momentum_leaves_a_saddle_faster_at_the_same_rate_and_more_slowly_at_the_matched_one():
    beta = np.linspace(0.001, 0.999, 60)[:, None]
    c = np.geomspace(1e-4, 10, 50)
    same = np.asarray(theory.heavy_ball_saddle_growth(c[None, :], beta).rate)
    matched = np.asarray(theory.heavy_ball_saddle_growth(c * (1 - beta), beta).rate)
    assert (same > 1 + c).all()
    assert (matched < 1 + c).all()
