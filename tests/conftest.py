import os
from importlib import metadata
from unittest import mock

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import hypothesis
import jax
import pytest
from helpers import CELLS

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_num_cpu_devices", 8)
# The suite compiles a thousand tiny programs and runs each for microseconds: optimizing them would take longer than it
# saves. The processes that it starts, and notebooks, are left as a user's are.
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
if metadata.version("jaxlib").startswith("0.10."):  # A later one ends at a flag that it does not know.
    QUICK += " --xla_cpu_use_fusion_emitters=false"
if os.environ["JAX_PLATFORMS"] == "cpu" and "XLA_FLAGS" not in os.environ:
    with mock.patch.dict(os.environ, XLA_FLAGS=QUICK):
        jax.devices()
# No deadline: hypothesis would mistake compilation for slowness.
hypothesis.settings.register_profile("default", deadline=None, max_examples=20, derandomize=True)
hypothesis.settings.load_profile("default")


@pytest.fixture(params=list(CELLS.values()), ids=list(CELLS))
def cell(request):
    return request.param
