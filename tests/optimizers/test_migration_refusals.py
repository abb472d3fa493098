"""What cannot go over between this package and Optax or PyTorch, and what the messages say."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from momentum_jax._base.errors import InputError
from momentum_jax.optimizers import CorrectedMomentumState, MomentumState, from_optax, from_torch, to_optax, to_torch
from tests.optimizers.factories import message

TRACE = optax.TraceState({"w": jnp.ones(2)})


def test_what_cannot_come_from_optax_is_refused_with_the_reason():
    for call, words in (
        (lambda: from_optax(optax.sgd(0.1).init(1.0), 0.1, count=1), "must have one trace in it, and has 0: tuple"),
        (lambda: from_optax(optax.adam(0.1).init(jnp.ones(2)), 0.1, count=1), "must have one trace in it, and has 0"),
        (lambda: from_optax({"trace": jnp.ones(2)}, 0.1, count=1), "must have one trace in it, and has 0: dict"),
        (lambda: from_optax((TRACE, TRACE), 0.1, count=1), "must have one trace in it, and has 2: tuple"),
        (
            lambda: from_optax(optax.rmsprop(0.1, momentum=0.9).init(jnp.ones(2)), 0.1, count=1),
            "the state of Optax also holds nu, the second moment of rmsprop, whose trace is no velocity of sgd",
        ),
        (lambda: from_optax(TRACE, count=1), "the convention 'inside' includes the learning rate: give it"),
        (
            lambda: from_optax(TRACE, count=1, convention="corrected"),
            "the convention 'corrected' includes the learning rate: give it",
        ),
        (lambda: from_optax(TRACE, -0.1, count=1), "learning_rate must be finite and at least 0, not -0.1"),
        (lambda: from_optax(TRACE, 0.0, count=1), "a learning rate of 0 does not tell what it is"),
        (
            lambda: from_optax(TRACE, 0, count=1, convention="corrected"),
            "a learning rate of 0 does not tell what it is",
        ),
        (lambda: from_optax(TRACE, np.nan, count=1), "learning_rate must be finite and at least 0, not nan"),
        (lambda: from_optax(TRACE, [0.1], count=1), "learning_rate must be finite and at least 0, not [0.1]"),
        (lambda: from_optax(TRACE, 0.1, count=-1), "count must be an integer of at least 0, not -1"),
        (lambda: from_optax(TRACE, 0.1, count=1.5), "count must be an integer of at least 0, not 1.5"),
        (lambda: from_optax(TRACE, 0.1, count=True), "count must be an integer of at least 0, not True"),
        (lambda: from_optax(TRACE, 0.1, count=None), "count must be an integer of at least 0, not None"),
        (
            lambda: from_optax(TRACE, 0.1, count=1, convention="outsider"),
            "convention: unknown 'outsider'; did you mean 'outside'? Allowed: corrected, inside, outside",
        ),
    ):
        with jax.enable_x64(False):
            assert words in message(call)


def ours_with(velocity, convention="inside", rate=0.1):
    if convention == "corrected":
        return CorrectedMomentumState(jnp.array(1), velocity, jnp.array(rate))
    return MomentumState(jnp.array(1), velocity)


def test_what_cannot_go_to_optax_is_refused_with_the_reason():
    for call, words in (
        (
            lambda: to_optax(ours_with({"w": jnp.ones(2)}), optax.adam(0.1).init({"w": jnp.ones(2)}), 0.1),
            "must have one trace in it, and has 0: tuple",
        ),
        (lambda: to_optax(ours_with({"w": jnp.ones(2)}), (TRACE, TRACE), 0.1), "must have one trace in it, and has 2"),
        (lambda: to_optax(ours_with({"w": jnp.ones(2)}), TRACE), "the convention 'inside' includes the learning rate"),
        (lambda: to_optax(ours_with({"w": jnp.ones(2)}), TRACE, 0), "a learning rate of 0 does not tell what it is"),
        (
            lambda: to_optax(ours_with({"w": jnp.ones(2)}), TRACE, -1),
            "learning_rate must be finite and at least 0, not -1",
        ),
        (
            lambda: to_optax(ours_with({"w": jnp.ones(2)}, "corrected", 0.0), TRACE, convention="corrected"),
            "a learning rate of 0 does not tell what it is",
        ),
        (
            lambda: to_optax(ours_with({"w": jnp.ones(2)}), TRACE, 0.1, convention="corrected"),
            "a MomentumState is not that of the convention 'corrected'",
        ),
        (
            lambda: to_optax(ours_with({"w": jnp.ones(2)}, "corrected"), TRACE, 0.1),
            "a CorrectedMomentumState is not that of the convention 'inside'",
        ),
        (
            lambda: to_optax(ours_with({"w": jnp.ones(2)}), TRACE, 0.1, convention="insid"),
            "convention: unknown 'insid'; did you mean 'inside'?",
        ),
        (
            lambda: to_optax(ours_with({"w": jnp.ones(2), "b": jnp.ones(())}), TRACE, 0.1),
            "there is a velocity at ['b'] and no trace there",
        ),
        (lambda: to_optax(ours_with({}), TRACE, 0.1), "there is a trace at ['w'] and no velocity there"),
        (
            lambda: to_optax(ours_with({"w": jnp.ones(3)}), TRACE, 0.1),
            "the velocity at ['w'] has the shape (3,) and the trace there (2,)",
        ),
    ):
        with jax.enable_x64(False):
            assert words in message(call)


# As PyTorch writes it, without its tensors.
STATE_DICT = {
    "state": {0: {"momentum_buffer": np.ones((2, 3))}, 1: {"momentum_buffer": np.full(2, 2.0)}},
    "param_groups": [
        {"lr": lr, "momentum": 0.9, "dampening": 0, "nesterov": False, "params": [i]}
        for i, lr in enumerate((0.5, 0.25))
    ],
}


def test_to_make_tensors_without_pytorch_is_refused_with_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    state = ours_with({"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)})
    with pytest.raises(InputError, match="PyTorch, which is not installed: pip install torch"):
        to_torch(state, lambda tree: [tree["kernel"].T, tree["bias"]], STATE_DICT)


@pytest.mark.parametrize("state_dict", [{"state": 3, "param_groups": []}, {"state": {}, "param_groups": 3}], ids=str)
def test_a_state_dict_of_other_types_is_refused(state_dict):
    with pytest.raises(InputError, match="this is no state_dict of an optimizer"):
        from_torch(state_dict, list, count=1)
