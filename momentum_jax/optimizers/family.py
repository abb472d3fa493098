"""The family of QHM: methods of one average under their own papers' parameters, and the QHM that each of them is.

`FAMILY` is the one table: `convert`, the presets in `_presets.py`, the command line and README read it.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from momentum_jax._base.errors import InputError, unknown
from momentum_jax.optimizers._hyperparameters import (
    RANGES,
    ROUNDING,
    Range,
    Scalar,
    ScalarOrSchedule,
    at_count,
    check_hyperparameter,
    equal,
    is_close,
)

_NOT_NEGATIVE = Range(0, math.inf)
_BELOW_1 = Range(0, 1, below_high=True)
_UP_TO_1 = Range(0, 1)


class QHM(NamedTuple):
    """The hyperparameters of `qhm`."""

    learning_rate: Any
    momentum: Any
    nu: Any


class Member(NamedTuple):
    """A method of the family."""

    paper: str
    rule: str
    symbols: Mapping[str, str]
    """Its arguments, with the symbols of the paper."""
    ranges: Mapping[str, Range]
    qhm: QHM
    """The formulas of QHM's hyperparameters, as text in these symbols."""
    to_qhm: Callable[..., QHM]
    """QHM's hyperparameters as a function of the arguments."""
    from_qhm: Callable[[Any, Any, Any], dict[str, Any]]
    """The arguments as a function of QHM's hyperparameters, whose ν is a number."""
    params: str
    """Which of the paper's sequences the parameters p are, and where its others are; a is QHM's average."""
    start: str
    """From which start the iterates are the same, and what they are from others."""
    needs: str
    """The inequality that keeps m in [0, 1) and ν in [0, 1]."""
    scheduled: tuple[str, ...] = ()
    """The arguments that may be schedules: with any other the iterates would not be those of a QHM."""
    lacks: Mapping[str, tuple[Any, str]] = {}
    """Options of the method that leave the family: the value that does not, and what QHM has not."""

    @property
    def formulas(self) -> str:
        """QHM's hyperparameters in one line.

        >>> FAMILY["mars"].formulas
        'learning_rate = η, momentum = β₁, nu = 1 − γ'
        """
        return ", ".join(f"{name} = {text}" for name, text in self.qhm._asdict().items())


def to_qhm(name: str, hyperparameters: Mapping[str, Any]) -> QHM:
    """The QHM that a method of the family is.

    Args:
      name: one of `FAMILY`.
      hyperparameters: a value for each of `FAMILY[name].symbols`: numbers, traced or not, or schedules of those in
        `FAMILY[name].scheduled`.

    Raises:
      InputError: an argument is unknown, missing or out of its range; or the method is no QHM with these: the message
        holds the inequality, or says what QHM lacks.

    >>> to_qhm("mass", {"learning_rate": 1.0, "eta2": 0.25, "gamma": 0.5})
    QHM(learning_rate=1.5, momentum=0.5, nu=0.333...)
    """
    member = FAMILY[name]
    values = dict(hyperparameters)
    for key, (neutral, reason) in member.lacks.items():
        if not equal(values.pop(key, neutral), neutral):
            raise InputError(f"{name} with {key} is no QHM: {reason}")
    for key in values:
        if key not in member.symbols:
            raise unknown(f"argument of {name}", key, member.symbols)
    for key in member.symbols:
        if key not in values:
            raise InputError(f"{name} needs the argument {key!r}")
        if callable(values[key]) and key not in member.scheduled:
            raise InputError(f"{key} of {name} must be a number: under a schedule its iterates are not those of a QHM")
        try:
            check_hyperparameter(key, values[key], allowed=member.ranges.get(key, RANGES.get(key)))
        except InputError as error:
            raise InputError(f"{error}: {name} needs {member.needs}" if key in member.ranges else error) from None
    numbers = {key: _plain(value) for key, value in values.items()}
    if not all(isinstance(value, float) for value in numbers.values()):
        return member.to_qhm(**numbers)
    qhm = member.to_qhm(**numbers)
    is_average = qhm.learning_rate >= 0 and 0 <= qhm.momentum < 1
    slack = _rounding_of_nu(values.values(), qhm.momentum) if is_average else 0.0
    if not (is_average and -slack <= qhm.nu <= 1 + slack):
        given, would = (
            ", ".join(f"{key}={value:g}" for key, value in pairs.items()) for pairs in (numbers, qhm._asdict())
        )
        raise InputError(f"{name} needs {member.needs}: with {given} it would be a QHM with {would}")
    return qhm._replace(nu=min(max(qhm.nu, 0.0), 1.0))


