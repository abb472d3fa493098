"""A document of a comparison such as the page is given, made up: three optimizers, 20 seeds, three protocols."""

import base64
from typing import Any

import numpy as np

OPTIMIZERS = ["sgd", "momentum", "nesterov"]
SEEDS = 20
PROTOCOLS = ["Same learning rate", "Same effective learning rate", "Each at its best"]
# By protocol: how fast each optimizer's loss falls, per iteration.
SPEEDS = [[0.0015, 0.012, 0.013], [0.012, 0.0121, 0.0125], [0.016, 0.022, 0.024]]
DETAILS = [
    ["learning rate 0.01", "learning rate 0.01, momentum 0.9", "learning rate 0.01, momentum 0.9"],
    ["learning rate 0.1", "learning rate 0.01, momentum 0.9", "learning rate 0.01, momentum 0.9"],
    ["learning rate 0.32", "learning rate 0.032, momentum 0.9", "learning rate 0.046, momentum 0.87"],
]

# By metric, protocol and the pair's position: outcome, size, size the other way round, sentence.
BETTER = ("better", "−67.6 %", "+208.3 %", "{a} ends lower than {b}: 0.072 against 0.222 (−69 % to −66 %; 20 seeds).")
SAME = ("no difference found", "+1.4 %", "−1.4 %", "No difference found between {a} and {b} (−2 % to +4 %; 20 seeds).")
HIGHER = ("worse", "+9.1 %", "−8.3 %", "{a} ends higher than {b}: 0.067 against 0.061 (+4 % to +15 %; 20 seeds).")
WORSE = ("worse", "−0.2 pp", "+0.2 pp", "{a} has a lower accuracy than {b} (−0.3 to −0.1 percentage points; 20 seeds).")
NONE = ("no verdict", "never against never", "never against never", "No verdict on {a} and {b}: neither got there.")
CELLS = {
    ("final_train_loss", "Training loss at the end"): (BETTER, SAME, HIGHER),
    ("test_accuracy", "Test accuracy at the end"): (WORSE, None, SAME),
    ("iterations_to_0.3", "Iterations to a loss of 0.3"): (BETTER, SAME, NONE),
}
NAMES = ["same", "matched", "tuned"]
KINDS = {"better": "helps", "worse": "does not help", "no verdict": "cannot be told"}


def cell(verdict: Any, a: str, b: str) -> Any:
    if verdict is None:
        return None
    outcome, size, mirrored, sentence = verdict
    difference = -0.15 if size.startswith("−") else 0.01
    return {
        "outcome": outcome,
        "size": size,
        "mirrored": mirrored,
        "difference": difference,
        "low": difference - 0.01,
        "high": difference + 0.01,
        "median_a": 0.072,
        "median_b": 0.222,
        "seeds": SEEDS,
        "sentence": sentence.format(a=a, b=b),
    }


def matrix() -> dict[str, Any]:
    pairs = [(a, b) for j, b in enumerate(OPTIMIZERS) for a in OPTIMIZERS[j + 1 :]]
    return {
        "protocols": [{"name": name, "title": title} for name, title in zip(NAMES, PROTOCOLS, strict=True)],
        "metrics": [{"name": name, "title": title, "less_is_better": True} for name, title in CELLS],
        "pairs": [
            {"a": a, "b": b, "cells": [[cell(verdict, a, b) for verdict in row] for row in CELLS.values()]}
            for a, b in pairs
        ],
        "left_out": 0,
        "note": "All intervals of one metric hold together with 95 %.",
    }


def answer() -> dict[str, Any]:
    row = next(iter(CELLS.values()))
    return {
        "sentences": [
            "Against sgd at the same learning rate: momentum and nesterov help, by 67.6 %.",
            "At the same effective learning rate no difference was found; with each at its best, neither helps.",
        ],
        "parts": [
            {
                "protocol": name,
                "title": title,
                "a": a,
                "b": OPTIMIZERS[0],
                "kind": KINDS.get(verdict[0], verdict[0]),
                "why": "",
            }
            for name, title, verdict in zip(NAMES, PROTOCOLS, row, strict=True)
            for a in OPTIMIZERS[1:]
        ],
        "sure": "20 seeds, and 32 trials of each optimizer with 3 other seeds; all verdicts hold together at 95 %.",
        "warnings": ["tuning: the best learning rate of sgd, 0.32, lies next to the edge of what was tried."],
    }


def plain(value: float) -> Any:
    """A number as the document has it."""
    if np.isnan(value):
        return None
    return float(value) if np.isfinite(value) else ("inf" if value > 0 else "-inf")


def plain_list(values: Any) -> list[Any]:
    return [plain(float(value)) for value in values]


