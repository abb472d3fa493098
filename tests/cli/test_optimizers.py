"""`momentum-jax optimizers`."""

import inspect

import pytest

import momentum_jax as mj
from momentum_jax import cli
from momentum_jax.optimizers.description import SCHEDULES


@pytest.fixture
def listing(capsys):
    cli.main(["optimizers"])
    return capsys.readouterr().out


@pytest.mark.parametrize("method", mj.optimizers.available().values(), ids=lambda method: method.name)
def test_every_method_is_listed_with_its_rule_paper_hyperparameters_defaults_and_ranges(listing, method):
    block = next(block for block in listing.split("\n\n") if block.startswith(f"{method.name}: "))
    title, paper, *rows = block.splitlines()
    assert title == f"{method.name}: {method.rule}"
    assert paper.strip() == method.paper
    parameters = inspect.signature(getattr(mj, method.name)).parameters
    assert [row.split()[0] for row in rows] == list(parameters)
    for row, (name, parameter) in zip(rows, parameters.items(), strict=True):
        assert ("required" if parameter.default is parameter.empty else f"default {parameter.default}") in row
        assert row.endswith(method.hyperparameters[name].text)


def test_the_schedules_are_listed(listing):
    for name, parameters in SCHEDULES.items():
        (line,) = (line for line in listing.splitlines() if line.strip().startswith(f"{name}("))
        assert all(parameter in line for parameter in parameters)


def test_what_a_hyperparameter_may_be_is_what_its_method_accepts():
    for method in mj.optimizers.available().values():
        for name, entry in method.hyperparameters.items():
            if isinstance(entry.allowed, str):
                continue
            required = {key: 0.5 for key, other in method.hyperparameters.items() if other.required}
            method.factory(**required | {name: entry.allowed.low})
            for outside in (entry.allowed.low - 1e-3, entry.allowed.high + 1e-3, float("nan")):
                with pytest.raises(mj.InputError, match=name):
                    method.factory(**required | {name: outside})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["optimizer"], "command: unknown 'optimizer'; did you mean 'optimizers'?"),
        (["optimizers", "momentum"], "argument: unknown 'momentum'"),
    ],
)
def test_a_word_that_means_nothing_here_is_refused(arguments, words, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 2
    assert words in capsys.readouterr().err
