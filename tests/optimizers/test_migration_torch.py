"""Runs of PyTorch's SGD that `momentum` and `nesterov` continue, and the reverse; needs torch."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import momentum_jax as mj
from momentum_jax._base.errors import InputError
from momentum_jax.optimizers import MomentumState, convert, from_torch, to_torch
from tests.compiling import jit
from tests.optimizers.factories import message

HALF = 15
X, Y = np.random.default_rng(0).normal(size=(8, 3)), np.random.default_rng(1).normal(size=(8, 2))
# Hyperparameters that have the same names in both libraries.
HYPERPARAMETERS = {
    "momentum": {"momentum": 0.9},
    "nesterov, decayed": {"momentum": 0.8, "weight_decay": 0.02, "nesterov": True},
    "dampened, decayed": {"momentum": 0.8, "weight_decay": 0.02, "dampening": 0.3},
}
CONVENTIONS = ["inside", "outside", "corrected"]
IN_THE_DEFAULT_RUN = dict(zip(HYPERPARAMETERS, CONVENTIONS, strict=True))
with_every_hyperparameter_and_convention = pytest.mark.parametrize(
    ("hyperparameters", "convention"),
    [
        pytest.param(
            HYPERPARAMETERS[name],
            convention,
            id=f"{name}-{convention}",
            marks=() if IN_THE_DEFAULT_RUN[name] == convention else pytest.mark.exhaustive,
        )
        for name in HYPERPARAMETERS
        for convention in CONVENTIONS
    ],
)


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def network():
    """Two layers, whose weights PyTorch has as [out, in]."""
    torch.manual_seed(0)
    double = {"dtype": torch.float64}
    return torch.nn.Sequential(torch.nn.Linear(3, 4, **double), torch.nn.Tanh(), torch.nn.Linear(4, 2, **double))


def train(model, optimizer, steps):
    """Steps on all data; the parameters after each of them."""
    path = []
    for _ in range(steps):
        optimizer.zero_grad()
        ((model(torch.tensor(X)) - torch.tensor(Y)) ** 2).mean().backward()
        optimizer.step()
        path.append(to_params([p.detach().numpy().copy() for p in model.parameters()]))
    return path


def to_params(arrays):
    """PyTorch's list as Flax has it: kernels are [in, out]."""
    return {f"Dense_{i}": {"kernel": arrays[2 * i].T, "bias": arrays[2 * i + 1]} for i in range(2)}


def from_params(tree):
    """The inverse of `to_params`."""
    return [tree[f"Dense_{i}"][name].T for i in range(2) for name in ("kernel", "bias")]


def weights(model):
    return jax.tree.map(jnp.asarray, to_params([p.detach().numpy() for p in model.parameters()]))


def load(model, params):
    with torch.no_grad():
        for p, array in zip(model.parameters(), from_params(params), strict=True):
            p.copy_(torch.tensor(np.asarray(array)))