def _rounding_of_nu(values: Iterable[Any], momentum: float) -> float:
    """How far ν may be from what it is: four roundings of the coarsest of the values, magnified by 1/(1 − m)."""
    dtypes = [value.dtype for value in values if hasattr(value, "dtype")]
    eps = max((float(jnp.finfo(dtype).eps) for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)), default=0.0)
    return max(ROUNDING, 2 * eps / (1 - momentum))


def from_qhm(name: str, qhm: QHM) -> dict[str, Any]:
    """The arguments with which a method of the family is this QHM.

    Raises:
      InputError: there are none; the message says by what the two differ.

    >>> from_qhm("grokfast", QHM(0.4, 0.9, 0.75))
    {'learning_rate': 0.1, 'alpha': 0.9, 'lamb': 3.0}
    """
    member = FAMILY[name]
    for key, value in qhm._asdict().items():
        if callable(value) and (key == "nu" or not member.scheduled):
            raise InputError(f"{name} is a QHM at a constant {key} only, and this is a schedule")
    try:
        values = member.from_qhm(*qhm)
        to_qhm(name, values)
    except InputError:
        # Without momentum every ν is gradient descent. A member that is QHM at some ν only has 0 or 1/2.
        if not is_close(qhm.momentum, 0) or qhm.nu == 0.5:
            raise
        return from_qhm(name, qhm._replace(nu=0.5 if is_close(qhm.nu, 0) else 0.0))
    return values


def _plain(value: Any) -> Any:
    """A schedule as it is, a traced scalar in the default float dtype, and any other number as one of Python.

    Inside a trace JAX would trace the arithmetic of concrete arrays too.
    """
    if callable(value):
        return value
    return jnp.asarray(value, float) if isinstance(value, jax.core.Tracer) else float(np.asarray(value))


def _check_below_1(name: str, nu: Any) -> None:
    if is_close(nu, 1):
        raise InputError(f"{name} is a QHM at nu < 1 only: its step holds the gradient beside the average")


def _memory_1(beta: Scalar, gamma2: Scalar, gamma3: Scalar) -> QHM:
    """The QHM of y ← β·y + g; p ← p − γ₂·g − γ₃·y, the general rule with one average and constants."""
    rate = gamma2 + gamma3 / (1 - beta)
    return QHM(rate, beta, 1 - _ratio(gamma2, rate))


def _ratio(a: Scalar, b: Scalar) -> Any:
    """a/b for a ≥ 0, and 0/0 = 0: such a step is 0, or has no momentum, whatever ν is."""
    if any(isinstance(x, jax.core.Tracer) for x in (a, b)):
        return jnp.where(b == 0, jnp.where(a == 0, 0, jnp.inf), a / jnp.where(b == 0, 1, b))
    return a / b if b else math.inf if a else 0.0


def _lift(function: Callable[..., Any], *values: ScalarOrSchedule) -> Any:
    """The function of numbers, or the schedule of its values."""
    if not any(map(callable, values)):
        return function(*values)
    return lambda count: function(*(at_count(value, count) for value in values))


def _accelerated_sgd(learning_rate: Scalar, gamma: Scalar, alpha: Scalar, beta: Scalar) -> QHM:
    return _memory_1(alpha * (1 - beta), learning_rate, (1 - alpha) * (gamma - learning_rate))


def _to_accelerated_sgd(learning_rate: Any, momentum: Any, nu: Any) -> dict[str, Any]:
    raise InputError(
        "accelerated_sgd has four parameters for QHM's three, so they are not determined; accsgd has three"
    )


