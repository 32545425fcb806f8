import sys
from importlib import metadata

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnn_jax as rnn
import train
from rnn_jax.cells import CELLS as NAMED_CELLS
from rnn_jax.cells.equations import offers_equations

CELLS = {
    **{name: row.make(4) for name, row in NAMED_CELLS.items()},
    "vanilla-relu": rnn.VanillaRNN(4, activation="relu"),
    "lstm-all-options": rnn.LSTM(4, peepholes=True, projection_size=3, cell_clip=0.5, projection_clip=0.3),
    "gru-reset-before": rnn.GRU(4, reset_after=False),
}

INPUT_SIZE = 3

# Flags of XLA that compile quickly. A program tries any such flags in another process first, which takes longer than
# they save: they are for the suite's own processes, and for notebooks. The last one keeps a tiny program in one piece,
# instead of a piece for each thread, and saves a fifth of the time.
QUICK_FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
QUICK_FLAGS += " --xla_cpu_parallel_codegen_split_count=1"
if metadata.version("jaxlib").startswith("0.10."):  # A later one ends at a flag that it does not know.
    QUICK_FLAGS += " --xla_cpu_use_fusion_emitters=false"


def is_fused(cell):
    """True for the cells that "fused" serves: they offer equations, and their parameters are vectors and matrices."""
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), INPUT_SIZE))
    return offers_equations(cell) and all(leaf.ndim <= 2 for leaf in jax.tree.leaves(params))


FUSED_CELLS = {name: cell for name, cell in CELLS.items() if is_fused(cell)}

# Compiled once for each cell and shape: the tests call it many times.
unroll = jax.jit(rnn.unroll, static_argnames=("cell", "reverse"))


def draw_params(cell_or_layer, seed=0):
    """Parameters with biases, gains and all away from their initial zeros and ones."""
    params = cell_or_layer.init(jax.random.key(seed), INPUT_SIZE)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    return jax.tree.unflatten(
        tree, [leaf + 0.3 * jax.random.normal(k, leaf.shape) for leaf, k in zip(leaves, keys, strict=True)]
    )


def draw_inputs(*shape, seed=2):
    return jax.random.normal(jax.random.key(seed), (*shape, INPUT_SIZE))


def draw_state(cell_or_layer, batch_shape=(), seed=3):
    """A state that is not the initial one, and such as the cell may come to: a normalizer n is positive."""
    leaves, tree = jax.tree.flatten(cell_or_layer.initial_state(batch_shape))
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    state = jax.tree.unflatten(
        tree, [0.4 * jax.random.normal(k, leaf.shape) for leaf, k in zip(leaves, keys, strict=True)]
    )
    return state._replace(n=1 + state.n**2) if hasattr(state, "n") else state


def assert_close(actual, expected, atol=1e-6, rtol=1e-6):
    """Compares two pytrees, structure and numbers."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(e), atol=atol, rtol=rtol)


def loss(outputs):
    """A smooth scalar that every number in a pytree matters to."""
    return sum(jnp.sum(jnp.sin(leaf + i)) for i, leaf in enumerate(jax.tree.leaves(outputs)))


def run_train(capsys, *argv):
    """Runs the command in this process; returns its exit status, and what `capsys` has of stdout and stderr."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", *map(str, argv)])
        status = train.main()
    return status, *(capsys.readouterr() if capsys else ("", ""))


def final_params(folder):
    """What a run has learned, as a list of arrays."""
    return [np.asarray(leaf) for leaf in jax.tree.leaves(rnn.load_run(folder).params)]
