"""The task of predicting the next character of a text with a small transformer."""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, UInt8

from momentum_jax._base.errors import InputError, check_integer, check_real, shown
from momentum_jax._base.trees import at_least_float32
from momentum_jax.tasks._labels import label_entropy
from momentum_jax.tasks._task import Params, Scalars, Task, mean_over_examples
from momentum_jax.tasks.datasets import load_text

Windows = UInt8[Array, "windows window"]

_STANDARD_DEVIATION = 0.02
# As many training windows as there are test windows, because a tenth of the text is held out.
_EVALUATED_EVERY = 9
_CHARACTERS_AT_ONCE = 2**15


class LayerNorm(nn.Module):
    """γ·(x − mean)/√(variance + 10⁻⁵) + β along the last axis; mean and variance in at least float32.

    Flax's own mixes float32 statistics with bfloat16 parameters, which strict dtype promotion refuses.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "batch positions width"]) -> Float[Array, "batch positions width"]:
        gain = self.param("gain", nn.initializers.ones, (x.shape[-1],), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],), jnp.float32)
        wide = x.astype(at_least_float32(x.dtype))
        centred = wide - wide.mean(axis=-1, keepdims=True)
        normalised = centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-5)
        return gain[None, None] * normalised.astype(x.dtype) + bias[None, None]


def causal_attention(
    query: Float[Array, "batch positions heads size"],
    key: Float[Array, "batch positions heads size"],
    value: Float[Array, "batch positions heads size"],
) -> Float[Array, "batch positions heads size"]:
    """softmax(q·kᵀ/√size)·v of each head, over the present and earlier positions; softmax in at least float32.

    `jax.nn.dot_product_attention` takes the softmax in float32 where arrays are float64.
    """
    positions, size = query.shape[1], query.shape[3]
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=at_least_float32(query.dtype))
    visible = jnp.tril(jnp.ones([positions, positions], bool))[None, None]
    # A program for one CPU device rounds the derivative of `jax.nn.softmax` otherwise than a program for several.
    weights = jnp.exp(jax.nn.log_softmax(jnp.where(visible, scores / math.sqrt(size), -jnp.inf)))
    return jnp.einsum("bhqk,bkhd->bqhd", weights.astype(value.dtype), value)


class CharTransformer(nn.Module):
    """A decoder-only transformer that normalises before each sublayer, with its embedding as the output layer too.

    With the embedding E [symbols, width], the positions P [context, width] and layer normalisation N::

        x₀ = E[characters] + P
        x ← x + attention(N(x))·W + b              causal, over `heads` heads of width/heads
        x ← x + GELU(N(x)·W₁ + b₁)·W₂ + b₂         4·width hidden units
        logits = N(x)·Eᵀ

    The two lines with arrows are a layer. There are `layers` of them, each with its own parameters. GELU is the form
    with tanh that GPT-2 has. Unlike ReLU it has derivatives of every order, so that curvature is defined everywhere.

    All weights start from N(0, 0.02²), those of W and W₂, which write into the residual stream, from that divided by
    √(2·layers), the root of the number of additions. Biases start at zero.

    Attributes:
      symbols: the size of the vocabulary.
      layers: the number of pairs of sublayers.
      width: the size of x at a position.
      heads: the number of attention heads, a divisor of the width.
      context: the largest number of positions.
      dropout: the probability with which an entry of x₀, and of what a sublayer adds to x, is zero in training.

    References:
      Vaswani et al., `Attention is all you need <https://arxiv.org/abs/1706.03762>`_, 2017; section 5.4 for dropout.
      Radford et al., Language models are unsupervised multitask learners (GPT-2), 2019, section 2.3, for the order of
      normalisation and the initialisation. The deviation 0.02 is that of Radford et al., Improving language
      understanding by generative pre-training, 2018, section 4.1.
      Press and Wolf, `Using the output embedding to improve language models <https://arxiv.org/abs/1608.05859>`_, 2017.

    >>> network = CharTransformer(symbols=5, layers=1, width=8, heads=2, context=4)
    >>> characters = jnp.array([[0, 1, 2, 3]])
    >>> params = network.init(jax.random.key(0), characters)
    >>> network.apply(params, characters).shape
    (1, 4, 5)
    """

    symbols: int
    layers: int
    width: int
    heads: int
    context: int
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, characters: Int[Array, "batch positions"], *, deterministic: bool = True
    ) -> Float[Array, "batch positions symbols"]:
        def drop(x: Array) -> Array:
            dropped: Array = nn.Dropout(self.dropout)(x, deterministic=deterministic)
            return dropped

        weights = nn.initializers.normal(_STANDARD_DEVIATION)
        residual_weights = nn.initializers.normal(_STANDARD_DEVIATION / math.sqrt(2 * self.layers))
        embedding = self.param("embedding", weights, (self.symbols, self.width), jnp.float32)
        positions = self.param("positions", weights, (self.context, self.width), jnp.float32)
        batch, length = characters.shape
        x = drop(jnp.take(embedding, characters, axis=0) + positions[None, :length])
        for i in range(self.layers):
            normalised = LayerNorm(name=f"attention_norm_{i}")(x)
            projected = nn.Dense(3 * self.width, kernel_init=weights, name=f"attention_in_{i}")(normalised)
            query, key, value = jnp.split(projected.reshape(batch, length, 3 * self.heads, -1), 3, axis=2)
            attended = causal_attention(query, key, value).reshape(batch, length, self.width)
            x = x + drop(nn.Dense(self.width, kernel_init=residual_weights, name=f"attention_out_{i}")(attended))
            normalised = LayerNorm(name=f"mlp_norm_{i}")(x)
            hidden = nn.gelu(nn.Dense(4 * self.width, kernel_init=weights, name=f"mlp_in_{i}")(normalised))
            x = x + drop(nn.Dense(self.width, kernel_init=residual_weights, name=f"mlp_out_{i}")(hidden))
        x = LayerNorm(name="output_norm")(x)
        return jnp.dot(x, embedding.T, preferred_element_type=at_least_float32(x.dtype))


def char_transformer(
    *,
    layers: int = 2,
    width: int = 32,
    heads: int = 2,
    context: int = 32,
    dropout: float = 0.0,
    text: str = "shakespeare",
) -> Task:
    """The task of predicting each character of a text from those before it with a `CharTransformer`.

    The examples are windows of context + 1 characters, uint8 places in the vocabulary. The network reads the first
    `context` of them and predicts the last `context`. Windows begin every `context` characters, so each character is
    predicted once, from at most `context` and on average half as many; see `Text.windows`. The last tenth of each
    document is the test set.

    The loss is the cross-entropy in nats per character, the mean over batch and positions. The evaluation is without
    dropout. It gives "train_loss", over every ninth training window, "test_loss", over all test windows, and
    "test_bits_per_character", which is test_loss/ln 2. The baseline is the entropy of the training characters, the
    least loss of a predictor that does not look at the characters before.

    A step on B windows takes 6·(12·layers·width² + symbols·width)·B·context + 12·layers·width·B·context² floating-point
    operations in its matrix products, forward and backward: 0.76 GFLOP by default with a batch size of 128.

    Args:
      layers: the number of layers.
      width: the size of a position's vector.
      heads: the number of attention heads, a divisor of the width.
      context: the number of characters predicted in a window, and the most that the network reads.
      dropout: the probability of dropout. If it is positive, the loss takes a key as its last argument.
      text: the name of a text for `load_text`.

    Raises:
      InputError: there is no such text, a size is less than 1, the heads do not divide the width, the context is longer
        than the test part of a document, or the dropout is not in [0, 1).

    >>> task = char_transformer(layers=1, width=8, heads=1, context=16)
    >>> task.train.shape, task.test.shape, round(task.baseline_loss, 3)
    ((77457, 17), (8602, 17), 3.326)
    """
    check_integer("layers", layers, 1)
    check_integer("width", width, 1)
    check_integer("heads", heads, 1)
    check_real("dropout", dropout, 0, 1, below_high=True)
    if width % heads:
        divisors = [n for n in range(1, width + 1) if width % n == 0]
        raise InputError(f"heads must divide the width {width}: one of {shown(divisors)}, not {heads}")
    source = load_text(text)
    train, test = source.windows(context)
    init, loss, evaluate = _functions(
        len(source.vocabulary), int(layers), int(width), int(heads), int(context), float(dropout)
    )
    return Task(
        init=init,
        loss=loss,
        train=train,
        test=test,
        evaluate=evaluate,
        baseline_loss=label_entropy(train[:, 1:]),
        provenance={"source": source.source},
        has_key=dropout > 0,
    )


@functools.lru_cache(maxsize=64)
def _functions(
    symbols: int, layers: int, width: int, heads: int, context: int, dropout: float
) -> tuple[Callable[..., Params], Callable[..., Any], Callable[..., Scalars]]:
    """`init`, `loss` and `evaluate`; cached, because compiled programs are shared by the identity of the functions."""
    network = CharTransformer(symbols, layers, width, heads, context, dropout)

    def init(key: Key[Array, ""]) -> Params:
        return network.init(key, jnp.zeros([1, context], jnp.int32))

    def cross_entropy(params: Params, windows: Windows, **options: Any) -> Float[Array, ""]:
        characters = windows.astype(jnp.int32)
        logits: Any = network.apply(params, characters[:, :-1], **options)
        losses: Array = optax.softmax_cross_entropy_with_integer_labels(logits, characters[:, 1:])
        return losses.mean()

    def loss(params: Params, batch: Windows) -> Float[Array, ""]:
        return cross_entropy(params, batch)

    def dropout_loss(params: Params, batch: Windows, key: Key[Array, ""]) -> Float[Array, ""]:
        return cross_entropy(params, batch, deterministic=False, rngs={"dropout": key})

    def evaluate(params: Params, train: Windows, test: Windows) -> Scalars:
        def mean(windows: Windows) -> Float[Array, ""]:
            slice_size = max(1, _CHARACTERS_AT_ONCE // context)
            average: Array = mean_over_examples(functools.partial(cross_entropy, params), windows, slice_size)
            return average

        test_loss = mean(test)
        return {
            "train_loss": mean(train[::_EVALUATED_EVERY]),
            "test_loss": test_loss,
            "test_bits_per_character": test_loss / math.log(2),
        }

    return init, dropout_loss if dropout else loss, evaluate
