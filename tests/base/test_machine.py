"""What is recorded of the machine."""

import jax
import pytest

from momentum_jax._base.machine import environment, provenance


@pytest.mark.parametrize("precision", [None, "float32", "bfloat16"])
def test_an_environment_has_the_precision_of_matrix_products_where_it_is_not_the_default(precision):
    device = jax.devices()[0]
    with jax.default_matmul_precision(precision):
        described = environment(device, "map")
    assert described.pop("matmul_precision", None) == precision
    assert described.keys() == {"jax", "jaxlib", "platform", "device", "instruction_set", "layout"}


def test_a_provenance_has_versions_devices_and_data():
    found = provenance(jax.devices(), {"source": "elsewhere"})
    assert found["versions"]["jax"] == jax.__version__
    assert (found["platform"], found["devices"]) == ("cpu", len(jax.devices()))
    assert found["data"] == {"source": "elsewhere"}
