"""The generated parts of README.ko.md, from the numbers that the studies wrote. `update_readme.py` writes them."""

import csv
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from contour_paths import PAIRS
from gallery import read

HERE = pathlib.Path(__file__).parent
# The form of a protocol's title, and its name here.
PROTOCOLS = {
    r"same learning rate, (.+)": "같은 학습률 {}",
    r"same effective learning rate, (.+)": "같은 유효 학습률 {}",
    r"each at its best of (\d+) trials?": "각각 튜닝(시도 {}번)",
    r"each at its best of (\d+) own trials?": "각각 튜닝(자체 시도 {}번)",
    r"each at its best of (\d+) own and up to (\d+) shared trials": "각각 튜닝(자체 시도 {}번, 공유 시도 최대 {}번)",
}
# The name of a metric in a verdict, its name here, and whether lower is better.
METRICS = {
    "loss on the training set": ("학습 데이터 전체의 loss", True),
    "accuracy on the test set": ("테스트 정확도", False),
    "iterations to a loss of 0.19": ("loss 0.19에 이르는 반복 횟수", True),
}
# The name of a pair of paths in the study, and its name here.
WHERE = {
    "at the rates of the pictures, SGD 0.95 and Momentum 0.1": (
        "『밑바닥부터 시작하는 딥러닝』의 그림처럼 SGD 0.95, Momentum 0.1이면"
    ),
    "at the same learning rate of 0.1": "같은 학습률 0.1에서는",
}
NUMBER = r"[−+]?\d+(?:\.\d+)?"
VERDICT = (
    r"^(?:No difference found in the (.+) between momentum and sgd"
    r"|momentum (?:has a|needs) (lower|higher|fewer|more) (.+) than sgd)"
    rf": ({NUMBER}(?: %)?) against ({NUMBER}(?: %)?) "
    rf"\(({NUMBER})(?: %)? to ({NUMBER}) (%|percentage points); (\d+) seeds\)\.$"
)


def verdicts() -> str:
    """The verdicts of the study does_momentum_help, as a table, with the number of seeds."""
    rows = ["| 비교 방법 | 지표 | Momentum | SGD | 차이의 구간 | 판정 |", "|---|---|---|---|---|---|"]
    seeds = set()
    for title, sentences in json.loads((HERE / "does_momentum_help.json").read_text()).items():
        for sentence in sentences:
            *entries, count = verdict(sentence)
            rows.append(f"| {' | '.join([protocol(title), *entries])} |")
            seeds.add(count)
    (count,) = seeds
    return "\n".join([*rows, "", f"판정에 쓴 seed는 {count}개이고, 튜닝에는 다른 seed를 썼습니다."])


def protocol(title: str) -> str:
    """The name of a protocol whose title is such as "same learning rate, 0.01" or "each at its best of 24 trials".

    Raises:
      ValueError: the title has another form.
    """
    for form, name in PROTOCOLS.items():
        if match := re.fullmatch(form, title):
            return name.format(*match.groups())
    raise ValueError(f"no protocol has such a title: {title}")


def verdict(sentence: str) -> tuple[str, ...]:
    """What a verdict on momentum and sgd says: the metric, both medians, the interval, which is better, the seeds."""
    alike, order, metric, momentum, sgd, low, high, unit, seeds = found(VERDICT, sentence)
    name, lower_is_better = METRICS[metric or alike]
    better = "Momentum" if (order in ("lower", "fewer")) == lower_is_better else "SGD"
    said = "차이를 찾지 못함" if alike else f"{better} 우세"
    return name, momentum, sgd, f"{low} ~ {high} {'%p' if 'points' in unit else '%'}", said, seeds


