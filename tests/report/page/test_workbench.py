"""The workbench: rates, paths and controls, against the recurrence in float64 NumPy and the package's own theory."""

import itertools

import jax
import numpy as np
import pytest

import momentum_jax as mj
from momentum_jax.analysis import theory
from momentum_jax.tasks.landscapes import make_landscape

METHODS = ("gradient_descent", "heavy_ball", "nesterov")
# Away from double roots closed forms and eigenvalues lose a few of sixteen digits, as do the roundings of 500 steps.
TOLERANCE = 1e-9


def rate(method, a, beta):
    """The spectral radius of the matrix that takes (w_k, w_{k−1}) to (w_{k+1}, w_k)."""
    if method == "gradient_descent":
        return abs(1 - a)
    trace, determinant = (1 + beta - a, beta) if method == "heavy_ball" else ((1 + beta) * (1 - a), beta * (1 - a))
    return float(np.abs(np.linalg.eigvals(np.array([[trace, -determinant], [1.0, 0.0]]))).max())


def path(method, alpha, beta, curvature, steps):
    """The iterates from 1 at rest, in float64."""
    w, v = 1.0, 0.0
    beta = 0.0 if method == "gradient_descent" else beta
    iterates = [w]
    with np.errstate(all="ignore"):
        for _ in range(int(steps)):
            gradient = np.float64(curvature) * w
            v = beta * v - alpha * gradient
            w = w + beta * v - alpha * gradient if method == "nesterov" else w + v
            iterates.append(w)
    return np.asarray(iterates)


def check_theory(view):
    """Against the package's closed forms and the paths of its optimizers."""
    alpha, beta, kappa, steps = view.setting().values()
    curvatures = np.array([1.0, kappa])
    with jax.enable_x64(True):
        for method in ("heavy_ball", "nesterov"):
            rates = getattr(theory, f"{method}_rate")(alpha * curvatures, beta)
            valley = make_landscape("quadratic", curvatures=(1.0, kappa))
            name = "nesterov" if method == "nesterov" else "momentum"
            optimizer = mj.OptimizerConfig(name, learning_rate=alpha, momentum=beta)
            path = mj.trajectory(optimizer, valley, [1.0, 1.0], int(steps))
            shown = [float(view.value(f"{method}-{name}")) for name in ("rate_mu", "rate_L", "distance")]
            np.testing.assert_allclose(shown, [*rates, np.linalg.norm(path.points[-1])], rtol=TOLERANCE, atol=TOLERANCE)


def check_numbers(view, *, rtol=TOLERANCE):
    alpha, beta, kappa, steps = view.setting().values()
    for method in METHODS:
        low, high = rate(method, alpha, beta), rate(method, alpha * kappa, beta)
        shown = {
            name: view.value(f"{method}-{name}") for name in ("rate_mu", "rate_L", "rate", "iterations", "distance")
        }
        shown = {name: float(value) for name, value in shown.items()}
        worst = max(low, high)
        with np.errstate(all="ignore"):
            end = np.hypot(path(method, alpha, beta, 1, steps)[-1], path(method, alpha, beta, kappa, steps)[-1])
        np.testing.assert_allclose(
            [shown["rate_mu"], shown["rate_L"], shown["rate"]], [low, high, worst], rtol=rtol, atol=rtol
        )
        assert (view.value(f"{method}-stable") == "true") == (worst < 1)
        iterations = np.log(1000) / -np.log(worst) if worst < 1 else np.inf
        np.testing.assert_allclose(shown["iterations"], iterations, rtol=1e3 * rtol)
        np.testing.assert_allclose(shown["distance"], np.inf if np.isnan(end) else end, rtol=TOLERANCE)


