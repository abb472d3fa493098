"""What a traced function computes has one digest, in every process, and another function has another."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from momentum_jax._base.jaxprs import jaxpr_digest

ONE, TWO = [1], [2]
TABLE = np.arange(100, dtype=np.float32)
CHANGED = np.where(TABLE == 50, 0, TABLE).astype(np.float32)


def digest(function, *inputs):
    return jaxpr_digest(jax.jit(function).trace(*(inputs or (jnp.float32(1),))).jaxpr)


def called_back(host):
    return lambda x: jax.pure_callback(host, jax.ShapeDtypeStruct((), jnp.float32), x)


class Adder:
    def __init__(self, number):
        self.number = number

    def add(self, x):
        return np.float32(x + self.number)

    __call__ = add


def summed(table):
    return lambda x: x + jnp.asarray(table).sum()


def inside(table):
    return lambda x: jax.lax.scan(lambda carry, _: (carry + jax.jit(summed(table))(x), None), x, length=3)[0]


def bent(slope):
    @jax.custom_jvp
    def f(x):
        return x * 2

    f.defjvp(lambda primals, tangents: (f(*primals), tangents[0] * slope))
    return jax.grad(f)


@pytest.mark.parametrize(
    ("make", "one", "other"),
    [
        (lambda c: lambda x: x * c, np.float32(2), np.float32(3)),
        (lambda f: f, jnp.sin, jnp.cos),
        (lambda f: f, lambda x: x - x * x, lambda x: x * x - x),
        (summed, TABLE, CHANGED),
        (inside, TABLE, CHANGED),
        (bent, np.float32(1), np.float32(2)),
        (called_back, lambda x: np.float32(x + 1), lambda x: np.float32(x + 2)),
        (lambda c: called_back(lambda x: np.float32(x + c)), 1, 2),
        (lambda held: called_back(lambda x: np.float32(x + held[0])), [1, 2, 1], [1, 2, 2]),
        (lambda held: called_back(lambda x: np.float32(x + held[2][0])), [ONE, TWO, ONE], [ONE, TWO, TWO]),
        (lambda c: called_back(Adder(c).add), 1, 2),
        (lambda c: called_back(Adder(c)), 1, 2),
        (lambda c: called_back(lambda x: np.float32(x + c.sum())), TABLE, CHANGED),
        (called_back, functools.partial(np.add, np.float32(1)), functools.partial(np.add, np.float32(2))),
        (lambda key: lambda x: x + jax.random.normal(key), jax.random.key(0), jax.random.key(1)),
        (lambda dtype: lambda x: x.astype(dtype), jnp.float16, jnp.bfloat16),
        (lambda n: lambda x: jnp.zeros(n) + x[None], 3, 4),
    ],
    ids=[
        "number",
        "function",
        "order",
        "array",
        "array in a loop",
        "derivative",
        "callback",
        "held number",
        "held list",
        "held twice",
        "method",
        "callable",
        "held array",
        "partial",
        "key",
        "dtype",
        "shape",
    ],
)
def test_functions_that_differ_have_other_digests(make, one, other):
    assert digest(make(one)) == digest(make(one)) != digest(make(other))


def test_what_a_callback_finds_in_its_module_counts(monkeypatch):
    def host(x):
        return np.float32(x + TABLE.sum())

    before = digest(called_back(host))
    monkeypatch.setitem(globals(), "TABLE", CHANGED)
    assert digest(called_back(host)) != before


def test_names_do_not_count():
    def f(x):
        y = x + 1
        return y * 2

    assert digest(f) == digest(lambda number: (number + 1) * 2)


SCRIPT = """
import jax, jax.numpy as jnp
from momentum_jax._base.jaxprs import jaxpr_digest
from momentum_jax import Config
from momentum_jax.training.groups import group_runs
from momentum_jax.training.loop import _runs
from momentum_jax.training.validate import resolve_task
cfg = Config(dataset="{dataset}", hidden_sizes=(3,))
task = resolve_task(cfg, None)
for group in group_runs(cfg, task, {{}}, _runs(cfg), loss_after=True):
    print(group.program_digest(cfg, task))
print(jaxpr_digest(jax.jit(jax.nn.gelu).trace(jnp.zeros(3)).jaxpr))
"""


def test_another_process_finds_the_same_digests(idx):
    def printed(seed):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        script = SCRIPT.format(dataset=idx)
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    one = printed("1")
    assert one == printed("2")
    assert len(set(one)) == 4