def reproduction() -> str:
    """Whether the tutorial's figure and its printed losses come out here."""
    with (HERE / "blog_losses_quantiles.csv").open() as file:
        quantiles = [float(row["quantile"]) for row in csv.DictReader(file)]
    inside = sum(0.025 <= quantile <= 0.975 for quantile in quantiles)
    (runs,) = found(r"95 % of (\d+) seeds", read("blog_losses").finding)
    seeds, momentum, sgd, iterations, *losses, accuracy, accuracy_of_sgd = found(
        r"Over (\d+) seeds the smoothed loss reaches 0\.3 after (\d+) iterations with Momentum .*? and after (\d+) "
        r"with SGD .*? After ([\d,]+) iterations the training loss is ([\d.]+) against ([\d.]+), the test accuracy "
        r"([\d.]+) % against ([\d.]+) %",
        read("mnist_comparison").finding,
    )
    return (
        f"- 튜토리얼이 출력한 loss {len(quantiles)}개 가운데 {inside}개가 seed {runs}개로 얻은 분포의 중앙 95 % 안에 "
        f"있습니다.\n  분위수의 평균은 {sum(quantiles) / len(quantiles):.2f}입니다.\n"
        f"- 평활한 loss가 0.3에 이르기까지 Momentum은 {momentum}회, SGD는 {sgd}회 반복합니다.\n"
        f"- {iterations}회 반복한 뒤 학습 데이터 전체의 loss는 Momentum {losses[0]}, SGD {losses[1]}이고, 테스트 "
        f"정확도는 {accuracy} %와\n  {accuracy_of_sgd} %입니다. 모두 seed {seeds}개의 중앙값입니다."
    )


def found(pattern: str, text: str) -> Sequence[str]:
    """The groups of a pattern in a text.

    Raises:
      ValueError: the pattern is not there.
    """
    match = re.search(pattern, text)
    if not match:
        raise ValueError(f"{pattern} is not in: {text}")
    return match.groups()


def claims() -> str:
    """What the tutorial says of momentum, and what the studies found."""
    told = {
        "contour_paths": ("경로가 매끄럽고 짧아진다", paths),
        "local_minima": ("local minimum에서 탈출할 수 있다", escapes),
        "noise_floor": ("noise는 그대로다", noise),
    }
    rows = ["| 튜토리얼의 설명 | 이 저장소에서 확인한 것 | 실험 |", "|---|---|---|"]
    for study, (claim, answer) in told.items():
        numbers = json.loads((HERE / f"{study}.json").read_text())["numbers"]
        rows.append(f"| {claim} | {answer(numbers)} | [{study}](README.md#{study}) |")
    return "\n".join(rows)


def paths(measures: Mapping[str, Mapping[str, float]]) -> str:
    said = []
    for pair, where in WHERE.items():
        turns, lengths = ([measures[label][key] for label in PAIRS[pair]] for key in ("zigzag in radians", "length"))
        true = [one < other for one, other in (turns, lengths)]
        answer = "맞습니다" if all(true) else "일부만 맞습니다" if any(true) else "맞지 않습니다"
        said.append(
            f"{where} {answer}. 꺾인 각의 합이 {turns[0]:.1f} 대 {turns[1]:.1f} rad, 길이가 {lengths[0]:.1f} 대 "
            f"{lengths[1]:.1f}입니다."
        )
    return " ".join(said)


def escapes(numbers: Mapping[str, Any]) -> str:
    def net(ground: str) -> str:
        value, low, high = (
            f"{100 * number:.1f}".replace("-", "−") for number in numbers[f"{ground}, momentum 0.9"]["each at its best"]
        )
        return f"{value} %({low} ~ {high})"

    return (
        "지형과 학습률에 따라 다릅니다. 각각 가장 좋은 학습률을 쓸 때 momentum 0.9가 SGD보다 더 낮은 곳에서 끝나는 "
        f"출발점은, 더 높은 곳에서 끝나는 것을 빼고 double well에서 {net('double well')}, Rastrigin에서 "
        f"{net('Rastrigin')}입니다."
    )


def noise(numbers: Mapping[str, Any]) -> str:
    measured = {(entry["method"], entry["β"], entry["αλ"]): entry["measured"][0] for entry in numbers["ratios"]}
    small, large = (100 * measured["heavy ball", 0.9, a] for a in (0.001, 0.1))
    return (
        "비교 방법에 따라 다릅니다. α를 학습률, λ를 곡률이라고 하면, 학습률이 같을 때 분산은 αλ = 0.1에서 "
        f"{numbers['same α'][0]:.2f}배로 커집니다. 유효 학습률이 같을 때는 αλ = 0.001에서 분산의 {small:.1f} %가, "
        f"αλ = 0.1에서 {large:.1f} %가 남습니다."
    )


PARTS = {"reproduction": reproduction, "verdicts": verdicts, "claims": claims}