@pytest.mark.parametrize(
    "setting",
    [
        pytest.param({"alpha": 0.02, "beta": 0.7, "kappa": 25.0, "steps": 40}, marks=pytest.mark.exhaustive),
        # Real roots, no momentum, a round valley.
        pytest.param({"alpha": 0.3, "beta": 0.0, "kappa": 1.0, "steps": 3}, marks=pytest.mark.exhaustive),
        pytest.param({"alpha": 0.0005, "beta": 0.95, "kappa": 1000.0, "steps": 500}, marks=pytest.mark.exhaustive),
        # Heavy ball alone converges.
        {"alpha": 0.08, "beta": 0.7, "kappa": 30.0, "steps": 60},
        # All diverge, the last beyond the largest float.
        pytest.param({"alpha": 0.5, "beta": 0.5, "kappa": 20.0, "steps": 30}, marks=pytest.mark.exhaustive),
        {"alpha": 10.0, "beta": 0.999, "kappa": 1000.0, "steps": 500},
    ],
)
def test_the_numbers_are_those_of_the_recurrence_and_its_spectral_radius(view, setting):
    view.set(**setting)
    assert view.setting() == setting
    check_numbers(view)


def test_the_numbers_are_those_of_the_theory(view):
    view.set(alpha=0.02, beta=0.7, kappa=25.0, steps=40)
    check_theory(view)
    # Beyond both boundaries.
    view.set(alpha=0.5, beta=0.5, kappa=20.0, steps=40)
    check_theory(view)


def test_a_slider_moves_the_number_the_path_and_the_point_on_the_map(view):
    view.set(alpha=0.02, beta=0.7, kappa=25.0, steps=40)
    before = view.traces("wb-path", "heavy_ball")[0]["y"]
    for slider, at, field in (
        ("alpha", "-1.5", 0.0316),
        ("beta", "0.55", 0.55),
        ("kappa", "1", 10.0),
        ("steps", "70", 70),
    ):
        view.tab.fill(f"#wb-{slider}-slider", at)
        assert view.setting()[slider] == field
    view.tab.focus("#wb-steps-slider")
    view.tab.keyboard.press("ArrowRight")
    view.settle()
    assert view.setting() == {"alpha": 0.0316, "beta": 0.55, "kappa": 10.0, "steps": 71}
    check_numbers(view)
    after = view.traces("wb-path", "heavy_ball")[0]["y"]
    assert len(after) == 72
    assert after[1] != before[1]
    points = {shape["name"]: (shape["xanchor"], shape["yanchor"]) for shape in view.layout("wb-map", "shapes")[1:]}
    np.testing.assert_allclose(points["αμ"], [np.log10(0.0316), 0.55], rtol=1e-12)
    np.testing.assert_allclose(points["αL"], [np.log10(0.316), 0.55], rtol=1e-12)


def test_paths_are_the_iterates_and_those_that_diverge_end_at_the_edge(view):
    setting = {"alpha": 0.0801, "beta": 0.7, "kappa": 30.0, "steps": 60}
    view.set(**setting)
    (line,) = view.traces("wb-path", "heavy_ball")
    for key, curvature in (("x", 1.0), ("y", 30.0)):
        expected = path("heavy_ball", 0.0801, 0.7, curvature, 60)
        np.testing.assert_allclose(line[key], expected, rtol=TOLERANCE, atol=1e-15)
    half = [view.axis("wb-path", name)["range"][1] for name in ("xaxis", "yaxis")]
    for method in ("gradient_descent", "nesterov"):
        (line,), (exit_,) = (view.traces("wb-path", meta) for meta in (method, f"{method} leaves"))
        x, y = (path(method, 0.0801, 0.7, curvature, 60) for curvature in (1.0, 30.0))
        inside = int(np.argmax((np.abs(x) > half[0]) | (np.abs(y) > half[1])))
        assert len(line["x"]) == inside + 1 < 60
        np.testing.assert_allclose(line["y"][:-1], y[:inside], rtol=TOLERANCE)
        # The last point is where the line to the first iterate outside meets the edge.
        assert abs(line["y"][-1]) == pytest.approx(half[1], rel=1e-12)
        slope = (line["x"][-1] - x[inside - 1]) / (x[inside] - x[inside - 1])
        assert slope == pytest.approx((line["y"][-1] - y[inside - 1]) / (y[inside] - y[inside - 1]), rel=1e-9)
        assert exit_["visible"]
    assert "Not converging at this setting: gradient descent, Nesterov." in view.text("#wb-path-caption")
    assert view.text("#wb-gradient_descent-stable") == "no"
    assert view.text("#wb-gradient_descent-iterations") == "never"
    view.until("document.getElementById('wb-status').textContent.includes('does not converge')")


