"""Random changes of the images of a batch: `augment(key, batch) -> batch`, the labels untouched.

Every function here takes hyperparameters and returns such an `augment`. Equal arguments give the same function object,
because compiled programs are shared by the identity of functions. Of chains this holds for the last 64.

A batch is `(images, labels)`. The images are uint8 or float. Their shape is [batch, height, width],
[batch, height, width, channels], or [batch, features] for flattened images, which need `shape=(height, width)` or
`(height, width, channels)`. Every example gets its own random draws. Shape and dtype remain.

`shift` is what is also known as padding and cropping back. `resized_crop` enlarges what it crops, so the two differ.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from momentum_jax._base.errors import InputError, check_integer, check_real, shown
from momentum_jax._base.trees import at_least_float32

Images: TypeAlias = Shaped[Array, "batch height width channels"]
Augmentation: TypeAlias = Callable[[Key[Array, ""], Any], Any]
"""From a key and a batch `(images, labels)` to a batch of the same shapes and dtypes."""


def flip(shape: tuple[int, ...] | None = None) -> Augmentation:
    """Mirrors each image left to right with probability 1/2.

    Args:
      shape: (height, width) or (height, width, channels) of flattened images.

    Raises:
      InputError: the shape is no such tuple. The function itself refuses images that do not have the shape.

    >>> image = jnp.arange(6, dtype=jnp.uint8).reshape(1, 2, 3)
    >>> mirrored = [flip()(jax.random.key(seed), (image, None))[0] for seed in range(9)]
    >>> sorted({str(m.tolist()) for m in mirrored})
    ['[[[0, 1, 2], [3, 4, 5]]]', '[[[2, 1, 0], [5, 4, 3]]]']
    """
    return _augmentation(_flip, (), _checked_shape(shape))


def shift(pixels: int, shape: tuple[int, ...] | None = None) -> Augmentation:
    """Moves each image by a random whole number of pixels and fills with zeros what it uncovers.

    y[i, j] = x[i − r, j − c] with r and c uniform among −pixels, …, pixels.

    Args:
      pixels: the largest shift in each direction, at least 1 and less than the height and the width.
      shape: (height, width) or (height, width, channels) of flattened images.

    Raises:
      InputError: an argument is out of range. The function itself refuses images that do not fit the arguments.

    >>> images, labels = jnp.ones([2, 4, 4], jnp.uint8), jnp.arange(2)
    >>> augmented, same = shift(1)(jax.random.key(0), (images, labels))
    >>> augmented.shape, augmented.dtype.name
    ((2, 4, 4), 'uint8')
    """
    check_integer("pixels", pixels, 1)
    return _augmentation(_shift, (int(pixels),), _checked_shape(shape))


def resized_crop(min_scale: float = 0.5, shape: tuple[int, ...] | None = None) -> Augmentation:
    """Crops a random window of each image and enlarges it to the whole image by bilinear interpolation.

    The window has a proportion s of the height H and of the width W, uniform in [min_scale, 1]. Its corner (r, c) is
    uniform where the window fits. With coordinates outside clamped to the border,

        y[i, j] = x[r + s·(i + ½) − ½, c + s·(j + ½) − ½],  0 ≤ r ≤ (1 − s)·H,  0 ≤ c ≤ (1 − s)·W

    Integers are rounded. The window keeps the proportions of the image. Szegedy et al. (2014, 1409.4842, section 6)
    draw these as well. A constant image stays what it is.

    Args:
      min_scale: the least proportion, in (0, 1].
      shape: (height, width) or (height, width, channels) of flattened images.

    Raises:
      InputError: an argument is out of range. The function itself refuses images that do not have the shape.

    >>> images = jnp.full([2, 6, 4], 7, jnp.uint8)
    >>> bool(jnp.all(resized_crop(0.3)(jax.random.key(0), (images, None))[0] == images))
    True
    """
    check_real("min_scale", min_scale, 0.0, 1.0)
    if min_scale == 0:
        raise InputError("min_scale must be more than 0, because an empty window has no pixels")
    return _augmentation(_resized_crop, (float(min_scale),), _checked_shape(shape))


def noise(stddev: float) -> Augmentation:
    """Adds Gaussian noise to every pixel: y = x + stddev·ε with ε ~ N(0, 1).

    The standard deviation is in units of the pixels: 8 is a weak noise for uint8, and 8 / 255 for floats in [0, 1].
    uint8 is rounded and clipped to 0, …, 255. Floats are not clipped. Flattened images need no shape.

    Raises:
      InputError: the standard deviation is negative or not finite.

    >>> images = jnp.full([1, 2, 2], 255, jnp.uint8)
    >>> bool(jnp.all(noise(8.0)(jax.random.key(0), (images, None))[0] > 200))
    True
    """
    check_real("stddev", stddev, 0.0, math.inf)
    return _augmentation(_noise, (float(stddev),), None)


def cutout(size: int, shape: tuple[int, ...] | None = None) -> Augmentation:
    """Sets a random square of each image to zero (DeVries and Taylor 2017, 1708.04552).

    The centre (r, c) is uniform among the pixels, so that a part of the square may lie outside of the image:

        y[i, j] = 0 for 0 ≤ i − r + ⌊size/2⌋ < size and 0 ≤ j − c + ⌊size/2⌋ < size, else x[i, j]

    Args:
      size: the side of the square in pixels, at least 1.
      shape: (height, width) or (height, width, channels) of flattened images.

    Raises:
      InputError: an argument is out of range. The function itself refuses images that do not have the shape.

    >>> images = jnp.ones([1, 5, 5], jnp.float32)
    >>> bool(cutout(3)(jax.random.key(0), (images, None))[0].sum() <= 21)
    True
    """
    check_integer("size", size, 1)
    return _augmentation(_cutout, (int(size),), _checked_shape(shape))


def chain(*augmentations: Augmentation) -> Augmentation:
    """Applies augmentations from left to right, each with a key of its own: the i-th of `jax.random.split(key, n)`.

    Raises:
      InputError: there is none, or one is no function.

    >>> chain(flip(), shift(2)) is chain(flip(), shift(2))
    True
    """
    if not augmentations:
        raise InputError("chain needs at least one augmentation, such as flip()")
    for augmentation in augmentations:
        if not callable(augmentation):
            raise InputError(f"chain takes functions of (key, batch), such as flip(), not {shown(augmentation)}")
    return _chain(augmentations)


@functools.lru_cache(maxsize=64)
def _chain(augmentations: tuple[Augmentation, ...]) -> Augmentation:
    def augment(key: Key[Array, ""], batch: Any) -> Any:
        for augmentation, own in zip(augmentations, jax.random.split(key, len(augmentations)), strict=True):
            batch = augmentation(own, batch)
        return batch

    return augment


@functools.cache
def _augmentation(
    change: Callable[..., Images], hyperparameters: tuple[float, ...], shape: tuple[int, ...] | None
) -> Augmentation:
    """The function of (key, batch) that applies `change(key, images, *hyperparameters)` to the images."""

    def augment(key: Key[Array, ""], batch: Any) -> Any:
        images, labels = batch
        images = jnp.asarray(images)
        if not (images.dtype == jnp.uint8 or jnp.issubdtype(images.dtype, jnp.floating)):
            raise InputError(f"images to augment must be uint8 or float, not {images.dtype}")
        by_channel = images[:, None, :, None] if change is _noise and images.ndim == 2 else _unflatten(images, shape)
        return change(key, by_channel, *hyperparameters).reshape(images.shape), labels

    return augment


def _checked_shape(shape: Any) -> tuple[int, ...] | None:
    if shape is None:
        return None
    try:
        sides = tuple(shape)
    except TypeError:
        sides = ()
    if len(sides) not in (2, 3):
        raise InputError(f"shape must be (height, width) or (height, width, channels), not {shown(shape)}")
    for name, side in zip(("height", "width", "channels"), sides, strict=False):
        check_integer(f"the {name} in shape", side, 1)
    return tuple(int(side) for side in sides)


def _unflatten(images: Shaped[Array, "batch ..."], shape: tuple[int, ...] | None) -> Images:
    own = images.shape[1:]
    if shape is None and len(own) == 1:
        raise InputError(f"images with {own[0]} features are flattened: give shape=(height, width) to augment them")
    if shape is None and len(own) not in (2, 3):
        raise InputError(f"images must be [batch, height, width] with or without channels, not {list(images.shape)}")
    fits = shape is None or own == shape or own == (math.prod(shape),)
    if not fits:
        raise InputError(f"images of shape {own} do not fit shape={shape}")
    height, width, *channels = own if shape is None else shape
    return images.reshape(images.shape[0], height, width, *(channels or [1]))


def _flip(key: Key[Array, ""], images: Images) -> Images:
    mirrored = jax.random.bernoulli(key, shape=images.shape[:1])
    return jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


def _shift(key: Key[Array, ""], images: Images, pixels: int) -> Images:
    batch, height, width, _ = images.shape
    if pixels >= min(height, width):
        raise InputError(f"a shift by {pixels} pixels can move an image of {height} × {width} pixels out of sight")
    offsets = jax.random.randint(key, (batch, 2), -pixels, pixels + 1)
    padded = jnp.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)))

    def window(image: Shaped[Array, "rows columns channels"], offset: Int[Array, "2"]) -> Shaped[Array, "..."]:
        start = (pixels - offset[0], pixels - offset[1], 0)
        return jax.lax.dynamic_slice(image, start, images.shape[1:])

    return jax.vmap(window)(padded, offsets)


def _resized_crop(key: Key[Array, ""], images: Images, min_scale: float) -> Images:
    batch, height, width, _ = images.shape
    dtype = at_least_float32(images.dtype)
    for_size, for_place = jax.random.split(key)
    proportions = jax.random.uniform(for_size, (batch,), dtype, min_scale, 1.0)
    corners = jax.random.uniform(for_place, (batch, 2), dtype)

    def window(
        image: Float[Array, "height width channels"], proportion: Float[Array, ""], corner: Float[Array, "2"]
    ) -> Float[Array, "height width channels"]:
        for axis, size in enumerate((height, width)):
            first = corner[axis] * (1 - proportion) * size
            places = first + proportion * (jnp.arange(size, dtype=dtype) + 0.5) - 0.5
            places = jnp.clip(places, 0, size - 1)
            below = jnp.floor(places)
            weights = jnp.expand_dims(places - below, tuple(i for i in range(3) if i != axis))
            low = below.astype(jnp.int32)
            lower, upper = (jnp.take(image, i, axis) for i in (low, jnp.minimum(low + 1, size - 1)))
            image = lower * (1 - weights) + upper * weights
        return image

    return _as_pixels(jax.vmap(window)(images.astype(dtype), proportions, corners), images)


def _noise(key: Key[Array, ""], images: Images, stddev: float) -> Images:
    dtype = at_least_float32(images.dtype)
    return _as_pixels(images.astype(dtype) + stddev * jax.random.normal(key, images.shape, dtype), images)


def _cutout(key: Key[Array, ""], images: Images, size: int) -> Images:
    batch, height, width, _ = images.shape

    def covered(key: Key[Array, ""], length: int) -> Bool[Array, "batch length"]:
        centres = jax.random.randint(key, (batch, 1), 0, length)
        places = jnp.arange(length)[None] - centres + size // 2
        return (places >= 0) & (places < size)

    for_rows, for_columns = jax.random.split(key)
    square = covered(for_rows, height)[:, :, None] & covered(for_columns, width)[:, None, :]
    return jnp.where(square[..., None], jnp.zeros_like(images), images)


def _as_pixels(values: Float[Array, "batch height width channels"], images: Images) -> Images:
    """Values in the dtype of the images; rounded and clipped for uint8."""
    if images.dtype == jnp.uint8:
        values = jnp.clip(jnp.round(values), 0, 255)
    return values.astype(images.dtype)