@jit
def gradient(params):
    def loss(params):
        hidden = jnp.tanh(X @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"][None])
        return jnp.mean((hidden @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"][None] - Y) ** 2)

    return jax.grad(loss)(params)


@functools.cache
def compiled(optimizer):
    return jit(optimizer.update)


def go(optimizer, params, state, steps):
    """As `train`, with the last state."""
    path = []
    for _ in range(steps):
        updates, state = compiled(optimizer)(gradient(params), state, params)
        params = optax.apply_updates(params, updates)
        path.append(params)
    return path, state


@functools.cache
def ours(rate, *, nesterov=False, **arguments):
    return (mj.nesterov if nesterov else mj.momentum)(rate, **arguments)


def assert_same(a, b):
    """Both in float64, over some 1e1 steps of a network whose losses do not amplify rounding."""
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-11, atol=1e-12), a, b)


@with_every_hyperparameter_and_convention
def test_this_package_goes_on_where_pytorch_stopped(hyperparameters, convention):
    model = network()
    theirs = torch.optim.SGD(model.parameters(), lr=0.1, **hyperparameters)
    train(model, theirs, HALF)
    params, state_dict = weights(model), theirs.state_dict()
    state = from_torch(state_dict, to_params, count=HALF, convention=convention)
    optimizer = ours(0.1, **hyperparameters, convention=convention)
    assert jax.tree.map(shape_and_dtype, state) == jax.tree.map(shape_and_dtype, optimizer.init(params))
    path, _ = go(optimizer, params, state, HALF)
    assert_same(path, train(model, theirs, HALF))


def shape_and_dtype(array):
    return array.shape, array.dtype


@with_every_hyperparameter_and_convention
def test_pytorch_goes_on_where_this_package_stopped(hyperparameters, convention):
    model = network()
    optimizer = ours(0.1, **hyperparameters, convention=convention)
    path, state = go(optimizer, weights(model), optimizer.init(weights(model)), HALF)
    load(model, path[-1])
    theirs = torch.optim.SGD(model.parameters(), lr=0.1, **hyperparameters)
    theirs.load_state_dict(to_torch(state, from_params, theirs.state_dict(), convention=convention))
    assert_same(train(model, theirs, HALF), go(optimizer, path[-1], state, HALF)[0])


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_there_and_back_are_the_buffers_that_were(convention):
    model = network()
    theirs = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    train(model, theirs, 3)
    state_dict = theirs.state_dict()
    state = from_torch(state_dict, to_params, count=3, convention=convention)
    back = to_torch(state, from_params, state_dict, convention=convention)
    assert back["param_groups"] == state_dict["param_groups"]
    assert back["state"].keys() == state_dict["state"].keys()
    for index, entry in state_dict["state"].items():
        # One product and one quotient, each rounded.
        torch.testing.assert_close(
            back["state"][index]["momentum_buffer"], entry["momentum_buffer"], rtol=4e-16, atol=0
        )


def groups(model, *, lrs=(0.2, 0.05)):
    """The last layer as the first group, at another rate: the order in which the optimizer has the parameters."""
    return torch.optim.SGD(
        [{"params": model[2].parameters(), "lr": lrs[0]}, {"params": model[0].parameters(), "lr": lrs[1]}],
        lr=1.0,
        momentum=0.9,
        weight_decay=0.01,
    )


def from_groups(arrays):
    return to_params([*arrays[2:], *arrays[:2]])


def to_groups(tree):
    arrays = from_params(tree)
    return [*arrays[2:], *arrays[:2]]


@pytest.mark.parametrize("convention", ["inside", "outside"])
def test_each_group_goes_on_at_its_own_rate_and_back(convention):
    model = network()
    theirs = groups(model)
    train(model, theirs, HALF)
    params = weights(model)
    whole = from_torch(theirs.state_dict(), from_groups, count=HALF, convention=convention)
    optimizers = {
        layer: mj.momentum(rate, 0.9, weight_decay=0.01, convention=convention)
        for layer, rate in (("Dense_0", 0.05), ("Dense_1", 0.2))
    }
    states = {layer: MomentumState(whole.count, whole.velocity[layer]) for layer in params}
    there, between = params, None
    for step in range(2 * HALF):
        grads = gradient(there)
        for layer, optimizer in optimizers.items():
            updates, states[layer] = optimizer.update(grads[layer], states[layer], there[layer])
            there = there | {layer: optax.apply_updates(there[layer], updates)}
        if step == HALF - 1:
            assert_same(there, train(model, theirs, HALF)[-1])
            between = MomentumState(states["Dense_0"].count, {layer: s.velocity for layer, s in states.items()})
            returned = groups(model)
            returned.load_state_dict(to_torch(between, to_groups, returned.state_dict(), convention=convention))
    assert_same(there, train(model, returned, HALF)[-1])


def test_a_corrected_velocity_has_one_rate():
    model = network()
    theirs = groups(model)
    train(model, theirs, 1)
    with pytest.raises(InputError, match='convention="corrected" has one learning rate'):
        from_torch(theirs.state_dict(), from_groups, count=1, convention="corrected")
    alike = groups(model, lrs=(0.1, 0.1))
    train(model, alike, 1)
    assert from_torch(alike.state_dict(), from_groups, count=1, convention="corrected").learning_rate == 0.1


def test_the_rate_is_the_one_that_a_scheduler_has_set_for_the_next_step():
    model = network()
    theirs = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(theirs, 0.95)
    for _ in range(HALF):
        train(model, theirs, 1)
        scheduler.step()
    state = from_torch(theirs.state_dict(), to_params, count=HALF, convention="corrected")
    optimizer = mj.momentum(lambda count: 0.1 * 0.95 ** jnp.astype(count, float), 0.9, convention="corrected")
    path, _ = go(optimizer, weights(model), state, HALF)
    expected = []
    for _ in range(HALF):
        expected += train(model, theirs, 1)
        scheduler.step()
    assert_same(path, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_buffers_keep_their_dtype(dtype):
    model = network().to(dtype)
    theirs = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.tensor(X, dtype=dtype)).sum().backward()
    theirs.step()
    state = from_torch(theirs.state_dict(), to_params, count=1)
    assert {a.dtype for a in jax.tree.leaves(state.velocity)} == {np.dtype(str(dtype).removeprefix("torch."))}
    back = to_torch(state, from_params, theirs.state_dict())
    assert {entry["momentum_buffer"].dtype for entry in back["state"].values()} == {dtype}


def test_buffers_of_bfloat16_go_over_in_what_holds_them():
    # NumPy has no bfloat16 of PyTorch's, and PyTorch none of NumPy's.
    model = network().to(torch.bfloat16)
    theirs = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    model(torch.tensor(X, dtype=torch.bfloat16)).sum().backward()
    theirs.step()
    state_dict = theirs.state_dict()
    state = from_torch(state_dict, to_params, count=1)
    state = state._replace(velocity=jax.tree.map(lambda v: v.astype("bfloat16"), state.velocity))
    fresh = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    fresh.load_state_dict(to_torch(state, from_params, fresh.state_dict()))
    for index, entry in fresh.state_dict()["state"].items():
        # A rate of 1/2 rounds nothing.
        assert entry["momentum_buffer"].dtype == torch.bfloat16
        assert torch.equal(entry["momentum_buffer"], state_dict["state"][index]["momentum_buffer"])


def test_a_run_that_has_not_begun_begins_in_pytorch_as_it_would_have_here():
    # The first gradient enters whole, in PyTorch where there is no buffer yet.
    model = network()
    theirs = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, dampening=0.5)
    optimizer, params = mj.momentum(0.1, 0.9, dampening=0.5), weights(model)
    theirs.load_state_dict(to_torch(optimizer.init(params), from_params, theirs.state_dict()))
    assert_same(train(model, theirs, 3), go(optimizer, params, optimizer.init(params), 3)[0])


