"""What a traced function computes, as a digest that is the same in every process."""

import dataclasses
import functools
import hashlib
import itertools
import re
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

Put = Callable[[str | bytes], None]

# What a callback may find in its module and holds no functions.
_PLAIN = (int, float, complex, str, bytes, list, tuple, dict, np.ndarray, np.generic, jax.Array)


def jaxpr_digest(jaxpr: ClosedJaxpr) -> str:
    """Returns the SHA-256 of a jaxpr, in hexadecimal: of its equations, constants, shapes and dtypes.

    Variables count by their order, arrays by their values, and Python functions that the program calls back by their
    bytecode and what they hold or find in their own module. So the digest does not depend on the process. It depends on
    the version of JAX.

    >>> one, same, other = (jax.make_jaxpr(f)(1.0) for f in (lambda x: x + 1, lambda y: y + 1, lambda x: x + 2))
    >>> jaxpr_digest(one) == jaxpr_digest(same), jaxpr_digest(one) == jaxpr_digest(other)
    (True, False)
    """
    digest = hashlib.sha256()

    def put(piece: str | bytes) -> None:
        encoded = piece.encode() if isinstance(piece, str) else piece
        # With its length, so that pieces cannot run into each other.
        digest.update(b"%d:" % len(encoded) + encoded)

    _put_value(jaxpr, put)
    return digest.hexdigest()


def _put_value(value: Any, put: Put) -> None:
    """Writes a parameter of an equation, of any kind."""
    put(type(value).__name__)
    if isinstance(value, ClosedJaxpr):
        _put_jaxpr(value.jaxpr, put)
        _put_value(value.consts, put)
    elif isinstance(value, Jaxpr):
        _put_jaxpr(value, put)
    elif isinstance(value, jax.Array | np.ndarray | np.generic):
        _put_array(value, put)
    elif isinstance(value, Mapping):
        _put_value(sorted(value.items(), key=lambda item: str(item[0])), put)
    elif isinstance(value, list | tuple):
        put(str(len(value)))
        for entry in value:
            _put_value(entry, put)
    elif isinstance(value, set | frozenset):
        put(str(sorted(map(_text, value))))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        _put_value([(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)], put)
    else:
        put(_text(value))


def _put_callback(value: Any, put: Put, seen: dict[int, tuple[int, Any]]) -> None:
    """Writes a Python function that a program calls, with what it holds, or something that it holds.

    Args:
      value: to be written.
      put: writes.
      seen: by `id`, the number of each value that has been written, and the value, which keeps its `id` so.
    """
    if isinstance(value, int | float | complex | str | bytes | None):
        # Whether equal ones are one object is chance.
        _put_value(value, put)
        return
    if id(value) in seen:
        put(f"again {seen[id(value)][0]}")
        return
    seen[id(value)] = (len(seen), value)
    held: list[Any] = []
    if isinstance(value, functools.partial):
        held = [value.func, *value.args, *itertools.chain(*sorted(value.keywords.items()))]
    elif isinstance(value, types.MethodType):
        held = [value.__func__, value.__self__]
    elif isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        named = [value.__globals__.get(name) for name in value.__code__.co_names]
        held = [value.__qualname__, value.__code__, value.__defaults__, value.__kwdefaults__, *cells]
        # Not what it finds in other modules, which would lead through all of JAX.
        held += [it for it in named if isinstance(it, _PLAIN) or getattr(it, "__module__", "") == value.__module__]
    elif isinstance(value, types.CodeType):
        held = [value.co_code, value.co_names, *value.co_consts]
    elif isinstance(value, list | tuple | dict):
        held = list(itertools.chain(*value.items())) if isinstance(value, dict) else list(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        held = [type(value).__qualname__, *(getattr(value, field.name) for field in dataclasses.fields(value))]
    elif hasattr(value, "__dict__") and not isinstance(value, type | types.ModuleType):
        held = [
            type(value).__qualname__,
            vars(type(value)).get("__call__"),
            *itertools.chain(*sorted(vars(value).items())),
        ]
    else:
        _put_value(value, put)
    put(f"{type(value).__name__} {len(held)}")
    for entry in held:
        _put_callback(entry, put, seen)


def _put_jaxpr(jaxpr: Jaxpr, put: Put) -> None:
    numbers: dict[Any, int] = {}

    def bind(variables: Any) -> None:
        for variable in variables:
            numbers[variable] = len(numbers)
            put(str(variable.aval))

    def use(atoms: Any) -> None:
        for atom in atoms:
            if isinstance(atom, Literal):
                put(str(atom.aval))
                _put_value(atom.val, put)
            else:
                put(str(numbers[atom]))

    bind([*jaxpr.constvars, *jaxpr.invars])
    for equation in jaxpr.eqns:
        put(equation.primitive.name)
        use(equation.invars)
        _put_value({name: value for name, value in equation.params.items() if name != "callback"}, put)
        _put_callback(equation.params.get("callback"), put, {})
        bind(equation.outvars)
    use(jaxpr.outvars)


def _put_array(array: Any, put: Put) -> None:
    put(f"{array.dtype} {array.shape}")
    bits = jax.random.key_data(array) if jax.numpy.issubdtype(array.dtype, jax.dtypes.prng_key) else array
    put(np.ascontiguousarray(bits).tobytes())


def _text(value: Any) -> str:
    """The repr without addresses."""
    return re.sub(r" at 0x[0-9a-f]+|\b0x[0-9a-f]+", "", repr(value))
