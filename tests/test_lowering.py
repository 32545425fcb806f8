"""Programs lowered on a machine that has only a CPU, for GPUs and TPUs."""

import functools

import jax
import jax.numpy as jnp
import pytest
from helpers import assert_close, draw_inputs, draw_params, loss
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

import rnn_jax as rnn
from rnn_jax.implementations.pallas import gpu

T, B = 4, 2
# JAX promises nothing about Triton's kernels in later versions, and exports them only to who renounces the promise.
TRITON = jax.export.DisabledSafetyCheck.custom_call("__gpu$xla.gpu.triton")
export = functools.partial(jax.export.export, disabled_checks=[TRITON])


def kernels(program):
    """How many kernels for GPUs, and for TPUs, a program calls."""
    return tuple(program.count(f"custom_call @{name}(") for name in ("__gpu$xla.gpu.triton", "tpu_custom_call"))


def lower(f, *args):
    """How many kernels a function of arrays is on a GPU, and on a TPU."""
    traced = jax.jit(f).trace(*args)
    on_gpu, on_tpu = (kernels(traced.lower(lowering_platforms=(name,)).as_text()) for name in ("cuda", "tpu"))
    return on_gpu, on_tpu


def value_of(layer, **options):
    """A function of parameters and inputs; of a cell's with lengths, backwards."""

    def value(params, xs):
        if isinstance(layer, rnn.LSTM | rnn.GRU | rnn.VanillaRNN):
            outputs = rnn.unroll(layer, params, xs, lengths=jnp.array([4, 2]), reverse=True, **options)
        else:
            outputs = layer.apply(params, xs)
        return loss(jax.tree.map(lambda a: a.astype(jnp.float32), outputs))

    return value


def gradients_of(value):
    return jax.value_and_grad(value, argnums=(0, 1))


@pytest.mark.parametrize(
    ("layer", "options", "dtype"),
    [
        (rnn.LSTM(3), {"precision": "bfloat16"}, jnp.float32),
        (rnn.GRU(3), {}, jnp.bfloat16),
        (rnn.bidirectional(rnn.VanillaRNN(3), implementation="pallas"), {}, jnp.float32),
    ],
    ids=["lstm", "gru", "vanilla both ways"],
)
def test_a_kernel_each_way_for_a_device_that_is_not_there(layer, options, dtype):
    value = value_of(layer, implementation="pallas", **options)
    args = jax.tree.map(lambda a: a.astype(dtype), (draw_params(layer), draw_inputs(T, B)))
    assert lower(gradients_of(value), *args) == ((2, 0), (0, 2))


def test_an_export_for_gpus_and_tpus_at_once():
    cell = rnn.VanillaRNN(3)
    value = jax.jit(value_of(cell, implementation="pallas", remat=2))
    exported = export(value, platforms=("cuda", "tpu"))(draw_params(cell), draw_inputs(T, B))
    assert exported.platforms == ("cuda", "tpu")
    assert kernels(exported.mlir_module()) == (1, 1)


def test_an_export_for_all_platforms_has_no_kernel_by_default():
    cell = rnn.LSTM(3)
    gradients, args = jax.jit(gradients_of(value_of(cell))), (draw_params(cell), draw_inputs(T, B))
    exported = export(gradients, platforms=("cpu", "cuda", "tpu"))(*args)
    assert kernels(exported.mlir_module()) == (0, 0)
    assert_close(exported.call(*args), gradients(*args))


def refused(f, *args, message="a GPU or a TPU, not a CPU"):
    with pytest.raises(ValueError, match=f'^implementation="pallas" needs {message}: leave it out, or use "scan"'):
        f(*args)


def test_a_cpu_has_no_kernels():
    cell, xs = rnn.VanillaRNN(3), draw_inputs(T, B)
    value, params = value_of(cell, implementation="pallas"), draw_params(cell)
    gradients = jax.jit(jax.grad(value, argnums=1))
    for f in (value, jax.grad(value), gradients, export(gradients, platforms=("cpu", "cuda"))):
        refused(f, params, xs)


def test_each_platform_has_its_reason():
    def lower_for(platform, cell):
        params, xs = jax.eval_shape(lambda: (cell.init(jax.random.key(0), 3), jnp.zeros((T, B, 3))))
        return jax.jit(value_of(cell, implementation="pallas")).trace(params, xs).lower(lowering_platforms=(platform,))

    assert kernels(lower_for("tpu", rnn.LSTM(256)).as_text()) == (0, 1)
    refused(lower_for, "cuda", rnn.LSTM(256), message="smaller recurrent weights than 4 gates of 256 KiB each")
    refused(lower_for, "rocm", rnn.LSTM(256), message="an NVIDIA GPU, not an AMD one")
    refused(lower_for, "tpu", rnn.LSTM(1024), message="a GPU.*; on cuda smaller rec.*; on tpu recurrent weights.*")
    refused(lower_for, "cuda", rnn.GRU(3, reset_after=False), message="a step that multiplies .*")


@pytest.mark.parametrize(
    ("name", "capability"),
    [
        ("NVIDIA A100-SXM4-40GB", "8.0"),
        ("NVIDIA GH200 480GB", "9.0"),
        ("NVIDIA L4", "8.6"),
        ("NVIDIA RTX A3000", "8.6"),
    ],
)
def test_the_gpu_to_lower_for_can_be_named(name, capability):
    assert gpu._compute_capability() == "9.0"
    with use_abstract_mesh(AbstractMesh((), (), abstract_device=AbstractDevice(name, None, "gpu"))):
        assert gpu._compute_capability() == capability