def _accsgd(learning_rate: Scalar, kappa: Scalar, xi: Scalar) -> QHM:
    # Accelerated SGD with α = 0.7/(0.7 + A), β = A and γ = 0.7·ξ·δ, in which (1 − α)/(1 − m) is 1/1.7.
    A = 0.49 * xi / kappa
    return QHM(0.7 * (1 + xi) / 1.7 * learning_rate, 0.7 * (1 - A) / (0.7 + A), (0.7 * xi - 1) / (0.7 * (1 + xi)))


def _to_accsgd(learning_rate: Any, momentum: Any, nu: Any) -> dict[str, Any]:
    _check_below_1("accsgd", nu)
    A = 0.7 * (1 - momentum) / (0.7 + momentum)
    xi = (1 + 0.7 * nu) / (0.7 * (1 - nu))
    return {"learning_rate": (1 - nu) * learning_rate, "kappa": 0.49 * xi / A, "xi": xi}


def _mass(learning_rate: Scalar, eta2: Scalar, gamma: Scalar) -> QHM:
    return _memory_1(gamma, learning_rate, gamma * learning_rate - eta2)


def _to_mass(learning_rate: Any, momentum: Any, nu: Any) -> dict[str, Any]:
    return {
        "learning_rate": (1 - nu) * learning_rate,
        # Nesterov's ν may be m but for rounding, and η₂ is not negative.
        "eta2": 0.0 if is_close(nu, momentum) else (momentum - nu) * learning_rate,
        "gamma": momentum,
    }


def _synthesized_nesterov(learning_rate: Scalar, beta1: Scalar, beta2: Scalar) -> QHM:
    return QHM(learning_rate / (1 - beta1), beta1, 1 - _ratio(beta2 * (1 - beta1), beta1))


def _to_synthesized_nesterov(learning_rate: Any, momentum: Any, nu: Any) -> dict[str, Any]:
    return {
        "learning_rate": (1 - momentum) * learning_rate,
        "beta1": momentum,
        "beta2": (1 - nu) * momentum / (1 - momentum),
    }


def _primal_averaging(learning_rate: Scalar, c: Scalar) -> QHM:
    return QHM(learning_rate, 1 - c, 1.0)


def _to_primal_averaging(learning_rate: Any, momentum: Any, nu: Any) -> dict[str, Any]:
    if is_close(nu, 0):
        return {"learning_rate": learning_rate, "c": 1.0}
    if not is_close(nu, 1):
        raise InputError(f"primal_averaging is a QHM at nu = 1 only, the heavy ball, not at nu = {nu!r}")
    return {"learning_rate": learning_rate, "c": 1 - momentum}


def _mars(learning_rate: ScalarOrSchedule, gamma: Scalar, beta1: ScalarOrSchedule) -> QHM:
    return QHM(learning_rate, beta1, 1 - gamma)


def _to_mars(learning_rate: Any, momentum: Any, nu: Any) -> dict[str, Any]:
    return {"learning_rate": learning_rate, "gamma": 1 - nu, "beta1": momentum}


def _grokfast(learning_rate: ScalarOrSchedule, alpha: ScalarOrSchedule, lamb: ScalarOrSchedule) -> QHM:
    return QHM(
        _lift(lambda rate, times: rate * (1 + times), learning_rate, lamb),
        alpha,
        _lift(lambda times: times / (1 + times), lamb),
    )


def _to_grokfast(learning_rate: Any, momentum: Any, nu: Any) -> dict[str, Any]:
    _check_below_1("grokfast", nu)
    rate = _lift(lambda value: (1 - nu) * value, learning_rate)
    return {"learning_rate": rate, "alpha": momentum, "lamb": nu / (1 - nu)}


def _outer_nesterov(learning_rate: Scalar, outer_learning_rate: ScalarOrSchedule, momentum: Scalar) -> QHM:
    rate = _lift(lambda outer: outer * learning_rate / (1 - momentum), outer_learning_rate)
    return QHM(rate, momentum, momentum)