def state_dict_after(steps, **hyperparameters):
    model = network()
    theirs = torch.optim.SGD(model.parameters(), **{"lr": 0.1, "momentum": 0.9, **hyperparameters})
    train(model, theirs, steps)
    return theirs.state_dict()


def a_state(convention="inside"):
    return from_torch(state_dict_after(1), to_params, count=1, convention=convention)


def test_what_cannot_go_over_is_refused_with_the_reason():
    for call, words in (
        (
            lambda: from_torch(state_dict_after(0), to_params, count=0),
            "parameter 0 of the state_dict has no momentum_buffer: it is frozen or has made no step yet; give "
            "parameters=model.parameters(), of which it takes the shape",
        ),
        (
            lambda: from_torch(state_dict_after(1), to_params, count=-1),
            "count must be an integer of at least 0, not -1",
        ),
        (
            lambda: from_torch(state_dict_after(1), to_params, count=1, convention="outsde"),
            "convention: unknown 'outsde'; did you mean 'outside'?",
        ),
        (
            lambda: from_torch(state_dict_after(1, lr=0.0), to_params, count=1),
            "a learning rate of 0 does not tell what it is without",
        ),
        (
            lambda: to_torch(a_state(), lambda tree: from_params(tree)[:3], state_dict_after(1)),
            "the template has 4 parameters, and from_params gave 3 arrays",
        ),
        (
            lambda: to_torch(a_state(), lambda tree: 2 * from_params(tree), state_dict_after(1)),
            "the template has 4 parameters, and from_params gave 8 arrays",
        ),
        (
            lambda: to_torch(a_state(), from_params, state_dict_after(1, lr=0.0)),
            "a learning rate of 0 does not tell what it is without",
        ),
        (
            lambda: to_torch(
                a_state("corrected")._replace(learning_rate=jnp.array(0.0)),
                from_params,
                state_dict_after(1),
                convention="corrected",
            ),
            "a learning rate of 0 does not tell what it is without",
        ),
        (
            lambda: to_torch(a_state(), from_params, state_dict_after(1), convention="corrected"),
            "a MomentumState is not that of the convention 'corrected'",
        ),
        (
            lambda: to_torch(a_state("corrected"), from_params, state_dict_after(1)),
            "a CorrectedMomentumState is not that of the convention 'inside'",
        ),
        (
            lambda: to_torch(a_state(), from_params, state_dict_after(1), convention="inner"),
            "convention: unknown 'inner'",
        ),
    ):
        assert words in message(call)


