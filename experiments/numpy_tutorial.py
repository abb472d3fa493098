"""The tutorial's training loop in NumPy: its two optimizer classes and its network, by hand.

The slow, plain reference that the laboratory is held against, in results (tests) and in speed (benchmark.py).
"""

from collections.abc import Sequence

import numpy as np

Params = dict[str, np.ndarray]


class MiniSGD:
    def __init__(self, lr: float = 0.01):
        self.lr = lr

    def update(self, params: Params, grads: Params) -> None:
        for key in params:
            params[key] -= self.lr * grads[key]


class Momentum:
    def __init__(self, lr: float = 0.01, momentum: float = 0.9):
        self.lr = lr
        self.momentum = momentum
        self.v: Params | None = None

    def update(self, params: Params, grads: Params) -> None:
        if self.v is None:
            self.v = {key: np.zeros_like(value) for key, value in params.items()}
        for key in params:
            self.v[key] = self.momentum * self.v[key] - self.lr * grads[key]
            params[key] += self.v[key]


def forward(params: Params, x: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The input of each layer and last the logits; where each ReLU is off."""
    inputs, off = [x], []
    layers = len(params) // 2
    for i in range(layers):
        x = inputs[-1] @ params[f"W{i}"] + params[f"b{i}"]
        if i < layers - 1:
            off.append(x <= 0)
            x[off[-1]] = 0
        inputs.append(x)
    return inputs, off


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def loss(params: Params, x: np.ndarray, labels: np.ndarray, l2: float = 0.0) -> float:
    """Mean of −log p(label), the softmax cross-entropy in nats, plus 0.5·λ·Σ‖W‖².

    The penalty is computed also where λ = 0, as the tutorial's network does.
    """
    probabilities = softmax(forward(params, x)[0][-1])
    penalty = sum(0.5 * l2 * np.sum(value**2) for key, value in params.items() if key.startswith("W"))
    return float(-np.mean(np.log(probabilities[np.arange(len(labels)), labels])) + penalty)


def gradient(params: Params, x: np.ndarray, labels: np.ndarray, l2: float = 0.0) -> Params:
    """Back-propagation of `loss`."""
    inputs, off = forward(params, x)
    delta = softmax(inputs[-1])
    delta[np.arange(len(labels)), labels] -= 1
    delta /= len(labels)
    grads = {}
    for i in reversed(range(len(params) // 2)):
        grads[f"W{i}"] = inputs[i].T @ delta + l2 * params[f"W{i}"]
        grads[f"b{i}"] = delta.sum(axis=0)
        if i:
            delta = delta @ params[f"W{i}"].T
            delta[off[i - 1]] = 0
    return grads


def train(
    params: Params,
    x: np.ndarray,
    labels: np.ndarray,
    batches: np.ndarray,
    optimizers: Sequence[MiniSGD | Momentum],
    l2: float = 0.0,
) -> tuple[list[Params], np.ndarray]:
    """Trains a copy of the network with each optimizer on the same batches, as the tutorial's loop does.

    Args:
      params: the initial weights "W0", "b0", "W1", …
      x: float [examples, features], scaled to [0, 1].
      labels: int [examples].
      batches: int [iterations, batch], rows of x.
      optimizers: fresh ones.
      l2: λ of the penalty.

    Returns:
      The final weights of each, and the losses after each update [optimizers, iterations].
    """
    networks = [{key: value.copy() for key, value in params.items()} for _ in optimizers]
    losses = np.zeros([len(optimizers), len(batches)])
    for iteration, batch in enumerate(batches):
        x_batch, t_batch = x[batch], labels[batch]
        for i, (network, optimizer) in enumerate(zip(networks, optimizers, strict=True)):
            optimizer.update(network, gradient(network, x_batch, t_batch, l2))
            losses[i, iteration] = loss(network, x_batch, t_batch, l2)
    return networks, losses
