"""Conversion of hyperparameters between the conventions in which libraries write momentum."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from momentum_jax._base.errors import InputError, check_choice, unknown
from momentum_jax.optimizers._hyperparameters import (
    CHOICES,
    Scalar,
    ScalarOrSchedule,
    check_hyperparameter,
    is_close,
    is_zero,
)
from momentum_jax.optimizers.family import FAMILY, QHM, from_qhm, to_qhm


class Convention(NamedTuple):
    """How a library writes momentum: its rule and its arguments."""

    library: str
    rule: str
    arguments: tuple[str, ...]
    """The learning rate, the momentum, then the others."""
    rate: str
    """Whether the learning rate is "inside" the velocity or "outside" it; "constant" if it must be a constant."""
    normalised: bool
    """Whether gradients are multiplied by 1 − m, so that the learning rate is the effective one, η/(1 − m)."""


CONVENTIONS = {
    "momentum_jax": Convention(
        "`mj.momentum`, `mj.nesterov`",
        "v ← m·v − η·(1 − d)·g, at first and where m = 0 v ← m·v − η·g; p ← p + v",
        ("learning_rate", "momentum", "nesterov", "dampening", "convention"),
        "inside",
        normalised=False,
    ),
    "keras": Convention(
        "`keras.optimizers.SGD`, Chainer's `MomentumSGD` (the heavy ball only), the tutorial",
        "v ← m·v − η·g; p ← p + v",
        ("learning_rate", "momentum", "nesterov"),
        "inside",
        normalised=False,
    ),
    "optax": Convention(
        "`optax.sgd`",
        "b ← m·b + g; p ← p − η·b",
        ("learning_rate", "momentum", "nesterov"),
        "outside",
        normalised=False,
    ),
    "torch": Convention(
        "`torch.optim.SGD`",
        "b ← m·b + (1 − d)·g, at first and where m = 0 b ← m·b + g; p ← p − η·b",
        ("lr", "momentum", "nesterov", "dampening"),
        "outside",
        normalised=False,
    ),
    "ema": Convention(
        "`optax.ema(debias=False)`, then `scale_by_learning_rate`",
        "a ← m·a + (1 − m)·g; p ← p − η·a",
        ("learning_rate", "decay"),
        "outside",
        normalised=True,
    ),
    "qhm": Convention(
        "`mj.qhm`",
        "a ← m·a + (1 − m)·g; p ← p − η·((1 − ν)·g + ν·a)",
        ("learning_rate", "momentum", "nu"),
        "outside",
        normalised=True,
    ),
    "effective": Convention(
        "the effective learning rate η/(1 − m)",
        "that of `mj.momentum`",
        ("effective_learning_rate", "momentum", "nesterov"),
        "constant",
        normalised=True,
    ),
}


class _Momentum(NamedTuple):
    """Hyperparameters under names that do not depend on the convention. Their meaning still does."""

    learning_rate: ScalarOrSchedule
    momentum: ScalarOrSchedule
    rate: str
    nesterov: bool = False
    dampening: ScalarOrSchedule = 0.0


def convert(hyperparameters: Mapping[str, Any], source: str, target: str) -> dict[str, Any]:
    """Converts hyperparameters to another convention, in which they give the same iterates up to rounding.

    Constants can always be converted, as far as the target has the method. Schedules can be converted as follows:

    - of the learning rate: between conventions that keep it inside the velocity, and between those that keep it
      outside;
    - of the momentum: between conventions that both multiply gradients by 1 − m or both do not, and from a moving
      average at a constant rate η to a velocity with the rate η·(1 − m_t) inside.

    The methods of `FAMILY` are conventions too: each is a QHM, and a method of one average with constants is each of
    them whose range holds it. `FAMILY` says from which start and under which schedules.

    Any other conversion is refused: it would only be approximate.

    Args:
      hyperparameters: numbers (traced or not) or schedules, under the names in `CONVENTIONS[source].arguments` or
        `FAMILY[source].symbols`. "nesterov" is a boolean. "nesterov", "dampening" and "convention" are optional.
      source: the convention of the hyperparameters, one of `CONVENTIONS` or `FAMILY`.
      target: the convention of the result, likewise. For "momentum_jax" the result contains the "convention" for which
        the conversion is exact.

    Returns:
      A value for each argument of the target.

    Raises:
      InputError: a convention or argument is unknown, an argument is missing or out of its range, or the conversion
        is not exact; the message says why.

    >>> convert({"learning_rate": 0.25, "momentum": 0.75}, "momentum_jax", "qhm")
    {'learning_rate': 1.0, 'momentum': 0.75, 'nu': 1.0}
    >>> convert({"lr": 0.25, "momentum": 0.75, "nesterov": True}, "torch", "qhm")
    {'learning_rate': 1.0, 'momentum': 0.75, 'nu': 0.75}
    >>> convert({"learning_rate": 0.25, "alpha": 0.5, "lamb": 1.0}, "grokfast", "qhm")
    {'learning_rate': 0.5, 'momentum': 0.5, 'nu': 0.5}
    >>> convert({"learning_rate": lambda count: 0.1 / (count + 1), "momentum": 0.9}, "optax", "keras")
    Traceback (most recent call last):
    ...
    momentum_jax._base.errors.InputError: optax and keras agree at a constant learning rate only: ...
    """
    for name in (source, target):
        if not isinstance(name, str) or name not in CONVENTIONS | FAMILY:
            raise unknown("convention", name, CONVENTIONS | FAMILY)
    if source in FAMILY:
        hyperparameters, source = to_qhm(source, hyperparameters)._asdict(), "qhm"
    if target in FAMILY:
        return from_qhm(target, QHM(**convert(hyperparameters, source, "qhm")))
    if source == target == "qhm":
        _check(hyperparameters, source)
        return {name: hyperparameters[name] for name in CONVENTIONS["qhm"].arguments}
    values = _read(hyperparameters, source)
    if is_zero(values.momentum):
        # With momentum 0 every rule is gradient descent, and every schedule can be converted.
        values = values._replace(nesterov=False, dampening=0.0)
    _check_schedules(values, source, target)
    return _write(values, source, target)


def effective_learning_rate(learning_rate: Scalar, momentum: Scalar) -> Scalar:
    """The effective learning rate η/(1 − m): the total step that one gradient causes.

    >>> effective_learning_rate(0.25, 0.75)
    1.0
    """
    for name, value in (("learning_rate", learning_rate), ("momentum", momentum)):
        if callable(value):
            raise InputError(f"the effective learning rate is that of constants, and {name} is a schedule")
        check_hyperparameter(name, value)
    return learning_rate / (1 - momentum)


def _check(hyperparameters: Mapping[str, Any], source: str) -> None:
    names = CONVENTIONS[source].arguments
    for name in hyperparameters:
        if name not in names:
            raise unknown(f"argument of {source}", name, names)
    for name in names:
        if name not in hyperparameters and name not in ("nesterov", "dampening", "convention"):
            raise InputError(f"{source} needs the argument {name!r}")
    check_hyperparameter("learning_rate", hyperparameters[names[0]], names[0])
    check_hyperparameter("momentum", hyperparameters[names[1]], names[1])
    for name in {"dampening", "nu"} & hyperparameters.keys():
        check_hyperparameter(name, hyperparameters[name])


def _read(hyperparameters: Mapping[str, Any], source: str) -> _Momentum:
    _check(hyperparameters, source)
    names = CONVENTIONS[source].arguments
    values = _Momentum(
        hyperparameters[names[0]],
        hyperparameters[names[1]],
        rate=hyperparameters.get("convention", CONVENTIONS[source].rate),
        nesterov=hyperparameters.get("nesterov", False),
        dampening=hyperparameters.get("dampening", 0.0),
    )
    if "convention" in hyperparameters:
        check_choice("convention", values.rate, CHOICES["convention"])
    if not isinstance(values.nesterov, bool):
        raise InputError(f"nesterov must be True or False, not {values.nesterov!r}")
    return _read_nu(values, hyperparameters["nu"]) if source == "qhm" else values


def _read_nu(values: _Momentum, nu: ScalarOrSchedule) -> _Momentum:
    if is_close(nu, 1):
        return values
    if is_close(nu, 0):
        return values._replace(momentum=0.0)
    if is_close(nu, values.momentum):
        return values._replace(nesterov=True)
    what = "a schedule" if callable(nu) else "a traced nu" if isinstance(nu, jax.core.Tracer) else f"nu = {nu!r}"
    raise InputError(f"qhm is another method only at nu = 0, the constant momentum or 1, not at {what}")


def _check_schedules(values: _Momentum, source: str, target: str) -> None:
    a, b = CONVENTIONS[source], CONVENTIONS[target]
    if callable(values.learning_rate) and not is_zero(values.momentum):
        same = values.rate == b.rate or target == "momentum_jax"
        if not same or "constant" in (values.rate, b.rate):
            here = f' with convention="{values.rate}"' if source == "momentum_jax" else ""
            raise InputError(
                f"{source}{here} and {target} agree at a constant learning rate only: under a schedule it matters "
                "whether the rate stands inside the velocity"
            )
    # At a constant η a moving average with a scheduled m is a velocity with the rate η·(1 − m_t) inside.
    average_to_velocity = (
        a.rate == "outside" and b.rate == "inside" and a.normalised and not callable(values.learning_rate)
    )
    if (
        callable(values.momentum)
        and not average_to_velocity
        and (a.normalised != b.normalised or "constant" in (a.rate, b.rate))
    ):
        raise InputError(
            f"{source} and {target} agree at a constant momentum only: one of them weights gradients by 1 − momentum"
        )


def _write(values: _Momentum, source: str, target: str) -> dict[str, Any]:
    a, b = CONVENTIONS[source], CONVENTIONS[target]
    rate: Any = values.learning_rate
    m: Any = values.momentum
    if not is_zero(values.dampening) and "dampening" not in b.arguments:
        raise InputError(
            f"{target} has no dampening: with that of torch and momentum_jax, whose first step is undampened, the "
            "rule is no other method; an average that starts from 0 is ema"
        )
    if values.nesterov and not {"nesterov", "nu"} & set(b.arguments):
        raise InputError(f"{target} has no Nesterov form")
    if values.nesterov and target == "torch" and not is_zero(values.dampening):
        raise InputError("torch refuses Nesterov with dampening")
    convention = values.rate if source == "momentum_jax" or (values.rate == "outside" and callable(rate)) else "inside"
    if callable(m) and a.normalised and not b.normalised:
        eta, rate = rate, lambda count: eta * (1 - m(count))
    elif a.normalised != b.normalised and not is_zero(m):
        rate = _map(lambda eta: eta * (1 - m) if a.normalised else eta / (1 - m), rate)
    others = {
        "nesterov": values.nesterov,
        "dampening": values.dampening,
        "nu": m if values.nesterov else 1.0,
        "convention": convention,
    }
    return {b.arguments[0]: rate, b.arguments[1]: m} | {name: others[name] for name in b.arguments[2:]}


def _map(function: Callable[[Any], Any], rate: Any) -> Any:
    return (lambda count: function(rate(count))) if callable(rate) else function(rate)
