"""Wrappers are known by their structure: a field `cell` or `layer`."""

import dataclasses

import jax
import pytest
from helpers import INPUT_SIZE, assert_close, draw_inputs, draw_params

import rnn_jax as rnn
from rnn_jax.cells import CELLS
from rnn_jax.convert import from_torch, to_torch
from rnn_jax.wrappers import CellWrapper, within


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Negated(CellWrapper):
    """A user's wrapper: the output is negated."""

    def step(self, params, state, x):
        state, y = self.cell.step(params, state, x)
        return state, -y


LSTM = rnn.LSTM(4)
WRAPPERS = [
    rnn.Recurrent(LSTM),
    rnn.tensor_parallel(LSTM),
    rnn.zoneout(LSTM, h=0.1),
    rnn.variational_dropout(LSTM, inputs=0.1),
    rnn.dropout(rnn.tensor_parallel(LSTM), 0.1),
    Negated(LSTM),
]


@pytest.mark.parametrize("net", WRAPPERS, ids=lambda net: type(net).__name__)
def test_converters_see_through_every_wrapper(net):
    params = draw_params(LSTM)
    weights = to_torch(net, params)
    assert_close(from_torch(net, weights), params, atol=1e-6)
    both = rnn.stack(net, net)
    assert len(from_torch(both, to_torch(both, both.init(jax.random.key(0), 4)))) == 2


@pytest.mark.parametrize("net", [*WRAPPERS, rnn.residual(rnn.LSTM(INPUT_SIZE))], ids=lambda net: type(net).__name__)
def test_sizes_parameters_and_state_are_those_within(net):
    inner = within(net)
    assert net.output_size == inner.output_size
    key = jax.random.key(0)
    assert_close(net.init(key, INPUT_SIZE), inner.init(key, INPUT_SIZE), atol=0)
    assert_close(net.initial_state((2,)), inner.initial_state((2,)), atol=0)


def test_nothing_is_within_a_cell_or_a_network_of_several():
    assert [within(net) for net in (LSTM, rnn.stack(LSTM), rnn.bidirectional(LSTM))] == [None] * 3


def test_a_user_s_wrapper_unrolls():
    params, xs = draw_params(LSTM), draw_inputs(5, 2)
    assert_close(rnn.unroll(Negated(LSTM), params, xs)[1], -rnn.unroll(LSTM, params, xs)[1])


@pytest.mark.parametrize("name", list(CELLS))
def test_a_row_of_cells_describes_its_cell(name):
    row = CELLS[name]
    cell = row.make(4, {"initializer": "orthogonal", "an option of another cell": 1})
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    assert (type(cell), type(params)) == (row.cell, row.params)
    assert all(getattr(cell, option) == value for option, value in row.options.items())
    if row.gates is not None:
        assert [leaf.shape for leaf in params[:3]] == [
            (INPUT_SIZE, 4 * row.gates),
            (4, 4 * row.gates),
            (4 * row.gates,),
        ]


def test_every_public_wrapper_of_the_library_is_exported():
    modules = (rnn.layers, rnn.regularization, rnn.sharding)  # type: ignore
    defined = {
        name
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__ and hasattr(value, "init")
    }
    assert defined - {"RegularizedCell"} <= set(rnn.__all__)
