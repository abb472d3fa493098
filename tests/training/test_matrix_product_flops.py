"""The work of a step, held against counts by hand."""

import jax
import jax.numpy as jnp
import numpy as np
from peers import flops_per_step

import momentum_jax as mj
from momentum_jax.training.compile import matrix_product_flops
from momentum_jax.training.waves import resolve_task
from tests.sweeps.small import (
    small,
)


def test_the_work_of_a_step_is_that_of_its_matrix_products():
    cfg = mj.Config()
    # Counted by hand from the widths of the layers.
    assert matrix_product_flops(cfg, resolve_task(cfg, None), cfg.batch_size) == flops_per_step()


def test_a_convolution_counts_as_the_products_that_it_is_forward_and_backward():
    def loss(params, x):
        for kernel in params:
            x = jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return x.mean()

    task = mj.Task(
        lambda key: (jnp.ones([3, 3, 2, 3]), jnp.ones([3, 3, 3, 5])), loss, np.ones([9, 8, 8, 2], np.float32)
    )
    # For each of 4 images: 16 places of 9·2·3 products, then 4 of 9·3·5. Forward twice, the gradients by both kernels,
    # and that by the inputs of the second.
    assert matrix_product_flops(small(), task, 4) == 2 * 4 * (3 * 16 * 9 * 2 * 3 + 4 * 4 * 9 * 3 * 5)
