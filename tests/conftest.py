import gc
import os
import tempfile
from unittest import mock

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import hypothesis
import jax
import pytest
from helpers import CELLS, QUICK_FLAGS

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_num_cpu_devices", 8)
# The suite compiles a thousand tiny programs and runs each for microseconds: optimizing them would take longer than it
# saves.
if os.environ["JAX_PLATFORMS"] == "cpu" and "XLA_FLAGS" not in os.environ:
    with mock.patch.dict(os.environ, XLA_FLAGS=QUICK_FLAGS):
        jax.devices()
# What this process compiles again, in another jitted function, it finds here. Other processes have no part in it: JAX
# writes its entries without a lock, and some of the suite's processes are killed.
programs = tempfile.TemporaryDirectory(prefix="rnn_jax_tests_")
jax.config.update("jax_compilation_cache_dir", programs.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.02)
# Tracing allocates much of which nothing is garbage: by default, the collector takes a tenth of the suite's time.
gc.freeze()
gc.set_threshold(50_000)
# No deadline: hypothesis would mistake compilation for slowness.
hypothesis.settings.register_profile("default", deadline=None, max_examples=20, derandomize=True)
hypothesis.settings.load_profile("default")


@pytest.fixture(scope="session", autouse=True)
def compiled_quickly():
    """Lets the processes that tests start compile as quickly; a test of a user's first steps takes it back."""
    with programs, mock.patch.dict(os.environ, JAX_DISABLE_MOST_OPTIMIZATIONS="1"):
        yield


@pytest.fixture(scope="module", autouse=True)
def programs_freed():
    """Frees a module's compiled programs: the suite's need more memory maps than the 65,530 that Linux allows."""
    yield
    jax.clear_caches()


@pytest.fixture(params=list(CELLS.values()), ids=list(CELLS))
def cell(request):
    return request.param