def _to_outer_nesterov(learning_rate: Any, momentum: Any, nu: Any) -> dict[str, Any]:
    if is_close(nu, 0):
        momentum = 0.0
    elif not is_close(nu, momentum):
        raise InputError(f"outer_nesterov is a QHM at nu = momentum only, not at nu = {nu!r} and momentum {momentum!r}")
    rate = _lift(lambda value: (1 - momentum) * value, learning_rate)
    # The product of the two rates is what counts, and the outer one may be a schedule.
    inner, outer = (1.0, rate) if callable(rate) else (rate, 1.0)
    return {"learning_rate": inner, "outer_learning_rate": outer, "momentum": momentum}


FAMILY = {
    "accelerated_sgd": Member(
        paper="Jain et al. 2018 (1704.08227)",
        rule="y ← α·x + (1 − α)·v; x ← y − δ·g(y); v ← β·y + (1 − β)·v − γ·g(y)",
        symbols={"learning_rate": "δ", "gamma": "γ", "alpha": "α", "beta": "β"},
        ranges={"gamma": _NOT_NEGATIVE, "alpha": _BELOW_1, "beta": _UP_TO_1},
        qhm=QHM(
            "δ + (1 − α)·(γ − δ)/(1 − α·(1 − β))",
            "α·(1 − β)",
            "(1 − α)·(γ − δ)/((1 − α·(1 − β))·δ + (1 − α)·(γ − δ))",
        ),
        to_qhm=_accelerated_sgd,
        from_qhm=_to_accelerated_sgd,
        params="y, where the gradient is taken; x is p + (1 − α)·(γ − δ)/(1 − α·(1 − β))·a",
        start="the paper's, v = x",
        needs="γ ≥ δ",
    ),
    "accsgd": Member(
        paper="Kidambi et al. 2018 (1803.05591)",
        rule="A = 0.49·ξ/κ; v ← A·(w − κ·δ/0.7·g(w)) + (1 − A)·v; w ← (0.7·(w − δ·g(w)) + A·v)/(0.7 + A)",
        symbols={"learning_rate": "δ", "kappa": "κ", "xi": "ξ"},
        ranges={"kappa": Range(1, math.inf), "xi": _NOT_NEGATIVE},
        qhm=QHM(
            "0.7·(1 + ξ)/1.7·δ",
            "0.7·(1 − 0.49·ξ/κ)/(0.7 + 0.49·ξ/κ)",
            "(0.7·ξ − 1)/(0.7·(1 + ξ))",
        ),
        to_qhm=_accsgd,
        from_qhm=_to_accsgd,
        params="w, where the gradient is taken",
        start="the paper's, v = w",
        needs="1/0.7 ≤ ξ ≤ κ/0.49",
    ),
    "mass": Member(
        paper="Liu and Belkin 2020 (1810.13395)",
        rule="w_next ← u − η₁·g(u); u ← (1 + γ)·w_next − γ·w + η₂·g(u); w ← w_next",
        symbols={"learning_rate": "η₁", "eta2": "η₂", "gamma": "γ"},
        ranges={"eta2": _NOT_NEGATIVE, "gamma": _BELOW_1},
        qhm=QHM("(η₁ − η₂)/(1 − γ)", "γ", "(γ·η₁ − η₂)/(η₁ − η₂)"),
        to_qhm=_mass,
        from_qhm=_to_mass,
        params="u, where the gradient is taken; w is p + (γ·η₁ − η₂)/(1 − γ)·a",
        start="the paper's, w = u",
        needs="η₂ ≤ γ·η₁",
    ),
    "synthesized_nesterov": Member(
        paper="Lessard et al. 2016 (1408.3595), as in Ma and Yarats 2019 (1810.06801)",
        rule="ξ_next ← ξ + β₁·(ξ − ξ_before) − α·g(y); y ← ξ_next + β₂·(ξ_next − ξ)",
        symbols={"learning_rate": "α", "beta1": "β₁", "beta2": "β₂"},
        ranges={"beta1": _BELOW_1, "beta2": _NOT_NEGATIVE},
        qhm=QHM("α/(1 − β₁)", "β₁", "1 − β₂·(1 − β₁)/β₁"),
        to_qhm=_synthesized_nesterov,
        from_qhm=_to_synthesized_nesterov,
        params="y, where the gradient is taken; ξ is p + α·β₂/(1 − β₁)·a",
        start="the paper's, ξ_before = ξ",
        needs="β₂ ≤ β₁/(1 − β₁)",
    ),
    "primal_averaging": Member(
        paper="Defazio 2020 (2010.00406)",
        rule="z ← z − γ·g(x); x ← (1 − c)·x + c·z",
        symbols={"learning_rate": "γ", "c": "c"},
        ranges={"c": _UP_TO_1},
        qhm=QHM("γ", "1 − c", "1"),
        to_qhm=_primal_averaging,
        from_qhm=_to_primal_averaging,
        params="x, where the gradient is taken; z is p − γ·(1 − c)/c·a",
        start="the paper's, z = x",
        needs="0 < c ≤ 1",
    ),
    "mars": Member(
        paper="Yuan et al. 2024 (2411.10438), MARS-approx without preconditioner and clipping",
        rule="c ← g + γ·β₁/(1 − β₁)·(g − g_before); m ← β₁·m + (1 − β₁)·c; x ← x − η·m",
        symbols={"learning_rate": "η", "gamma": "γ", "beta1": "β₁"},
        ranges={"gamma": _UP_TO_1, "beta1": _BELOW_1},
        qhm=QHM("η", "β₁", "1 − γ"),
        to_qhm=_mars,
        from_qhm=_to_mars,
        params="x, where the gradient is taken",
        start="that of its code, g_before = 0; with the paper's x₁ = x₀, which is g_before = g, a starts as "
        "−γ/(1 − γ)·g, and at γ = 1 no a will do",
        needs="0 ≤ γ ≤ 1",
        scheduled=("learning_rate", "beta1"),
        lacks={
            "clip": (None, "c is scaled to a norm of at most 1, which is not linear in the gradients"),
            "beta2": (None, "the second moments of AdamW precondition the step"),
        },
    ),
    "grokfast": Member(
        paper="Lee et al. 2024 (2405.20233), Grokfast-EMA on gradient descent",
        rule="e ← α·e + (1 − α)·g; p ← p − η·(g + λ·e)",
        symbols={"learning_rate": "η", "alpha": "α", "lamb": "λ"},
        ranges={"alpha": _BELOW_1, "lamb": _NOT_NEGATIVE},
        qhm=QHM("η·(1 + λ)", "α", "λ/(1 + λ)"),
        to_qhm=_grokfast,
        from_qhm=_to_grokfast,
        params="the parameters; e is a",
        start="e = 0; with that of its code, e = g of the first step, a starts as this g",
        needs="λ ≥ 0",
        scheduled=("learning_rate", "alpha", "lamb"),
        lacks={"window_size": (None, "Grokfast-MA averages a window of gradients, which QHM does not keep")},
    ),
    "outer_nesterov": Member(
        paper="Douillard et al. 2023 (2311.08105), Kallusky et al. 2025 (2510.15830), K = 1 on gradient descent",
        rule="Δ = η·g; b ← μ·b + Δ; p ← p − η_outer·(Δ + μ·b)",
        symbols={"learning_rate": "η", "outer_learning_rate": "η_outer", "momentum": "μ"},
        ranges={"outer_learning_rate": _NOT_NEGATIVE},
        qhm=QHM("η_outer·η/(1 − μ)", "μ", "μ"),
        to_qhm=_outer_nesterov,
        from_qhm=_to_outer_nesterov,
        params="the parameters after the outer step",
        start="the paper's, b = 0",
        needs="K = 1",
        scheduled=("outer_learning_rate",),
        lacks={
            "every": (
                1,
                "K > 1 inner steps start from the last outer step, whose parameters QHM does not keep: use "
                "mj.outer_momentum",
            )
        },
    ),
}
"""Every method by name."""
