"""The tutorial's smoothing against its procedure written out in loops."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentum_jax.analysis import first_reached, smooth_curve

# Sums of 11 products in float64 differ by some 11 · 2⁻⁵³ ≈ 1e-15 of the largest value, whatever their order.
TOLERANCE = 1e-12

values = st.floats(-1e3, 1e3)


def as_the_tutorial(x):
    """Mirrors ten values at each end, the last one repeated and the first not; convolves; drops five at each end."""
    n = len(x)
    padded = [x[i] for i in range(10, 0, -1)] + list(x) + [x[n - i] for i in range(1, 11)]
    # The window I₀(2·√(1 − (i/5 − 1)²)) / I₀(2) by its formula, I₀ by its series.
    window = [bessel_i0(2 * math.sqrt(1 - (i / 5 - 1) ** 2)) for i in range(11)]
    total = math.fsum(window)
    smooth = []
    for start in range(len(padded) - 10):
        smooth.append(math.fsum(window[10 - k] * padded[start + k] for k in range(11)) / total)
    return smooth[5 : len(smooth) - 5]


def bessel_i0(x):
    return math.fsum((x / 2) ** (2 * k) / math.factorial(k) ** 2 for k in range(30))


@pytest.mark.parametrize("length", [11, 12, 20, 21, 100, 2000])
def test_a_curve_is_smoothed_as_in_the_tutorial(length, rng):
    curve = rng.normal(size=length)
    smooth = smooth_curve(curve)
    assert smooth.dtype == np.float64
    np.testing.assert_allclose(smooth, as_the_tutorial(curve.tolist()), rtol=0, atol=TOLERANCE)


def test_float32_curves_are_smoothed_in_float64(rng):
    curve = rng.normal(size=50).astype(np.float32)
    smooth = smooth_curve(curve)
    assert smooth.dtype == np.float64
    np.testing.assert_allclose(smooth, as_the_tutorial([float(x) for x in curve]), rtol=0, atol=TOLERANCE)


@given(values, st.integers(1, 60))
def test_a_constant_stays_constant_edges_included_at_any_length(value, length):
    np.testing.assert_allclose(smooth_curve(np.full(length, value)), value, rtol=TOLERANCE, atol=TOLERANCE)


@given(values, st.floats(-10, 10), st.integers(11, 60))
def test_a_line_stays_a_line_where_the_window_is_inside(offset, slope, length):
    line = offset + slope * np.arange(length)
    # Values of up to 1600 with relative rounding of 1e-15.
    np.testing.assert_allclose(smooth_curve(line)[5:-5], line[5:-5], rtol=0, atol=1e-11)


@given(st.lists(values, min_size=1, max_size=10))
def test_curves_shorter_than_the_window_keep_their_length_and_stay_within_their_values(curve):
    smooth = smooth_curve(np.array(curve))
    assert smooth.shape == (len(curve),)
    assert smooth.min() >= min(curve) - 1e-9
    assert smooth.max() <= max(curve) + 1e-9


def test_every_curve_of_a_batch_is_smoothed_on_its_own(rng):
    curves = rng.normal(size=(2, 3, 40))
    one_by_one = [[smooth_curve(curve) for curve in row] for row in curves]
    # The same sums, in an order of BLAS's choosing.
    np.testing.assert_allclose(smooth_curve(curves), one_by_one, rtol=0, atol=TOLERANCE)


def test_the_curve_itself_is_left_as_it_is(rng):
    curve = rng.normal(size=30)
    before = curve.copy()
    smooth_curve(curve)
    np.testing.assert_array_equal(curve, before)


# Warnings are errors in these tests, so that they also show that there is none.
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_spreads_over_the_window_and_no_further(bad, rng):
    curve = rng.normal(size=40)
    clean = smooth_curve(curve)
    curve[20] = bad
    smooth = smooth_curve(curve)
    np.testing.assert_array_equal(np.flatnonzero(~np.isfinite(smooth)), np.arange(15, 26))
    far = np.r_[0:15, 26:40]
    np.testing.assert_allclose(smooth[far], clean[far], rtol=0, atol=TOLERANCE)


def test_infinities_of_both_signs_make_nan_without_a_warning():
    curve = np.zeros(30)
    curve[10], curve[12] = np.inf, -np.inf
    smooth = smooth_curve(curve)
    assert np.isnan(smooth[11])
    assert smooth[6] == np.inf
    assert smooth[17] == -np.inf


@pytest.mark.parametrize(
    ("curve", "level", "iteration"),
    [
        ([3.0, 1.0, 2.0], 2.0, 1),
        ([3.0, 2.0, 1.0], 2.0, 1),
        ([1.0, 5.0, 5.0], 2.0, 0),
        ([5.0, 5.0, 1.0], 2.0, 2),
        ([3.0, 3.0, 3.0], 2.0, -1),
        ([np.nan, np.inf, 1.0], 2.0, 2),
        ([np.nan, np.nan], 2.0, -1),
        ([[3.0, 1.0], [3.0, 3.0], [0.0, 9.0]], 2.0, [1, -1, 0]),
    ],
)
def test_the_first_iteration_at_or_below_a_level(curve, level, iteration):
    np.testing.assert_array_equal(first_reached(np.array(curve), level), iteration)
