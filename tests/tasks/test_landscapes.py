"""Landscapes against their formulas in NumPy, differentiated by complex steps, and against what is known of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from momentum_jax._base.errors import InputError
from momentum_jax.tasks import landscapes
from momentum_jax.tasks.landscapes import make_landscape
from tests.compiling import jit

EPS = np.finfo(float).eps
CASES = {
    "beale": {},
    "chain": {"dimensions": 5, "mu": 0.5, "L": 20.0},
    "double_well": {},
    "himmelblau": {},
    "lessard": {},
    "monkey_saddle": {},
    "quadratic": {"curvatures": (3.0, 0.2, 1.0), "rotation": 0.7},
    "rastrigin": {},
    "rosenbrock": {},
    "valley": {},
}
# With two minima, one, and two of the same value.
TILTS = [0.3, 8 / np.sqrt(27) + 0.01, 0.0]


pytestmark = pytest.mark.usefixtures("float64")


def chain(w):
    d, mu, L = CASES["chain"].values()
    q = (np.sqrt(L / mu) - 1) / (np.sqrt(L / mu) + 1)
    matrix = 2 * np.eye(d) - np.eye(d, k=1) - np.eye(d, k=-1)
    matrix[-1, -1] = 2 - q
    return (L - mu) / 4 * (w @ matrix @ w / 2 - w[0]) + mu / 2 * w @ w


def lessard(w):
    (x,) = w
    # The areas under the slope: from 0, from 1 where it is 12.5, and from 2 where it is 38.
    if x.real < 1:
        return 12.5 * x**2
    return 12.5 + (x**2 - 1) / 2 + 24 * (x - 1) if x.real < 2 else 38 + 12.5 * (x**2 - 4) - 24 * (x - 2)


def quadratic(w):
    cosine, sine = np.cos(0.7), np.sin(0.7)
    x, y, z = cosine * w[0] + sine * w[1], cosine * w[1] - sine * w[0], w[2]
    return 1.5 * x**2 + 0.1 * y**2 + 0.5 * z**2


FORMULAS = {
    "beale": lambda w: sum((c - w[0] + w[0] * w[1] ** i) ** 2 for i, c in ((1, 1.5), (2, 2.25), (3, 2.625))),
    "chain": chain,
    "double_well": lambda w: w[0] ** 4 - 2 * w[0] ** 2 + 1 + 0.3 * w[0] + w[1] ** 2 / 2,
    "himmelblau": lambda w: (w[0] ** 2 + w[1] - 11) ** 2 + (w[0] + w[1] ** 2 - 7) ** 2,
    "lessard": lessard,
    "monkey_saddle": lambda w: w[0] ** 3 - 3 * w[0] * w[1] ** 2,
    "quadratic": quadratic,
    "rastrigin": lambda w: 20 + w[0] ** 2 + w[1] ** 2 - 10 * np.cos(2 * np.pi * w[0]) - 10 * np.cos(2 * np.pi * w[1]),
    "rosenbrock": lambda w: (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2,
    "valley": lambda w: w[0] ** 2 / 20 + w[1] ** 2,
}


def derivatives(landscape, points):
    """Values, gradients and Hessians [points, …], 200 points at a time: so one program does for all tests."""
    points = np.asarray(points, float)
    padded = np.concatenate([points, np.ones([-len(points) % 200, landscape.dimensions])])
    parts = [program(landscape.function)(part) for part in padded.reshape(-1, 200, landscape.dimensions)]
    return [np.concatenate(arrays)[: len(points)] for arrays in zip(*parts, strict=True)]


@functools.cache
def program(function):
    return jit(jax.vmap(lambda w: (*jax.value_and_grad(function)(w), jax.hessian(function)(w))))


def complex_step(function, w):
    """∂f/∂wᵢ as Im f(w + ih·eᵢ)/h: no difference is taken, so that it is exact up to rounding."""
    h = 1e-30
    return np.array([function(w + h * 1j * axis).imag / h for axis in np.eye(len(w))])


def test_every_landscape_is_tested():
    assert CASES.keys() == FORMULAS.keys() == landscapes.available().keys()


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_the_formula(name, rng):
    landscape = make_landscape(name, **CASES[name])
    points = rng.uniform(*landscape.window.T, size=(50, landscape.dimensions))
    values, gradients, _ = derivatives(landscape, points)
    # Some ten roundings of numbers of the size of the largest term, which at its largest is that of the largest value.
    expected = np.array([FORMULAS[name](w) for w in points])
    np.testing.assert_allclose(values, expected, rtol=0, atol=40 * EPS * np.abs(expected).max())
    expected = np.array([complex_step(FORMULAS[name], w) for w in points])
    np.testing.assert_allclose(gradients, expected, rtol=0, atol=40 * EPS * np.abs(expected).max())


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_finite_differences(name, rng):
    landscape = make_landscape(name, **CASES[name])
    points = rng.uniform(*landscape.window.T, size=(20, landscape.dimensions))
    h, axes = np.cbrt(EPS), np.eye(landscape.dimensions)
    aside = points[:, None, None] + h * np.stack([axes, -axes])
    values, *_ = derivatives(landscape, aside.reshape(-1, landscape.dimensions))
    above, below = np.moveaxis(values.reshape(aside.shape[:-1]), 1, 0)
    _, gradients, _ = derivatives(landscape, points)
    # Central ones are off by h²/6 of the third derivative, and by the rounding of values over h.
    atol = 100 * h**2 * np.abs(values).max()
    np.testing.assert_allclose((above - below) / (2 * h), gradients, rtol=0, atol=atol)


@pytest.mark.parametrize("name", CASES)
def test_the_known_minima_are_minima_the_lowest_first_and_within_the_window(name):
    landscape = make_landscape(name, **CASES[name])
    assert landscape.minima.shape[1:] == landscape.start.shape == (landscape.dimensions,)
    low, high = landscape.window.T
    assert ((low < landscape.start) & (landscape.start < high)).all()
    if landscape.domain is not None:
        assert ((landscape.domain[:, 0] <= low) & (high <= landscape.domain[:, 1])).all()
    assert (name == "monkey_saddle") == (len(landscape.minima) == 0)
    assert ((low < landscape.minima) & (landscape.minima < high)).all()
    values, gradients, hessians = derivatives(landscape, np.vstack([landscape.minima, landscape.start]))
    # Values at which only the rounding tells which is lower are equal.
    assert (np.diff(values[:-1]) >= -40 * EPS * np.abs(values).max()).all()
    curvatures = np.linalg.eigvalsh(hessians[:-1])
    assert (curvatures > 0).all()
    # A coordinate is rounded to a few parts in 10¹⁶, by which the slope is off the curvature times that; the terms of
    # a slope are no larger than the curvature times the coordinate.
    size = 1 + np.abs(landscape.minima).max(axis=-1, initial=0)
    assert (np.abs(gradients[:-1]).max(axis=-1) <= 20 * EPS * size * curvatures.max(axis=-1, initial=0)).all()


def test_himmelblau_has_four_minima_of_value_0():
    landscape = make_landscape("himmelblau")
    values, *_ = derivatives(landscape, landscape.minima)
    # (curvature · the rounding of a coordinate)² and less.
    np.testing.assert_allclose(values, np.zeros(4), rtol=0, atol=1e-26)
    assert np.linalg.norm(landscape.minima[:, None] - landscape.minima, axis=-1)[~np.eye(4, dtype=bool)].min() > 3


@pytest.mark.parametrize("dimensions", [1, 3])
def test_rastrigin_has_eleven_minima_along_each_coordinate(dimensions):
    minima = make_landscape("rastrigin", dimensions=dimensions).minima
    assert minima.shape == (11**dimensions, dimensions)
    assert len(np.unique(np.round(minima), axis=0)) == len(minima)
    # Where 2w + 20π·sin(2πw) is 0, which has slopes of about 400 there.
    assert np.abs(2 * minima + 20 * np.pi * np.sin(2 * np.pi * minima)).max() < 400 * 20 * EPS
    np.testing.assert_array_equal(minima[0], np.zeros(dimensions))


@pytest.mark.parametrize("tilt", TILTS)
def test_a_double_well_has_two_minima_until_the_tilt_takes_the_shallow_one(tilt):
    landscape = make_landscape("double_well", tilt=tilt)
    assert len(landscape.minima) == (1 if tilt > 8 / np.sqrt(27) else 2)
    values, gradients, hessians = derivatives(landscape, landscape.minima)
    # Roots of a cubic are exact to a few roundings where they are far apart, of slopes of about 10.
    assert np.abs(gradients).max() < 10 * 20 * EPS
    assert (np.linalg.eigvalsh(hessians) > 0).all()
    assert landscape.minima[0, 0] < 0
    # With x near ±1 the values differ by about twice the tilt.
    np.testing.assert_allclose(np.diff(values), [2 * tilt] * (len(values) - 1), rtol=0.05, atol=1e-15)


def test_lessards_slope_has_three_pieces_that_meet():
    landscape = make_landscape("lessard")
    assert landscape.dimensions == 1
    inside = np.array([-3.0, 0.5, 1.25, 1.75, 2.5, 4.0])
    joints = np.array([np.nextafter(1, 0), 1, np.nextafter(2, 0), 2])
    values, slopes, _ = derivatives(landscape, np.concatenate([inside, joints])[:, None])
    # Exact: whole numbers and quarters.
    np.testing.assert_array_equal(slopes[:6, 0], [-75, 12.5, 25.25, 25.75, 38.5, 76])
    np.testing.assert_allclose(slopes[6:, 0], [25, 25, 26, 26], rtol=4 * EPS)
    np.testing.assert_allclose(values[6:], [12.5, 12.5, 38, 38], rtol=4 * EPS)


@pytest.mark.parametrize("rotation", [0.0, 1.1, "matrix"])
def test_the_spectrum_of_a_quadratic_is_its_curvatures_whatever_the_rotation(rotation, rng):
    curvatures = (4.0, 0.5, 9.0)
    axes, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    landscape = make_landscape("quadratic", curvatures=curvatures, rotation=axes if rotation == "matrix" else rotation)
    values, gradients, hessians = derivatives(landscape, [landscape.start, np.ones(3)])
    np.testing.assert_allclose(np.linalg.eigvalsh(hessians[0]), sorted(curvatures), rtol=20 * EPS)
    # The start is 1 along each eigenvector.
    np.testing.assert_allclose(values[0], sum(curvatures) / 2, rtol=20 * EPS)
    if rotation == "matrix":
        np.testing.assert_allclose(hessians[0] @ axes, axes * curvatures, rtol=0, atol=9 * 20 * EPS)
        np.testing.assert_allclose(gradients[0], axes @ curvatures, rtol=0, atol=9 * 20 * EPS)
    np.testing.assert_array_equal(landscape.minima, np.zeros((1, 3)))


@pytest.mark.parametrize("curvatures", [(1.0, -1.0), (-2.0,), (1.0, 0.0)])
def test_a_quadratic_that_does_not_rise_all_round_has_no_minimum(curvatures):
    landscape = make_landscape("quadratic", curvatures=curvatures)
    assert landscape.minima.shape == (0, len(curvatures))
    assert landscape.dimensions == len(curvatures)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_values_and_gradients_keep_the_dtype(name, dtype):
    landscape = make_landscape(name, **CASES[name])
    point = jax.ShapeDtypeStruct(landscape.start.shape, dtype)
    value, gradient = jax.eval_shape(jax.value_and_grad(landscape.function), point)
    assert (value.dtype, gradient.dtype, value.shape) == (dtype, dtype, ())


@pytest.mark.parametrize(
    ("name", "parameters", "called"),
    [
        ("rastrigin", {}, "rastrigin"),
        ("rastrigin", {"dimensions": 3}, "rastrigin(dimensions=3)"),
        ("double_well", {}, "double_well"),
        ("double_well", {"tilt": 0.5}, "double_well(tilt=0.5)"),
        ("chain", {"dimensions": 5, "mu": 0.5, "L": 20.0}, "chain(dimensions=5, mu=0.5, L=20)"),
    ],
)
def test_a_landscape_is_called_after_what_it_was_made_with(name, parameters, called):
    assert make_landscape(name, **parameters).name == called


def test_the_formula_of_a_double_well_has_its_tilt():
    assert make_landscape("double_well", tilt=0.5).formula == "(x² − 1)² + 0.5·x + y²/2"


def test_beale_and_rastrigin_have_the_domains_of_their_definitions():
    np.testing.assert_array_equal(make_landscape("beale").domain, [[-4.5, 4.5]] * 2)
    np.testing.assert_array_equal(make_landscape("rastrigin", dimensions=3).domain, [[-5.12, 5.12]] * 3)


def test_a_landscape_of_ones_own_takes_lists_and_refuses_other_shapes():
    own = {"name": "own", "formula": "w²", "function": lambda w: w @ w, "minima": [[0, 0]], "start": [1, 2]}
    landscape = landscapes.Landscape(**own, window=[[-2, 2], [-3, 3]])
    assert (landscape.dimensions, landscape.window.dtype, landscape.minima.shape) == (2, np.float64, (1, 2))
    for field, wrong in (("window", [[-2, 2]]), ("minima", [0, 0]), ("minima", [[0, 0, 0]]), ("domain", [-2, 2])):
        with pytest.raises(InputError, match=f"{field} of landscape 'own' must have the shape"):
            landscapes.Landscape(**{**own, "window": [[-2, 2], [-3, 3]], field: wrong})
    for field, wrong in (("start", ["a", "b"]), ("window", [[1], [2, 3]]), ("minima", object())):
        with pytest.raises(InputError, match=f"{field} of landscape 'own' must be an array of numbers"):
            landscapes.Landscape(**{**own, "window": [[-2, 2], [-3, 3]], field: wrong})
    with pytest.raises(InputError, match="function of landscape 'own' must be a function of a point, not 3"):
        landscapes.Landscape(**{**own, "window": [[-2, 2], [-3, 3]], "function": 3})


def test_a_rotation_may_be_rounded_to_float32_but_not_to_three_digits():
    cosine, sine = np.cos(0.7), np.sin(0.7)
    axes = np.array([[cosine, -sine], [sine, cosine]])
    rounded = landscapes.quadratic(rotation=axes.astype(np.float32))
    np.testing.assert_allclose(rounded.start, [cosine - sine, cosine + sine], rtol=1e-6)
    # 0.765² + 0.644² = 0.99996.
    with pytest.raises(InputError, match="an angle or an orthogonal matrix"):
        landscapes.quadratic(rotation=axes.round(3))


def test_the_same_words_give_the_same_landscape_lists_and_arrays_too():
    assert make_landscape("valley") is make_landscape("valley") is landscapes.valley()
    first = make_landscape("quadratic", curvatures=(1.0, 3.0), rotation=((0.0, 1.0), (1.0, 0.0)))
    for matrix in (np.eye(2)[::-1], jnp.eye(2)[::-1], [[0, 1], [1, 0]]):
        assert make_landscape("quadratic", curvatures=[1, 3], rotation=matrix) is first
        assert landscapes.quadratic(np.array([1.0, 3.0]), matrix) is first
    assert make_landscape("double_well", tilt=np.float32(0.5)) is make_landscape("double_well", tilt=0.5)
    assert make_landscape("double_well", tilt=0.5) is not make_landscape("double_well", tilt=0.25)


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        ([], {}, "landscape: unknown []"),
        ("rosenbrok", {}, "landscape: unknown 'rosenbrok'; did you mean 'rosenbrock'?"),
        ("double_well", {"tild": 0.1}, "parameter of landscape 'double_well': unknown 'tild'; did you mean 'tilt'?"),
        ("valley", {"tilt": 0.1}, "parameter of landscape 'valley': unknown 'tilt'"),
        ("double_well", {"tilt": -1}, "tilt of landscape 'double_well' must be finite and at least 0, not -1"),
        ("rastrigin", {"dimensions": 4}, "dimensions of landscape 'rastrigin' must be an integer"),
        ("rastrigin", {"dimensions": 0}, "dimensions of landscape 'rastrigin' must be an integer of at least 1"),
        ("chain", {"dimensions": 1}, "dimensions of landscape 'chain' must be an integer of at least 2"),
        ("chain", {"mu": 0.0}, "mu of landscape 'chain' must be"),
        ("chain", {"mu": 2.0, "L": 1.0}, "L of landscape 'chain' must be finite and at least 2, not 1.0"),
        ("quadratic", {"curvatures": (1.0, np.nan)}, "curvatures of a quadratic must be in [-1e+30, 1e+30]"),
        ("quadratic", {"curvatures": (1.0, np.inf)}, "curvatures of a quadratic must be in [-1e+30, 1e+30]"),
        ("quadratic", {"curvatures": ()}, "curvatures of a quadratic must be one or more numbers, not ()"),
        ("quadratic", {"curvatures": 2.0}, "curvatures of a quadratic must be one or more numbers, not 2.0"),
        ("quadratic", {"rotation": [[1, 1], [0, 1]]}, "an angle or an orthogonal matrix of 2×2"),
        ("quadratic", {"rotation": np.eye(3)}, "an angle or an orthogonal matrix of 2×2"),
        ("quadratic", {"rotation": [1.0, 0.0]}, "an angle or an orthogonal matrix of 2×2"),
        ("quadratic", {"rotation": [[np.nan, 0], [0, 1]]}, "an angle or an orthogonal matrix of 2×2"),
        ("quadratic", {"rotation": np.inf}, "rotation of a quadratic must be finite"),
    ],
)
def test_what_makes_no_landscape_is_refused(name, parameters, said):
    with pytest.raises(InputError) as error:
        make_landscape(name, **parameters)
    assert said in str(error.value)
