"""The page in Korean: its commands run, and its numbers are those of the studies."""

import json
import pathlib
import re
import shlex
from types import SimpleNamespace

import contour_paths
import korean
import pytest
import update_readme

import momentum_jax as mj
from momentum_jax.comparison import tuning
from momentum_jax.comparison.protocols import plan_untuned

PAGE = pathlib.Path(korean.__file__).with_name("README.ko.md")
LINES = [line.partition("#")[0].strip() for line in re.findall(r"^ {4}(.+)$", PAGE.read_text(), re.MULTILINE)]
COMMANDS = [part.strip() for line in LINES for part in line.split("&&")]
# So little that every command is done in seconds; what a command gives itself counts less, since the last word counts.
TRAINING = ["--hidden-sizes", "8", "--iterations", "20", "--batch-size", "16", "--seeds", "2"]
LITTLE = {
    "compare": [*TRAINING, "--trials", "2", "--tuning-seeds", "1"],
    "paths": ["--iterations", "3", "--optimizer", "a=sgd,learning_rate=0.1"],
}


def test_the_page_installs_and_trains_with_the_line_of_the_main_page():
    assert LINES[0] in (line.strip() for line in (update_readme.ROOT / "README.md").read_text().splitlines())
    assert len(COMMANDS) == 5


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("command", COMMANDS[1:])
def test_a_command_of_the_page_runs(command, main, idx):
    program, *words = shlex.split(command)
    assert program == "momentum-jax"
    name = words[0] if words and not words[0].startswith("-") else "train"
    main([*words, *LITTLE.get(name, TRAINING), *([] if name == "paths" else ["--dataset", str(idx)])])
    assert {path.name for path in pathlib.Path("runs").rglob("*.*")} & {"losses.png", "report.html", "paths.png"}


@pytest.fixture
def studies(tmp_path, monkeypatch):
    """A copy of the numbers that the page is made of, and a function that changes one of them."""
    for path in [*korean.HERE.glob("*.json"), *korean.HERE.glob("blog_losses_quantiles.csv")]:
        (tmp_path / path.name).write_text(path.read_text())
    monkeypatch.setattr(korean, "HERE", tmp_path)

    def change(name, old, new):
        text = (tmp_path / name).read_text()
        assert old in text
        (tmp_path / name).write_text(text.replace(old, new, 1))

    return change


@pytest.mark.parametrize(
    ("part", "file", "old", "new"),
    [
        ("verdicts", "does_momentum_help.json", "0.07129 against", "0.07128 against"),
        ("verdicts", "does_momentum_help.json", "has a higher accuracy", "has a lower accuracy"),
        ("verdicts", "does_momentum_help.json", "best of 32 own trials", "best of 33 own trials"),
        ("claims", "contour_paths.json", "8.0334", "9.0334"),
        ("claims", "local_minima.json", "0.0335", "0.0445"),
        ("claims", "noise_floor.json", "9.769815", "8.769815"),
        ("reproduction", "blog_losses_quantiles.csv", ",0.", ",0.99"),
    ],
)
def test_a_number_or_a_verdict_that_changes_changes_the_page(part, file, old, new, studies):
    before = korean.PARTS[part]()
    studies(file, old, new)
    assert korean.PARTS[part]() != before


def test_the_paths_of_a_pair_are_those_of_the_study(monkeypatch):
    measures = json.loads((korean.HERE / "contour_paths.json").read_text())["numbers"]
    before = korean.paths(measures)
    pair = "at the same learning rate of 0.1"
    monkeypatch.setitem(contour_paths.PAIRS, pair, contour_paths.PAIRS["each at its best"])
    assert korean.paths(measures) != before
    assert korean.WHERE.keys() <= contour_paths.PAIRS.keys()


def test_what_is_better_is_told_by_the_metric():
    written = json.loads((korean.HERE / "does_momentum_help.json").read_text())
    said = [[korean.verdict(sentence)[-2] for sentence in sentences] for sentences in written.values()]
    alike = "차이를 찾지 못함"
    # The loss and the iterations are lower, the accuracy higher; then nothing; then fewer iterations by its own trials.
    assert said == [["Momentum 우세"] * 3, [alike] * 3, [alike] * 3, [alike, alike, "Momentum 우세"]]
    medians = "96.86 % against 96.95 % (−0.3 to −0.02 percentage points; 30 seeds)"
    behind = f"momentum has a lower accuracy on the test set than sgd: {medians}."
    assert korean.verdict(behind)[-2] == "SGD 우세"


@pytest.mark.parametrize(
    "sentence",
    [
        "momentum and sgd are equivalent in the loss on the training set: 0.1 against 0.1 (−1.0 % to +1.0 %; 9 seeds).",
        "nesterov has a lower loss on the training set than sgd: 0.1 against 0.2 (−0.1 % to +0.1 %; 30 seeds).",
    ],
)
def test_a_verdict_of_another_form_is_no_silent_row(sentence):
    with pytest.raises(ValueError, match="is not in"):
        korean.verdict(sentence)


def test_every_protocol_has_a_name_with_its_numbers(monkeypatch):
    monkeypatch.setattr(tuning, "choices", lambda _, __, pairs: {"momentum": ("sgd", len(pairs))})
    monkeypatch.setattr(tuning, "_trials", lambda *_: {})

    def titles(trials, contained):
        search = SimpleNamespace(contained=contained)
        plan = SimpleNamespace(search=search, values={"trials": trials}, tune_by="", cfg=mj.Config())
        return [protocol.title for protocol in tuning.plan_tuned(plan, None).values()]

    untuned = [protocol.title for protocol in plan_untuned(mj.Config(), None, None).values()]
    every = [*untuned, *titles(24, [["momentum", "sgd"]]), *titles(24, []), *titles(1, [])]
    assert list(map(korean.protocol, every)) == [
        "같은 학습률 0.01",
        "같은 유효 학습률 0.1",
        "각각 튜닝(자체 시도 24번, 공유 시도 최대 24번)",
        "각각 튜닝(자체 시도 24번)",
        "각각 튜닝(시도 24번)",
        "각각 튜닝(시도 1번)",
    ]
    with pytest.raises(ValueError, match="no protocol has such a title: at their worst"):
        korean.protocol("at their worst")


def test_a_claim_that_holds_in_part_is_said_to_hold_in_part():
    measures = {"Momentum 0.1": (3, 2), "SGD 0.95": (4, 1), "SGD 0.1": (5, 3)}
    said = korean.paths({label: {"zigzag in radians": z, "length": n} for label, (z, n) in measures.items()})
    assert [words for words in ("일부만 맞습니다", "맞지 않습니다") if words in said] == ["일부만 맞습니다"]
    assert "0.1에서는 맞습니다" in said
