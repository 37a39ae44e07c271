"""A device by its name."""

import pytest

from gs_ssd import devices
from gs_ssd.errors import UserError


@pytest.mark.parametrize("name", ["cuda:99", "toaster", "meta", "mps"])
def test_a_device_that_is_not_there_is_named(name):
    with pytest.raises(UserError, match=f"device={name}") as caught:
        devices.choose(name)
    assert len(str(caught.value)) < 200


def test_the_cpu_is_always_there():
    assert devices.choose("cpu").type == "cpu"
    assert devices.choose("auto").type in ("cpu", "cuda")