def losses(speed: float, iterations: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Made-up losses [seeds, points]: from ln 10 down, with noise."""
    shape = (SEEDS, len(iterations))
    speeds = speed * rng.lognormal(0, 0.15, (SEEDS, 1))
    return (2.25 * np.exp(-speeds * iterations) + 0.06) * rng.lognormal(0, 0.18, shape)


def curve(label: str, group: str, iterations: np.ndarray, values: np.ndarray) -> dict[str, Any]:
    numbers = {"shape": list(values.shape), "base64": base64.b64encode(values.astype("<f4").tobytes()).decode()}
    return {"label": label, "group": group, "iterations": iterations.tolist(), "values": numbers, "unit": "nats"}


def arm(label: str, detail: str, values: np.ndarray) -> dict[str, Any]:
    finite = values[np.isfinite(values)]
    half = 2 * finite.std() / np.sqrt(len(values)) if len(finite) == len(values) else np.inf
    median = float(np.median(values))
    numbers = {
        "value": plain(median),
        "low": plain(median - min(half, 0.5 * abs(median))),
        "high": plain(median + half),
    }
    return {"label": label, "detail": detail, **numbers, "values": plain_list(values)}


def metric(
    name: str, title: str, unit: str, medians: list[list[float]], rng: np.random.Generator, *, less: bool
) -> dict[str, Any]:
    protocols = []
    for title_of, details, of_arms in zip(PROTOCOLS, DETAILS, medians, strict=True):
        arms = [
            arm(label, detail, median * rng.lognormal(0, 0.04, SEEDS))
            for label, detail, median in zip(OPTIMIZERS, details, of_arms, strict=True)
        ]
        protocols.append({"title": title_of, "skipped": None, "arms": arms})
    head = {"name": name, "title": title, "unit": unit, "less_is_better": less, "infinite": "never"}
    return head | {"protocols": protocols}


def heatmap(label: str, offset: float, rng: np.random.Generator) -> dict[str, Any]:
    rates = [float(f"{rate:.2g}") for rate in np.geomspace(0.001, 10, 9)]
    betas = [0.0, 0.5, 0.8, 0.9, 0.95, 0.99]
    effective = np.asarray(rates)[None, :] / (1 - np.asarray(betas)[:, None])
    z = 0.09 + offset + 0.12 * np.log10(effective / 0.4) ** 2 + rng.normal(0, 0.003, effective.shape)
    failed = np.where(effective > 2, np.minimum(5, np.ceil(np.log2(effective / 2) + 0.5)), 0).astype(int)
    z[failed >= 3] = np.inf
    z[5, 0] = np.nan
    row, column = np.unravel_index(np.nanargmin(z), z.shape)
    return {
        "label": label,
        "x": {"name": "learning rate", "values": rates, "log": True},
        "y": {"name": "momentum", "values": betas, "log": False},
        "z": [plain_list(line) for line in z],
        "failed": failed.tolist(),
        "effective": True,
        "best": [rates[column], betas[row]],
    }


def sensitivity(label: str, best: float) -> dict[str, Any]:
    rates = np.geomspace(0.001, 10, 9)
    median = 0.09 + 0.12 * np.log10(rates / best) ** 2
    median[rates > 8 * best] = np.inf
    return {
        "label": label,
        "rates": plain_list(rates),
        "losses": plain_list(median),
        "low": plain_list(0.93 * median),
        "high": plain_list(1.09 * median),
    }


def table(rng: np.random.Generator) -> dict[str, Any]:
    columns = [
        ("optimizer", "Optimizer", "text"),
        ("learning_rate", "Learning rate", "number"),
        ("momentum", "Momentum", "number"),
        ("seed", "Seed", "number"),
        ("final_train_loss", "Training loss (nats)", "number"),
        ("test_accuracy", "Test accuracy", "number"),
        ("failed", "Failed", "bool"),
        ("note", "Note", "text"),
    ]
    rows: dict[str, list[Any]] = {name: [] for name, _, _ in columns}
    notes = [None, "plain", 'has "quotes", a comma', "two\nlines", "=1+1"]
    for i, label in enumerate(OPTIMIZERS):
        for rate in (0.01, 0.1, 1.0):
            for seed in range(SEEDS):
                failed = rate == 1.0 and i > 0 and seed % 2 == 0
                loss = np.inf if failed else 0.1 / rate**0.3 * rng.lognormal(0, 0.1)
                values = (label, rate, 0.9 if i else None, seed, plain(loss), None if failed else 0.96, failed)
                for (name, _, _), value in zip(columns, (*values, notes[seed % 5]), strict=True):
                    rows[name].append(value)
    titles = [{"name": name, "title": title, "kind": kind} for name, title, kind in columns]
    return {"columns": titles, "rows": rows, "left_out": 1200}


def trial_curves() -> dict[str, Any]:
    """Of each optimizer six trials at constant losses; the last is infinite from the third point on."""
    curves = []
    for i, label in enumerate(OPTIMIZERS):
        values = np.repeat(np.asarray([[0.5, 0.75, 1.0, 1.25, 1.5, 2.0]]) + 0.0625 * i, 5, axis=0).T.astype("<f4")
        values[-1, 2:] = np.inf
        upper = (values.view("<u4") >> 16).astype("<u2")
        encoded = {"shape": list(values.shape), "bytes": 2, "base64": base64.b64encode(upper.tobytes()).decode()}
        curves.append({"label": label, "group": PROTOCOLS[2], "values": encoded})
    return {
        "trial_curves": curves,
        "trial_curves_iterations": [0, 500, 1000, 1500, 2000],
        "trial_curves_note": "Faint lines are all 18 trials.",
    }


def parallel(label: str) -> dict[str, Any]:
    """Five trials from the best to the worst, of which the last failed."""
    return {
        "label": label,
        "axes": [
            {"name": "learning rate", "log": True, "values": [0.1, 1.0, 0.01, 0.001, 10.0]},
            {"name": "momentum", "log": False, "values": [0.9, 0.5, 0.0, None, 0.9]},
            {"name": "nesterov", "texts": ["no", "yes"], "values": [1, 0, 0, 1, 1]},
        ],
        "losses": [0.1, 0.2, 0.4, 1.0, "inf"],
        "failed": [0, 0, 1, 0, 3],
        "left_out": 0,
    }


def document() -> dict[str, Any]:
    """The same each time."""
    rng = np.random.default_rng(0)
    iterations = np.arange(0, 2000, 8)
    curves = []
    for group, speeds in zip(PROTOCOLS, SPEEDS, strict=True):
        for label, speed in zip(OPTIMIZERS, speeds, strict=True):
            values = losses(speed, iterations, rng)
            if group == PROTOCOLS[0] and label == "nesterov":
                # Some seeds diverge, one to infinity and one to NaN.
                values[:3, 120:] = 1e9
                values[0, 130:] = np.inf
                values[1, 130:] = np.nan
            curves.append(curve(label, group, iterations, values))
    train = metric(
        "final_train_loss",
        "Training loss at the end",
        "nats",
        [[0.22, 0.072, 0.073], [0.075, 0.072, 0.073], [0.061, 0.052, 0.049]],
        rng,
        less=True,
    )
    accuracy = metric(
        "test_accuracy",
        "Test accuracy at the end",
        "%",
        [[93.4, 96.8, 96.8], [96.7, 96.8, 96.8], [97.1, 97.4, 97.5]],
        rng,
        less=False,
    )
    reached = metric(
        "iterations_to_0.3",
        "Iterations to a loss of 0.3",
        "iterations",
        [[808, 146, 141], [150, 146, 141], [98, 84, 79]],
        rng,
        less=True,
    )
    failing = reached["protocols"][0]["arms"][0]
    failing.update(value="inf", low=900.0, high="inf", values=["inf"] * 12 + failing["values"][12:-1] + [None])
    accuracy["protocols"][1].update(skipped="no evaluation on the test set was asked for", arms=[])
    return {
        "title": "Does momentum help on MNIST?",
        "kind": "comparison",
        "question": "Plain SGD, momentum and Nesterov, in three protocols, over 20 seeds each.",
        "answer": answer(),
        "matrix": matrix(),
        "notes": [
            "The best learning rate of sgd, 0.32, lies next to the edge of what was tried (10).",
            "Each optimizer was tuned over 32 trials with 3 seeds; nesterov was still getting better at the end.",
        ],
        "optimizers": OPTIMIZERS,
        "curves": curves,
        **trial_curves(),
        "curves_note": "Loss on each batch before its update, every 8th iteration.",
        "three_way": {"metrics": [train, accuracy, reached], "bar": "95 % interval"},
        "heatmaps": [heatmap("momentum", 0.0, rng), heatmap("nesterov", -0.005, rng)],
        "parallel": [parallel("momentum"), parallel("nesterov")],
        "sensitivity": [sensitivity(*pair) for pair in zip(OPTIMIZERS, (0.4, 0.05, 0.06), strict=True)],
        "sensitivity_title": "Median training loss of 5 tuning seeds, each learning rate at its best momentum.",
        "budget": [
            {
                "label": label,
                "trials": list(range(1, 33)),
                "best": plain_list(np.concatenate([[np.inf] * i, 0.05 + 0.3 / np.arange(i + 1, 33) ** power])),
            }
            for i, (label, power) in enumerate(zip(OPTIMIZERS, (1.0, 0.8, 0.7), strict=True))
        ],
        "budget_title": "The best median training loss expected of the first n trials.",
        "budget_note": "Trials were drawn at random, so that their order says nothing.",
        "table": table(rng),
        "config": {
            "dataset": "mnist",
            "iterations": 2000,
            "batch_size": 128,
            "seeds": SEEDS,
            "optimizers": {label: {"name": label} for label in OPTIMIZERS},
        },
        "provenance": {"versions": {"python": "3.11.9", "jax": "0.10.2"}, "device": "cpu", "instruction_set": "avx512"},
        "command": "momentum-jax compare --seeds 20 --out runs/comparison",
        "files": "Everything shown is in runs/comparison: config.json, result.json, runs.parquet.",
    }
