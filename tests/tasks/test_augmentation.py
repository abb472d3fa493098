"""Augmentations against NumPy, pixel by pixel from the formulas and the same draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from momentum_jax._base.errors import InputError
from momentum_jax.tasks.augmentation import chain, cutout, flip, noise, resized_crop, shift
from tests.compiling import jit

KEY = jax.random.key(3)
LABELS = np.arange(8, dtype=np.int32)
BYTES = np.random.default_rng(0).integers(1, 256, (8, 6, 5, 3), dtype=np.uint8)
FLOATS = np.random.default_rng(1).normal(size=(8, 6, 5)).astype(np.float32)
ALL = {
    "flip": flip(),
    "shift": shift(2),
    "resized_crop": resized_crop(0.4),
    "noise": noise(3.0),
    "cutout": cutout(3),
    "chain": chain(flip(), shift(1)),
}
FLAT = {
    "flip": flip((6, 5, 3)),
    "shift": shift(2, (6, 5, 3)),
    "resized_crop": resized_crop(0.4, (6, 5, 3)),
    "noise": noise(3.0),
    "cutout": cutout(3, (6, 5, 3)),
    "chain": chain(flip((6, 5, 3)), shift(1, (6, 5, 3))),
}


def images_of(augmentation, images, key=KEY):
    return np.asarray(jit(augmentation)(key, (images, LABELS[: len(images)]))[0])


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("images", [BYTES, FLOATS], ids=["uint8", "float32"])
def test_every_augmentation_keeps_shapes_dtypes_and_labels_and_changes_examples_by_the_key(name, images):
    augment = jit(ALL[name])
    augmented, labels = augment(KEY, (images, LABELS))
    assert augmented.shape == images.shape
    assert augmented.dtype == images.dtype
    np.testing.assert_array_equal(labels, LABELS)
    np.testing.assert_array_equal(augment(KEY, (images, LABELS))[0], augmented)
    others = [np.asarray(augment(jax.random.key(seed), (images, LABELS))[0]) for seed in range(3)]
    assert any((other != augmented).any() for other in others)


@pytest.mark.parametrize("name", ALL)
def test_examples_of_one_batch_get_draws_of_their_own(name):
    same = np.broadcast_to(BYTES[:1], BYTES.shape)
    augmented = images_of(ALL[name], same)
    assert len({image.tobytes() for image in augmented}) > 1


@pytest.mark.parametrize("name", ALL)
def test_flattened_images_change_as_others_do(name):
    flat = images_of(FLAT[name], BYTES.reshape(8, -1))
    expected = images_of(ALL[name], BYTES)
    # The draws of noise follow the shape of its images.
    if name == "noise":
        assert flat.shape == (8, 90)
        assert 0 < np.abs(flat.astype(int) - BYTES.reshape(8, -1)).mean() < 9
    else:
        np.testing.assert_array_equal(flat.reshape(BYTES.shape), expected)


def test_a_flip_mirrors_the_columns_of_half_of_the_images():
    mirrored = np.asarray(jax.random.bernoulli(KEY, shape=(8,)))
    assert 0 < mirrored.sum() < 8
    expected = np.where(mirrored[:, None, None, None], BYTES[:, :, ::-1], BYTES)
    augmented = images_of(flip(), BYTES)
    np.testing.assert_array_equal(augmented, expected)
    # Twice with the same key is not at all.
    np.testing.assert_array_equal(images_of(flip(), augmented), BYTES)


@pytest.mark.parametrize("images", [BYTES, FLOATS], ids=["uint8", "float32"])
def test_a_shift_is_numpys_roll_with_zeros_where_it_wraps(images):
    offsets = np.asarray(jax.random.randint(KEY, (8, 2), -2, 3))
    assert {*offsets.reshape(-1).tolist()} == {-2, -1, 0, 1, 2}
    expected = np.roll(images, 0)
    for image, (rows, columns) in zip(expected, offsets, strict=True):
        rolled = np.roll(image, (rows, columns), axis=(0, 1))
        for axis, offset in enumerate((rows, columns)):
            wrapped = np.moveaxis(rolled, axis, 0)
            wrapped[slice(0, offset) if offset >= 0 else slice(offset, None)] = 0
        image[...] = rolled
    np.testing.assert_array_equal(images_of(shift(2), images), expected)


def bilinear(image, proportion, corner):
    """The value at each place from its four neighbours, in float64."""
    height, width = image.shape[:2]
    result = np.zeros(image.shape)
    for i in range(height):
        for j in range(width):
            y = np.clip(corner[0] * (1 - proportion) * height + proportion * (i + 0.5) - 0.5, 0, height - 1)
            x = np.clip(corner[1] * (1 - proportion) * width + proportion * (j + 0.5) - 0.5, 0, width - 1)
            for row in range(height):
                for column in range(width):
                    weight = max(0, 1 - abs(y - row)) * max(0, 1 - abs(x - column))
                    result[i, j] += weight * image[row, column]
    return result


def test_a_crop_is_the_bilinear_enlargement_of_a_window():
    sizes, places = jax.random.split(KEY)
    proportions = np.asarray(jax.random.uniform(sizes, (8,), minval=0.4), np.float64)
    corners = np.asarray(jax.random.uniform(places, (8, 2)), np.float64)
    cases = list(zip(FLOATS.astype(np.float64), proportions, corners, strict=True))
    expected = np.stack([bilinear(*case) for case in cases])
    # float32 against float64: places of size 6 are off by 5e-7, times a slope of at most 5.
    np.testing.assert_allclose(images_of(resized_crop(0.4), FLOATS), expected, atol=5e-6)
    # Integers are rounded to the nearest one.
    of_bytes = images_of(resized_crop(0.4), BYTES).astype(float)
    in_floats = images_of(resized_crop(0.4), BYTES.astype(np.float32))
    np.testing.assert_array_equal(of_bytes, np.round(in_floats))


def test_a_crop_of_everything_changes_nothing():
    np.testing.assert_array_equal(images_of(resized_crop(1.0), BYTES), BYTES)


def test_noise_is_gaussian_in_units_of_pixels_and_clipped_and_rounded_for_uint8():
    draws = np.asarray(jax.random.normal(KEY, BYTES.shape), np.float64)
    expected = np.clip(np.round(BYTES + 40.0 * draws), 0, 255)
    augmented = images_of(noise(40.0), BYTES)
    assert (expected == 255).any()
    # A sum in float32 can lie on the other side of a half.
    np.testing.assert_allclose(augmented, expected, atol=1)
    assert (augmented == expected).mean() > 0.99
    draws = np.asarray(jax.random.normal(KEY, (*FLOATS.shape, 1)))[..., 0]
    np.testing.assert_allclose(images_of(noise(2.0), FLOATS), FLOATS + 2 * draws, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 3, 20])
def test_cutout_sets_a_square_around_a_random_pixel_to_zero(size):
    keys = jax.random.split(KEY)
    rows, columns = (
        np.asarray(jax.random.randint(key, (8, 1), 0, n))[:, 0] for key, n in zip(keys, (6, 5), strict=True)
    )
    expected = BYTES.copy()
    for image, row, column in zip(expected, rows, columns, strict=True):
        top, left = row - size // 2, column - size // 2
        image[max(top, 0) : top + size, max(left, 0) : left + size] = 0
    np.testing.assert_array_equal(images_of(cutout(size), BYTES), expected)


def test_a_chain_gives_each_augmentation_a_key_of_its_own():
    first, second = jax.random.split(KEY)
    expected = images_of(cutout(2), images_of(shift(1), BYTES, first), second)
    np.testing.assert_array_equal(images_of(chain(shift(1), cutout(2)), BYTES), expected)


def test_equal_arguments_give_the_same_function():
    assert flip([6, 5]) is flip((6, 5))
    assert shift(np.int64(2)) is shift(2)
    assert resized_crop(0.5) is resized_crop()
    assert chain(flip(), noise(1)) is chain(flip(), noise(1.0))
    assert shift(1) is not shift(2)
    assert shift(1) is not cutout(1)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("name", ALL)
def test_floats_of_every_width_remain_what_they_are(name, dtype):
    assert images_of(ALL[name], jnp.asarray(FLOATS, dtype)).dtype == dtype


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ALL)
def test_float64_images_change_in_float64(name):
    assert images_of(ALL[name], FLOATS.astype(np.float64)).dtype == np.float64
    assert images_of(ALL[name], BYTES).dtype == np.uint8


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: flip((28,)), r"shape must be \(height, width\) or \(height, width, channels\), not \(28,\)"),
        (lambda: flip(28), r"shape must be \(height, width\).*not 28"),
        (lambda: flip((28, 0)), "the width in shape must be an integer of at least 1, not 0"),
        (lambda: shift(0), "pixels must be an integer of at least 1, not 0"),
        (lambda: shift(1.5), "pixels must be an integer of at least 1, not 1.5"),
        (lambda: resized_crop(0), "min_scale must be more than 0"),
        (lambda: resized_crop(1.5), r"min_scale must be in \[0, 1\], not 1.5"),
        (lambda: noise(-1), "stddev must be finite and at least 0, not -1"),
        (lambda: noise(float("nan")), "stddev must be finite"),
        (lambda: cutout(True), "size must be an integer of at least 1, not True"),
        (lambda: chain(), "chain needs at least one augmentation"),
        (lambda: chain("flip"), r"chain takes functions of \(key, batch\), such as flip\(\), not 'flip'"),
    ],
)
def test_wrong_hyperparameters_are_refused_by_name(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("augmentation", "images", "message"),
    [
        (flip(), BYTES.reshape(8, -1), r"images with 90 features are flattened: give shape=\(height, width\)"),
        (flip((6, 6)), BYTES, r"images of shape \(6, 5, 3\) do not fit shape=\(6, 6\)"),
        (cutout(2, (9, 9)), BYTES.reshape(8, -1), r"images of shape \(90,\) do not fit shape=\(9, 9\)"),
        (flip(), FLOATS[0, 0], r"images must be \[batch, height, width\] with or without channels, not \[5\]"),
        (flip(), FLOATS.astype(np.int32), "images to augment must be uint8 or float, not int32"),
        (shift(5), FLOATS, "a shift by 5 pixels can move an image of 6 × 5 pixels out of sight"),
    ],
)
def test_images_that_do_not_fit_are_refused_before_anything_compiles(augmentation, images, message):
    with pytest.raises(InputError, match=message):
        jax.eval_shape(augmentation, KEY, (images, LABELS))