@pytest.mark.parametrize(
    ("hyperparameters", "words"),
    [
        ({"momentum": 0.0}, "momentum 0, and so no velocity"),
        ({"maximize": True}, "maximize=True: minimise the negated loss in PyTorch instead"),
    ],
)
def test_a_group_without_a_velocity_or_with_one_uphill_is_refused(hyperparameters, words):
    words = f"a group of the state_dict has {words}"
    assert message(from_torch, state_dict_after(2, **hyperparameters), to_params, count=2) == words
    assert message(to_torch, a_state(), from_params, state_dict_after(2, **hyperparameters)) == words


# Muon's state is a momentum_buffer, as that of SGD.
OTHERS = {
    "RMSprop": ({"momentum": 0.9}, "it holds square_avg, step"),
    "Adam": ({}, "it holds exp_avg, exp_avg_sq, step"),
    "Adagrad": ({}, "it holds step, sum"),
    "Muon": ({}, "a group has no dampening"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_the_state_of_another_optimizer_of_pytorch_is_refused_by_what_it_holds(name):
    options, words = OTHERS[name]
    model = network()
    if name == "Muon":  # It takes matrices only.
        model[0].bias, model[2].bias = None, None
    theirs = getattr(torch.optim, name)(model.parameters(), lr=0.1, **options)
    fresh = theirs.state_dict()
    model(torch.tensor(X)).sum().backward()
    theirs.step()
    words = f"the state_dict is not that of torch.optim.SGD: {words}"
    for convention in CONVENTIONS:
        assert message(from_torch, theirs.state_dict(), to_params, count=1, convention=convention) == words
        assert message(to_torch, a_state(convention), from_params, theirs.state_dict(), convention=convention) == words
    # Before its first step most hold nothing but their groups.
    assert "the state_dict is not that of torch.optim.SGD: " in message(to_torch, a_state(), from_params, fresh)


def test_what_is_no_state_dict_of_an_optimizer_is_refused():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for state_dict in (optimizer, model.state_dict(), None, [], {"param_groups": []}, {"state": {}}):
        words = "this is no state_dict of an optimizer: give optimizer.state_dict()"
        assert message(from_torch, state_dict, to_params, count=1) == words
        assert message(to_torch, a_state(), from_params, state_dict) == words


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_parameter_that_was_frozen_goes_on_from_zero(convention):
    def frozen(dampening=0.0):
        model = network()
        model[0].bias.requires_grad_(False)
        theirs = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, dampening=dampening)
        train(model, theirs, HALF)
        return model, theirs

    model, theirs = frozen()
    words = message(from_torch, theirs.state_dict(), to_params, count=HALF, convention=convention)
    assert words.startswith("parameter 1 of the state_dict has no momentum_buffer: it is frozen or has made no step ")
    state = from_torch(theirs.state_dict(), to_params, count=HALF, convention=convention, parameters=model.parameters())
    np.testing.assert_array_equal(state.velocity["Dense_0"]["bias"], np.zeros(4))
    # It is trained from here on, in both.
    model[0].bias.requires_grad_(True)
    path, _ = go(ours(0.1, momentum=0.9, convention=convention), weights(model), state, HALF)
    assert_same(path, train(model, theirs, HALF))

    model, theirs = frozen(dampening=0.5)
    words = "PyTorch would not dampen its first gradient, and this package would"
    arguments = {"count": HALF, "convention": convention}
    assert words in message(from_torch, theirs.state_dict(), to_params, parameters=model.parameters(), **arguments)
    few = list(model.parameters())[:3]
    assert message(from_torch, theirs.state_dict(), to_params, parameters=few, **arguments) == (
        "the state_dict has 4 parameters, and 3 are given"
    )


def test_a_run_of_pytorch_that_has_not_begun_begins_here_as_it_would_have_there():
    model = network()
    theirs = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, dampening=0.5)
    params = weights(model)
    state = from_torch(theirs.state_dict(), to_params, count=0, parameters=model.parameters())
    path, _ = go(mj.momentum(0.1, 0.9, dampening=0.5), params, state, 3)
    assert_same(path, train(model, theirs, 3))


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_sparse_buffers_become_dense_and_go_on(convention):
    def embed(sparse):
        torch.manual_seed(0)
        model = torch.nn.Embedding(5, 2, sparse=sparse, dtype=torch.float64)
        theirs = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for i in range(3):
            theirs.zero_grad()
            model(torch.tensor([i, 4])).pow(2).sum().backward()
            theirs.step()
        return theirs.state_dict()

    assert embed(True)["state"][0]["momentum_buffer"].is_sparse
    sparse, dense = (
        from_torch(embed(sparse), lambda arrays: arrays[0], count=3, convention=convention) for sparse in (True, False)
    )
    assert_same(sparse, dense)


