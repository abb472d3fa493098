"""Caches of what is computed from a user's function; an entry is dropped when the function is."""

import functools
import types
import weakref
from collections.abc import Callable, Hashable, MutableMapping
from typing import Any, ParamSpec, TypeVar

_Args = ParamSpec("_Args")
_Value = TypeVar("_Value")
_Entries = dict[Hashable, Any]

# Entries of one function in one cache. The one that was used longest ago is dropped first.
_MOST = 64


class Handle:
    """A weak reference to a function or another object, with a cache of what is computed from it.

    A loss may close over its data, and what is compiled of a loss refers to it. A cache with the loss as a key would
    keep both alive. A handle does not: its entries are dropped when its target is.

    Args:
      reference: gives the target, or None once that is gone.

    Attributes:
      cache: by the function that computes them, the entries.
      used_in: the entries of other handles that were computed from this one too, with their caches.
    """

    __slots__ = ("__weakref__", "_reference", "cache", "used_in")

    def __init__(self, reference: Callable[[], Any]):
        self._reference = reference
        self.cache: dict[Hashable, _Entries] = {}
        self.used_in: dict[tuple[int, Hashable], _Entries] = {}

    @property
    def handles(self) -> "tuple[Handle, ...]":
        """Itself: what an entry is dropped with."""
        return (self,)

    @property
    def target(self) -> Any:
        """What it refers to. Whoever uses it must keep that alive."""
        target = self._reference()
        if target is None:
            raise ReferenceError("the function or object is gone")
        return target

    def drop(self) -> None:
        """Drops all entries that were computed from the target."""
        # One by one, since the handles of other functions refer to them.
        for entries in self.cache.values():
            entries.clear()
        self.cache.clear()
        for (_, key), entries in self.used_in.items():
            entries.pop(key, None)
        self.used_in.clear()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.target(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return weak_handle, (self.target,)


_known: dict[Hashable, Handle] = {}
_of_others: MutableMapping[Any, dict[Hashable, _Entries]] = weakref.WeakKeyDictionary()


def weak_handle(target: Any) -> Handle:
    """The handle of a function or another object. While the target lives, it is always the same one.

    A target without weak references gets a new handle each time, which keeps it alive.
    """
    if isinstance(target, Handle):
        return target
    is_method = isinstance(target, types.MethodType)
    # Not by equality: of two equal objects, the one that was seen first may be gone first.
    key = (id(target.__self__), id(target.__func__)) if is_method else id(target)
    if key not in _known:
        # The names of a module are cleared before its functions when the interpreter ends.
        def forget(_: Any, known: dict[Hashable, Handle] = _known) -> None:
            handle = known.pop(key, None)
            if handle is not None:
                handle.drop()

        # A method is a new object each time that it is looked up.
        kind: Any = weakref.WeakMethod if is_method else weakref.ref
        try:
            _known[key] = Handle(kind(target, forget))
        except TypeError:
            return Handle(lambda: target)
    return _known[key]


def cached(compute: Callable[_Args, _Value]) -> Callable[_Args, _Value]:
    """Caches a function for as long as its first argument lives.

    Where the first argument has `handles`, an entry is dropped as soon as one of their targets is. The value may refer
    to these handles, and to the first argument only where it has them.
    """

    @functools.wraps(compute)
    def get(*args: _Args.args, **kwargs: _Args.kwargs) -> _Value:
        first: Any = args[0]
        handles: tuple[Handle, ...] = getattr(first, "handles", ())
        caches = handles[0].cache if handles else _of_others.setdefault(first, {})
        entries = caches.setdefault(compute, {})
        key = args if handles else args[1:]
        if key in entries:
            entries[key] = entries.pop(key)
        else:
            if len(entries) >= _MOST:
                entries.pop(next(iter(entries)), None)
            entries[key] = compute(*args, **kwargs)
            for other in handles[1:]:
                other.used_in[id(entries), key] = entries
        value: _Value = entries[key]
        return value

    return get