@pytest.mark.parametrize("kappa", [20.0, *(pytest.param(k, marks=pytest.mark.exhaustive) for k in (1.0, 1000.0))])
def test_the_buttons_give_the_best_hyperparameters_for_the_spectrum(view, kappa):
    best = {
        "gradient_descent": mj.optimizers.optimal_sgd(1, kappa),
        "heavy_ball": mj.optimizers.optimal_momentum(1, kappa),
        "nesterov": mj.optimizers.optimal_nesterov(1, kappa),
    }
    view.set(kappa=kappa)
    for method, tuning in best.items():
        view.tab.click(f"#wb-best-{method}")
        view.settle()
        setting = view.setting()
        np.testing.assert_allclose(setting["alpha"], float(tuning.learning_rate), rtol=1e-12)
        momentum = 0.0 if method == "gradient_descent" else float(tuning.momentum)
        np.testing.assert_allclose(setting["beta"], momentum, rtol=1e-12, atol=1e-12)
        # At these settings roots are double: a rounding of 1e-16 in α moves the rate by its square root.
        np.testing.assert_allclose(float(view.value(f"{method}-rate")), float(tuning.rate), atol=1e-7)


@pytest.mark.parametrize(
    ("method", "momentum", "critical_rate"),
    [("heavy_ball", 0.64, 0.8), pytest.param("nesterov", 2 / 3, 0.8, marks=pytest.mark.exhaustive)],
)
def test_critical_damping_sets_the_best_momentum_for_the_flat_direction(view, method, momentum, critical_rate):
    # s = √(αμ) = 0.2: (1 − s)² and (1 − s)/(1 + s), both with the rate 1 − s.
    view.set(alpha=0.04, kappa=2.0, steps=10)
    view.tab.select_option("#wb-method", method)
    view.tab.click("#wb-critical")
    view.settle()
    assert view.setting()["beta"] == pytest.approx(momentum, rel=1e-12)
    assert float(view.value(f"{method}-rate_mu")) == pytest.approx(critical_rate, abs=1e-7)
    view.set(alpha=5.0)
    view.tab.click("#wb-critical")
    assert "no critical damping" in view.text("#wb-problem")


@pytest.mark.parametrize("method", [pytest.param("heavy_ball", marks=pytest.mark.exhaustive), "nesterov"])
def test_the_map_has_the_rates_and_the_edge_of_stability_of_the_method_chosen(view, method):
    view.set(alpha=0.02, beta=0.5, kappa=10.0, steps=10)
    view.tab.select_option("#wb-method", method)
    view.settle()
    read = "(() => { const {x, y, z} = document.getElementById('wb-map').data[0]; return [x, y, z]; })()"
    logarithms, beta, z = view.tab.evaluate(read)
    a, z = 10 ** np.asarray(logarithms), np.asarray(z, float)
    for row, column in itertools.product(range(0, len(beta), 10), range(0, len(a), 10)):
        expected = rate(method, a[column], beta[row])
        # Near double roots, which the grid may touch, eigenvalues keep half of their digits.
        assert np.isnan(z[row, column]) if expected >= 1 else z[row, column] == pytest.approx(expected, abs=1e-7)
    (boundary,) = view.traces("wb-map", "boundary")
    for edge, b in zip(10 ** np.asarray(boundary["x"][::10]), boundary["y"][::10], strict=True):
        assert rate(method, edge * (1 - 1e-6), b) < 1 <= rate(method, edge * (1 + 1e-6), b)


def test_a_number_that_cannot_be_used_is_said_and_leaves_the_rest_as_it_is(view):
    view.set(alpha=0.02, beta=0.5, kappa=10.0, steps=10)
    before = view.value("heavy_ball-rate")
    for name, value in (("alpha", "0"), ("beta", "1"), ("steps", "2.5"), ("kappa", "")):
        view.tab.fill(f"#wb-{name}", value)
        view.settle()
        assert view.tab.locator(f"#wb-{name}").get_attribute("aria-invalid") == "true"
        assert "must be a" in view.text("#wb-problem")
        assert view.value("heavy_ball-rate") == before
        view.set(alpha=0.02, beta=0.5, kappa=10.0, steps=10)
    assert view.text("#wb-problem") == ""