SAME = {
    "momentum_jax": {"learning_rate": 0.1, "momentum": 0.75},
    "keras": {"learning_rate": 0.1, "momentum": 0.75},
    "optax": {"learning_rate": 0.1, "momentum": 0.75},
    "torch": {"lr": 0.1, "momentum": 0.75},
    "qhm": {"learning_rate": 0.4, "momentum": 0.75, "nu": 1.0},
    "ema": {"learning_rate": 0.4, "decay": 0.75},
    "effective": {"effective_learning_rate": 0.4, "momentum": 0.75},
}


@functools.cache
def expected_path(nesterov):
    optimizer = optax.sgd(0.1, 0.75, nesterov=nesterov)
    params = weights(network())
    return go(optimizer, params, optimizer.init(params), HALF)[0]


@pytest.mark.parametrize(
    ("source", "nesterov"),
    [*itertools.product(SAME, [False]), *itertools.product([name for name in SAME if name != "ema"], [True])],
)
def test_converted_hyperparameters_are_pytorchs_arguments(source, nesterov):
    hyperparameters = SAME[source]
    if nesterov:
        hyperparameters = hyperparameters | ({"nu": 0.75} if source == "qhm" else {"nesterov": True})
    model = network()
    theirs = torch.optim.SGD(model.parameters(), **convert(hyperparameters, source, "torch"))
    assert_same(train(model, theirs, HALF), expected_path(nesterov))


@pytest.mark.parametrize("dampening", [0.25, 1.0])
def test_pytorchs_dampening_is_that_of_this_package(dampening):
    hyperparameters = {"lr": 0.1, "momentum": 0.75, "dampening": dampening}
    model = network()
    params = weights(model)
    path = train(model, torch.optim.SGD(model.parameters(), **hyperparameters), HALF)
    converted = convert(hyperparameters, "torch", "momentum_jax")
    optimizer = ours(converted.pop("learning_rate"), **converted)
    assert_same(go(optimizer, params, optimizer.init(params), HALF)[0], path)


def test_without_momentum_pytorch_leaves_its_dampening_out_and_so_does_the_conversion():
    hyperparameters = {"lr": 0.1, "momentum": 0.0, "dampening": 0.5}
    model = network()
    params = weights(model)
    path = train(model, torch.optim.SGD(model.parameters(), **hyperparameters), HALF)
    converted = convert(hyperparameters, "torch", "momentum_jax")
    optimizer = ours(converted.pop("learning_rate"), **converted)
    assert_same(go(optimizer, params, optimizer.init(params), HALF)[0], path)
