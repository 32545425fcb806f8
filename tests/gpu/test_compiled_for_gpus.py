"""The kernels, compiled for GPUs that are not there by the compiler that JAX has for them."""

import importlib.util

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import topologies
from jax.sharding import AbstractDevice, AbstractMesh, SingleDeviceSharding, use_abstract_mesh

import rnn_jax as rnn

if not any(map(importlib.util.find_spec, ("jax_cuda13_plugin", "jax_cuda12_plugin"))):
    pytest.skip("needs the compiler for GPUs: pip install 'jax[cuda13]'", allow_module_level=True)

# KiB of shared memory for a program, compute capability, and multiprocessors.
GPUS = {"NVIDIA H100 80GB HBM3": (227, (9, 0), 132), "NVIDIA A100-SXM4-40GB": (163, (8, 0), 108)}
GPUS["NVIDIA L4"] = (99, (8, 9), 58)


def find_device(name):
    """A GPU to compile for."""
    shared, (major, minor), cores = GPUS[name]
    config = f"""
        gpu_device_info {{
          threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 1536 core_count: {cores}
          shared_memory_per_block: 49152 shared_memory_per_block_optin: {shared << 10}
          shared_memory_per_core: {(shared + 1) << 10} registers_per_core_limit: 65536 registers_per_block_limit: 65536
          block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535 fpus_per_core: 128
          memory_bandwidth: 300000000000 l2_cache_size: 41943040 clock_rate_ghz: 1.4 device_memory_size: 24000000000
          cuda_compute_capability {{ major: {major} minor: {minor} }}
        }}
        platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 10 }} runtime_version {{ major: 13 }}
        device_description_str: "{name}"
    """
    return topologies.get_topology_desc(platform="cuda", target_config=config, topology="1x1x1").devices[0]


@pytest.mark.parametrize(
    ("name", "cell", "dtype", "precision"),
    [
        ("NVIDIA H100 80GB HBM3", rnn.LSTM(128), jnp.float32, None),
        ("NVIDIA A100-SXM4-40GB", rnn.LSTM(256), jnp.float32, "bfloat16"),
        ("NVIDIA L4", rnn.LSTM(128), jnp.float32, None),
        ("NVIDIA L4", rnn.GRU(64), jnp.bfloat16, None),
    ],
)
def test_it_compiles(name, cell, dtype, precision):
    def draw():
        arrays = cell.init(jax.random.key(0), 28), jnp.zeros((28, 128, 28))
        return jax.tree.map(lambda a: a.astype(dtype), arrays)

    def value(params, xs):
        _, ys = rnn.unroll(cell, params, xs, implementation="pallas", precision=precision)
        return ys.astype(jnp.float32).sum()

    sharding = SingleDeviceSharding(find_device(name))
    args = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), jax.eval_shape(draw))
    with use_abstract_mesh(AbstractMesh((), (), abstract_device=AbstractDevice(name, None, "gpu"))):
        lowered = jax.jit(jax.grad(value)).trace(*args).lower(lowering_platforms=("cuda",))
    program = lowered.compile().as_text() or ""
    assert program.count('custom_call_target="__gpu$xla.gpu.triton"') == 2, "one kernel forwards, one back"
    assert " while(" not in program
