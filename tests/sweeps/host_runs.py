"""Training loops for the tests of `HostTask`: a quadratic in NumPy, and loops that go wrong.

Worker processes import this module, and not those of the tests, which import JAX's compilers and pytest.
"""

import os
import pathlib
import sys
import time

import numpy as np

CURVATURES = np.array([1.0, 10.0])
SCORES = ("train_loss", "test_loss")


def quadratic(hyperparameters, seed, iterations, data="train"):
    """Noisy gradient descent with momentum on w·A·w/2; the tuning data lie a little elsewhere."""
    rng = np.random.default_rng([seed, data == "tuning"])
    rate, momentum = hyperparameters["learning_rate"], hyperparameters.get("momentum", 0.0)
    w, velocity, losses = rng.normal(size=2), np.zeros(2), []
    for _ in range(iterations):
        losses.append(float(CURVATURES @ w**2 / 2))
        gradient = CURVATURES * w + rng.normal(size=2) / hyperparameters["batch_size"]
        velocity = momentum * velocity - rate * gradient
        w = w + velocity
    final = float(CURVATURES @ w**2 / 2)
    return losses, {"train_loss": final, "test_loss": final + 0.01}


def fails_at_high_rates(hyperparameters, seed, iterations, data="train"):
    if hyperparameters["learning_rate"] > 0.1:
        raise ValueError(f"learning rate {hyperparameters['learning_rate']} is too high\nfor seed {seed}")
    return quadratic(hyperparameters, seed, iterations, data)


def fails(hyperparameters, seed, iterations, data="train"):
    raise RuntimeError("nothing works")


def exits(hyperparameters, seed, iterations, data="train"):
    sys.exit("gave up")


def says_what_it_got(hyperparameters, seed, iterations, data="train"):
    raise RuntimeError(repr((sorted(hyperparameters.items()), seed, iterations, data)))


def dies_with_seed_1(hyperparameters, seed, iterations, data="train"):
    if seed == 1:
        os.abort()
    return quadratic(hyperparameters, seed, iterations, data)


def noted(hyperparameters, seed, iterations, data="train"):
    """Adds its seed to the file that an environment variable names."""
    with pathlib.Path(os.environ["HOST_NOTES"]).open("a") as file:
        file.write(f"{seed}\n")
    return quadratic(hyperparameters, seed, iterations, data)


def waits_with_seed_3(hyperparameters, seed, iterations, data="train"):
    """The first run with seed 3 writes its process to the file that an environment variable names, and waits."""
    notes = pathlib.Path(os.environ["HOST_NOTES"])
    if seed == 3 and not notes.exists():
        notes.write_text(str(os.getpid()))
        time.sleep(600)
    return quadratic(hyperparameters, seed, iterations, data)


def diverges(hyperparameters, seed, iterations, data="train"):
    losses = np.linspace(1, 2, iterations)
    losses[3] = np.inf
    return losses, {"train_loss": 1.0, "test_loss": 1.0}


def returns_nothing(hyperparameters, seed, iterations, data="train"):
    return None


def returns_too_few(hyperparameters, seed, iterations, data="train"):
    return [1.0], {"train_loss": 1.0, "test_loss": 1.0}


def returns_text(hyperparameters, seed, iterations, data="train"):
    return ["low"] * iterations, {"train_loss": 1.0, "test_loss": 1.0}


def returns_ragged(hyperparameters, seed, iterations, data="train"):
    return [[1.0], [1.0, 2.0]], {"train_loss": 1.0, "test_loss": 1.0}


def returns_other_scores(hyperparameters, seed, iterations, data="train"):
    return [1.0] * iterations, {"train_loss": 1.0, "accuracy": 1.0}


def returns_no_number(hyperparameters, seed, iterations, data="train"):
    return [1.0] * iterations, {"train_loss": 1.0, "test_loss": "low"}


def takes_too_few(hyperparameters, seed):
    return None
