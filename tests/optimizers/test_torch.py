"""The paths of `momentum` and `nesterov` against PyTorch's SGD; needs torch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch.optim.sgd import sgd

import momentum_jax as mj
from momentum_jax.optimizers.schedules import step_decay
from tests.optimizers.oracles import N, assert_same_path, constant, descend, drawn, flat, follower, slope, tree

STEPS = 200
START = 3 * np.random.default_rng(0).normal(size=N)
NO_NOISE = np.zeros((STEPS, N))


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def torch_leaves(vector):
    return [torch.tensor(np.asarray(leaf)) for leaf in jax.tree.leaves(tree(vector))]


def flat_of_torch(weights):
    structure = jax.tree.structure(tree(START))
    return flat(structure.unflatten([w.detach().numpy()[None].copy() for w in weights]))[0]


def torch_path(step, sign=1.0):
    """The iterates on the curved function, times `sign`, of `step(t, weights)`, which moves weights by their .grad."""
    weights = [torch.nn.Parameter(leaf) for leaf in torch_leaves(START)]
    path = [START]
    for t in range(STEPS):
        for w, g in zip(weights, torch_leaves(sign * slope(path[-1])), strict=True):
            w.grad = g
        step(t, weights)
        path.append(flat_of_torch(weights))
    return np.array(path)


def sgd_path(rates, sign=1.0, **options):
    """The iterates of `torch.optim.SGD`, its learning rate set before every step."""
    optimizer = None

    def step(t, weights):
        nonlocal optimizer
        if optimizer is None:
            optimizer = torch.optim.SGD(weights, lr=float(rates[0]), **options)
        for group in optimizer.param_groups:
            group["lr"] = float(rates[t])
        optimizer.step()

    return torch_path(step, sign)


def function_path(rates, **options):
    """The iterates of the function under the class, which takes Nesterov with dampening as well."""
    buffers: list[torch.Tensor | None] = []

    def step(t, weights):
        buffers.extend([None] * (len(weights) - len(buffers)))
        with torch.no_grad():
            sgd(weights, [w.grad for w in weights], buffers, lr=float(rates[t]), **options)

    return torch_path(step)


@functools.cache
def ours(nesterov, convention):
    """One compiled program, whose arguments are the values that hypothesis draws."""
    return follower(
        lambda s: (mj.nesterov if nesterov else mj.momentum)(
            s["rate"],
            s["momentum"],
            dampening=s["dampening"],
            weight_decay=s["weight_decay"],
            convention=convention,
        )
    )


def our_path(nesterov, convention, rates, sign=1.0, **values):
    constants = {name: constant(value, STEPS) for name, value in values.items()}
    return ours(nesterov, convention)({"rate": rates, **constants}, START, NO_NOISE, sign)


rates = st.one_of(
    st.floats(1e-3, 0.3).map(lambda rate: constant(rate, STEPS)),
    st.integers(0, 1000).map(lambda seed: drawn(1e-3, 0.3, seed, STEPS)),
    arrays.arrays(float, 4, elements=st.floats(1e-3, 0.3)).map(lambda x: np.repeat(x, STEPS // 4)),
)
momenta = st.floats(0.01, 0.99)
dampenings = st.just(0.0) | st.floats(0, 1)
decays = st.just(0.0) | st.floats(0, 0.5)
conventions = st.sampled_from(["outside", "corrected"])

# Both in float64. Convex functions do not magnify rounding, of which 200 steps make some 1e-14 at most: see
# `assert_same_path`.
examples = settings(deadline=None, max_examples=15)


@examples
@given(rates, momenta, dampenings, decays, conventions)
@example(constant(0.1, STEPS), 0.9, 0.9, 0.01, "outside")
def test_momentum_is_pytorchs_with_every_option_while_the_rate_changes(rate, momentum, dampening, decay, convention):
    options = {"momentum": momentum, "dampening": dampening, "weight_decay": decay}
    assert_same_path(our_path(False, convention, rate, **options), sgd_path(rate, **options))


@examples
@given(rates, momenta, decays, conventions)
@example(constant(0.1, STEPS), 0.9, 0.01, "outside")
def test_nesterov_is_pytorchs_with_every_option_while_the_rate_changes(rate, momentum, decay, convention):
    options = {"momentum": momentum, "weight_decay": decay}
    theirs = sgd_path(rate, nesterov=True, **options)
    assert_same_path(our_path(True, convention, rate, dampening=0.0, **options), theirs)


@examples
@given(rates, momenta, dampenings, decays, conventions, st.booleans())
def test_nesterov_with_dampening_is_pytorchs_function_which_its_class_refuses(
    rate, momentum, dampening, decay, convention, nesterov
):
    options = {"momentum": momentum, "dampening": dampening, "weight_decay": decay}
    theirs = function_path(rate, nesterov=nesterov, maximize=False, foreach=False, **options)
    assert_same_path(our_path(nesterov, convention, rate, **options), theirs)


def test_pytorchs_class_still_refuses_nesterov_with_dampening():
    with pytest.raises(ValueError, match="zero dampening"):
        torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1, 0.9, dampening=0.5, nesterov=True)


@pytest.mark.parametrize(
    ("options", "nesterov"),
    [
        *(({}, nesterov) for nesterov in (False, True)),
        *(({"foreach": foreach}, nesterov) for foreach in (False, True) for nesterov in (False, True)),
        ({"fused": True}, True),
        pytest.param({"fused": True}, False, marks=pytest.mark.exhaustive),
    ],
    ids=str,
)
def test_each_of_pytorchs_implementations_walks_the_same_path(options, nesterov):
    rate = drawn(1e-3, 0.3, 3, STEPS)
    values = {"momentum": 0.9, "weight_decay": 0.01}
    path = our_path(nesterov, "outside", rate, dampening=0.0, **values)
    assert_same_path(path, sgd_path(rate, nesterov=nesterov, **values, **options))


def test_without_momentum_gradient_descent_is_pytorchs():
    rate = drawn(1e-3, 0.3, 4, STEPS)
    follow = follower(lambda s: mj.sgd(s["rate"], weight_decay=0.01))
    assert_same_path(follow({"rate": rate}, START, NO_NOISE, 1.0), sgd_path(rate, weight_decay=0.01))


def test_without_momentum_dampening_is_without_effect_as_in_pytorch():
    rate = constant(0.1, STEPS)
    follow = follower(lambda s: mj.momentum(s["rate"], 0.0, dampening=0.5))
    assert_same_path(follow({"rate": rate}, START, NO_NOISE, 1.0), sgd_path(rate, momentum=0.0, dampening=0.5))


@pytest.mark.parametrize("nesterov", [False, True])
def test_to_maximise_is_to_descend_along_negated_gradients(nesterov):
    rate = drawn(1e-3, 0.3, 5, STEPS)
    options = {"momentum": 0.9, "weight_decay": 0.01}
    # The function that is maximised is minus the curved one, so that there is a maximum.
    theirs = sgd_path(rate, sign=-1.0, nesterov=nesterov, maximize=True, **options)
    assert_same_path(our_path(nesterov, "outside", rate, dampening=0.0, **options), theirs)


def test_a_step_decay_is_pytorchs_scheduler():
    optimizer = scheduler = None

    def step(t, weights):
        nonlocal optimizer, scheduler
        if optimizer is None:
            optimizer = torch.optim.SGD(weights, lr=0.2, momentum=0.9)
            scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 30, 0.5)
        optimizer.step()
        scheduler.step()

    follow = follower(lambda s: mj.momentum(step_decay(0.2, 30, 0.5), 0.9, convention="outside"))
    assert_same_path(follow({}, START, NO_NOISE, 1.0), torch_path(step))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (mj.sgd(0.05), {"lr": 0.05}),
        (mj.momentum(0.05, 0.9), {"lr": 0.05, "momentum": 0.9}),
        (mj.nesterov(0.05, 0.9), {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    ],
    ids=["sgd", "momentum", "nesterov"],
)
def test_the_path_with_each_ones_own_gradients_is_pytorchs(ours, theirs):
    start = np.random.default_rng(0).normal(size=5)
    weights = torch.nn.Parameter(torch.tensor(start))
    optimizer = torch.optim.SGD([weights], **theirs)
    path = descend(ours, jax.grad(lambda w: jnp.sum(jnp.cos(w) + w**2)), start, STEPS)
    for expected in path[1:]:
        optimizer.zero_grad()
        (torch.cos(weights) + weights**2).sum().backward()
        optimizer.step()
        # Both in float64; the path contracts, so rounding does not pile up.
        np.testing.assert_allclose(weights.detach().numpy(), expected, rtol=1e-10, atol=1e-14)
