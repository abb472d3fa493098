"""What is made of a function is made once, and ends with it."""

import functools
import gc
import pickle
import weakref
from typing import NamedTuple

import pytest

from momentum_jax._base.weak import Handle, cached, weak_handle


class Made:
    """What refers to the handle that it is made of, as a program refers to its loss."""

    def __init__(self, *args):
        self.args = args


made = cached(Made)


class Model:
    def __init__(self, number=0):
        self.number = number

    def __eq__(self, other):
        return self.number == other.number

    def __hash__(self):
        return self.number

    def loss(self):
        return self.number

    def __call__(self):
        return self.number


class Slotted:
    __slots__ = ()

    def __call__(self):
        return 5


def plain():
    return lambda: 1


def partial():
    return functools.partial(lambda number: number, 1)


def test_what_is_made_of_equal_arguments_is_one_object():
    function = plain()
    first = made(weak_handle(function), 1, "a")
    assert made(weak_handle(function), 1, "a") is first
    assert made(weak_handle(function), 2, "a") is not first
    assert made(weak_handle(plain()), 1, "a") is not first
    assert cached(lambda *args: Made(*args))(weak_handle(function), 1, "a") is not first


@pytest.mark.parametrize("make", [plain, partial, Model], ids=lambda make: make.__name__)
def test_what_is_made_of_a_function_ends_with_it(make):
    function = make()
    kept = weakref.ref(made(weak_handle(function)))
    gc.collect()
    assert kept() is made(weak_handle(function))
    del function
    gc.collect()
    assert kept() is None


def test_a_method_is_one_function_as_long_as_its_object_is_there():
    model, equal = Model(), Model()
    handle = weak_handle(model.loss)
    assert weak_handle(model.loss) is handle
    assert handle() == 0
    # Equal objects may end at different times.
    assert weak_handle(equal.loss) is not handle
    kept = weakref.ref(made(handle))
    del model, handle
    gc.collect()
    assert kept() is None


def test_what_is_made_of_an_object_that_it_does_not_refer_to_ends_with_it():
    model = Model()
    kept = weakref.ref(cached(lambda model: Made())(model))
    gc.collect()
    assert kept() is not None
    del model
    gc.collect()
    assert kept() is None


def test_a_handle_calls_its_function_and_says_when_that_has_ended():
    model = Model(3)
    handle = weak_handle(model)
    assert weak_handle(handle) is handle
    assert (handle(), handle.target) == (3, model)
    del model
    with pytest.raises(ReferenceError, match="is gone"):
        handle()


def test_what_cannot_be_referred_to_weakly_is_kept():
    handle = weak_handle(Slotted())
    gc.collect()
    assert handle() == 5
    assert weak_handle(handle.target) is not handle


def test_a_handle_is_pickled_as_its_function():
    assert pickle.loads(pickle.dumps(weak_handle(plain))) is weak_handle(plain)


def test_of_one_function_what_was_used_longest_ago_is_dropped_first():
    function = plain()
    handle = weak_handle(function)
    first, second = made(handle, 0), made(handle, 1)
    for number in range(2, 64):
        made(handle, number)
    assert made(handle, 0) is first
    made(handle, 64)
    # Another cache of the same function has room of its own.
    cached(lambda *args: Made(*args))(handle, 0)
    assert made(handle, 0) is first
    assert made(handle, 1) is not second


class Pair(NamedTuple):
    one: Handle
    other: Handle

    @property
    def handles(self):
        return self.one, self.other


@pytest.mark.parametrize("ends", [0, 1])
def test_what_is_computed_from_two_functions_is_dropped_with_the_first_of_them_that_is(ends):
    functions = [plain(), plain()]
    kept = weakref.ref(made(Pair(*map(weak_handle, functions)), 1))
    apart = weakref.ref(made(weak_handle(functions[1 - ends])))
    gc.collect()
    assert kept() is made(Pair(*map(weak_handle, functions)), 1)
    functions[ends] = None
    gc.collect()
    assert kept() is None
    assert apart() is not None
