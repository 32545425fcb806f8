"""The training step that `fit` calls, compiled for TPUs by the TPU's own compiler: what it sends between chips."""

import pytest

pytest.importorskip("libtpu", reason="needs the TPU's compiler: pip install libtpu")

import rnn_jax as rnn
from benchmarks.tpu import (
    BATCH_PER_CHIP,
    FEW_IMAGES,
    HBM,
    NETWORKS,
    TOPOLOGIES,
    all_reduce_seconds,
    bytes_per_chip,
    compile_steps,
    num_params,
    read_program,
)


@pytest.mark.parametrize("chips", [4, 256])
@pytest.mark.parametrize(("cell", "precision"), list(NETWORKS))
def test_gradients_are_reduced_once_in_a_step(cell, precision, chips):
    encoder = NETWORKS[cell, precision]
    # Few images: for MNIST's, the compiler spends ten seconds on drawing their order.
    compiled = compile_steps(encoder, TOPOLOGIES[chips], BATCH_PER_CHIP * chips, FEW_IMAGES)
    program = read_program(compiled.as_text())
    assert program.step.collectives == [("all-reduce", num_params(encoder))]
    assert program.call.collectives == [("all-reduce", 2)], "loss and accuracy, after all steps"
    assert len(program.time_loops) == (4 if cell == "bidirectional-lstm" else 2), (
        "forwards and backwards in each direction"
    )
    assert not any(loop.collectives for loop in program.time_loops)
    exchange = all_reduce_seconds(TOPOLOGIES[chips], 4 * num_params(encoder))
    assert 0 < exchange < program.step_seconds < 1e-2
    print(
        f"{bytes_per_chip(compiled) / 1e6:.1f} MB a chip; a step {1e6 * program.step_seconds:.0f} µs, its all-reduce "
        f"{1e6 * exchange:.0f} µs; all with each loop taken once "
        f"{1e6 * compiled.cost_analysis()['optimal_seconds']:.0f} µs"
    )


def test_the_whole_of_mnist_fits():
    encoder = NETWORKS["lstm", None]
    compiled = compile_steps(encoder, "2x2", 4 * BATCH_PER_CHIP)
    assert read_program(compiled.as_text()).step.collectives == [("all-reduce", num_params(encoder))]
    assert bytes_per_chip(compiled) < 0.1 * HBM


def test_chips_that_share_matrices_need_less_memory_and_send_none_in_the_loops_over_time():
    units, batch = 512, 8
    encoder = rnn.stack(*2 * [rnn.tensor_parallel(rnn.LSTM(units))])
    alone = compile_steps(encoder, "1x1", batch, FEW_IMAGES)
    shared = compile_steps(encoder, "2x2", batch, FEW_IMAGES, model_devices=4)
    assert shared.memory_analysis().argument_size_in_bytes < 0.3 * alone.memory_analysis().argument_size_in_bytes
    loops = read_program(shared.as_text()).time_loops
    sent = [numbers for loop in loops for _, numbers in loop.collectives]
    assert sent
    assert max(sent) <= 2 * 4 * batch * units < units * units / 4, "at most what both terms of four gates add up to"
