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
    parameters = inspect.signature(method.factory).parameters
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
            try:
                method.factory(**required | {name: entry.allowed.low})
            except mj.InputError as error:
                # In the family of QHM an inequality between several of them may leave out the end of a range.
                assert mj.optimizers.FAMILY[method.name].needs in str(error)  # noqa: PT017
            for outside in (entry.allowed.low - 1e-3, entry.allowed.high + 1e-3, float("nan")):
                with pytest.raises(mj.InputError, match=name):
                    method.factory(**required | {name: outside})


def test_the_family_of_qhm_is_printed_with_what_its_table_holds(capsys):
    cli.main(["optimizers", "--family"])
    opening, first, *blocks = capsys.readouterr().out.split("\n\n")
    assert opening.startswith("These methods of other papers are QHM, quasi-hyperbolic momentum")
    # What a row begins with is explained above.
    rows = {line[2:12].strip() for block in blocks for line in block.splitlines()[2:]}
    assert rows <= {line[2:12].strip() for line in opening.splitlines() if line.startswith("  ")}
    assert first.startswith(f"qhm: {mj.optimizers.available()['qhm'].rule}\n")
    assert [block.split(":")[0] for block in blocks] == list(mj.optimizers.FAMILY)
    for block, member in zip(blocks, mj.optimizers.FAMILY.values(), strict=True):
        for text in (member.rule, member.paper, member.formulas, member.needs, member.params, member.start):
            assert text in block
        for key, symbol in member.symbols.items():
            assert key == symbol or f"{key} {symbol}" in block


def test_the_map_says_where_the_defaults_are(capsys):
    cli.main(["optimizers", "--family"])
    # 1 + λ = 3 and λ/(1 + λ) = 2/3; 0.7·11/1.7, 0.7·(1 − A)/(0.7 + A) with A = 0.0049, and 6/7.7.
    printed = capsys.readouterr().out
    assert "learning_rate = 3 times its own, momentum = 0.98, nu = 0.6667" in printed
    assert "learning_rate = 4.53 times its own, momentum = 0.9882, nu = 0.7792" in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["optimizer"], "command: unknown 'optimizer'; did you mean 'optimizers'?"),
        (["optimizers", "momentum"], "argument: unknown 'momentum'"),
        (["optimizers", "--famly"], "did you mean '--family'?"),
    ],
)
def test_a_word_that_means_nothing_here_is_refused(arguments, words, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 2
    assert words in capsys.readouterr().err
