"""ONNX: a network as a graph that runs without Python, in onnxruntime or anything else that reads the format.

LSTMs, GRUs and vanilla RNNs become ONNX's own nodes of these names:

| ours | node | weights |
|---|---|---|
| `LSTM`, also with peepholes | `LSTM` | gates i, o, f, c; peepholes i, o, f |
| `GRU(reset_after=True)` | `GRU(linear_before_reset=1)` | gates z, r, h |
| `GRU(reset_after=False)` | `GRU(linear_before_reset=0)` | gates z, r, h |
| `VanillaRNN` | `RNN` | its activation |

Every other cell becomes a `Scan` over its step, written primitive by primitive: projections, a clipped memory (ONNX's
`clip` limits the gates instead), layer normalization, zoneout, and cells of your own.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.base import Array, Cell, Layer, Params, State
from rnn_jax.cells import GRU, LSTM, VanillaRNN
from rnn_jax.convert.networks import reorder
from rnn_jax.convert.onnx_ops import Graph, nodes, write_function
from rnn_jax.layers import Bidirectional, BothWays, Recurrent, Residual, Stack, as_layer
from rnn_jax.regularization import Dropout, VariationalDropout
from rnn_jax.saving import find_input_size, name_arrays
from rnn_jax.sharding import TensorParallel
from rnn_jax.wrappers import LayerWrapper

_OPSET, _IR_VERSION = 18, 9  # old enough for the runtimes in use
_IOFC = (0, 3, 1, 2)  # of i, f, g, o
_ZRN = (1, 0, 2)  # of r, z, n


def to_onnx(net: Cell | Layer, params: Params) -> Any:
    """Writes a network as an ONNX model. Needs the package `onnx`, an extra of this one.

    Time and batch are free. Arrays are float32, whatever the dtype of the parameters, and nothing is random.

    | input | shape | default |
    |---|---|---|
    | `xs` | [T, B, D] | |
    | `lengths` | int32 [B] | all steps are valid |
    | `state.h`, `state.0.forward.c`, ...: each array of the state, by its path | [B, .] | the initial state |

    | output | shape |
    |---|---|
    | `ys`; `ys.forward` and `ys.backward` of `bidirectional(merge="both")` | [T, B, .] |
    | `final_state.h`, ... | [B, .] |

    To stream, pass the final state of each call to the next one as its state.

    Args:
      net: a cell or a layer.
      params: its parameters.

    Returns:
      An `onnx.ModelProto`, for `onnx.save`.

    Raises:
      ImportError: without the package.
      ValueError: for parameters of another network, a class of layer of your own, or a cell whose step needs an
        operator that ONNX lacks.
    """
    helper = _import_onnx("to_onnx").helper
    layer, input_size = as_layer(net), find_input_size(net, params)
    params = jax.tree.map(_to_float32, params)
    initial = jax.tree.map(np.asarray, layer.initial_state((1,), np.float32))
    defaults = name_arrays(initial, "state") | {"lengths": np.array([np.iinfo(np.int32).max], np.int32)}

    sequences = _read_inputs(Graph(), "xs", "lengths")
    graph = sequences.graph
    state = jax.tree.map(lambda name: _for_batch(sequences, name), _names(initial, "state"))
    results = _write_layer(sequences, layer, params, state, sequences.xs)
    for name, source in (name_arrays(results[0], "final_state") | name_arrays(results[1], "ys")).items():
        graph.nodes.append(helper.make_node("Identity", [source], [name], name=name))

    def info(name: str, like: Any, *axes: str) -> Any:
        return helper.make_tensor_value_info(name, _type_of(like.dtype), (*axes, *like.shape[len(axes) :]))

    xs = jax.ShapeDtypeStruct((1, 1, input_size), np.float32)
    final_state, ys = jax.eval_shape(layer.apply, params, xs)
    inputs = [info("xs", xs, "T", "B"), *(info(name, array, f"B of {name}") for name, array in defaults.items())]
    outputs = [info(name, like, "T", "B") for name, like in name_arrays(ys, "ys").items()]
    outputs += [info(name, like, "B") for name, like in name_arrays(final_state, "final_state").items()]
    return _make_model(graph, inputs, outputs, defaults, str(net))


@dataclasses.dataclass(frozen=True, eq=False)
class WithParams(LayerWrapper):
    """A layer with its parameters, which `function_to_onnx` writes as `to_onnx` does. `apply` ignores its `params`."""

    params: Params

    def apply(
        self,
        params: Params,
        xs: Array,
        state: State | None = None,
        *,
        lengths: Array | None = None,
        resets: Array | None = None,
        key: Array | None = None,
    ) -> tuple[State | None, Array]:
        """Stands for the layer: xs [T, B, D] -> (None, ys [T, B, H])."""
        lengths = jnp.asarray(np.iinfo(np.int32).max if lengths is None else lengths, jnp.int32)
        return None, nodes.bind(xs, jnp.atleast_1d(lengths), write=self._write, size=self.output_size)

    def _write(self, graph: Graph, xs: str, lengths: str) -> str:
        sequences = _read_inputs(graph, xs, lengths)
        initial = jax.tree.map(np.asarray, self.layer.initial_state((1,), np.float32))
        state = jax.tree.map(lambda array: _for_batch(sequences, graph.constant(array)), initial)
        params = jax.tree.map(_to_float32, self.params)
        return _write_layer(sequences, self.layer, params, state, sequences.xs)[1]


def function_to_onnx(function: Callable[..., Array], inputs: Mapping[str, Any], output: str) -> Any:
    """Writes a function of batches, such as a trained model with its scaling and its head. Needs the package `onnx`.

    Args:
      function: computes one array. Recurrent layers within it are `WithParams`.
      inputs: the shape and dtype of each argument by its name in the model. The first axis, and it alone, is symbolic.
      output: the name of the result.

    Returns:
      An `onnx.ModelProto`.

    Raises:
      ImportError: without the package.
      ValueError: for an operation that ONNX lacks.
    """
    helper, graph = _import_onnx("function_to_onnx").helper, Graph()
    likes = tuple(inputs.values())
    batch = graph.add("Shape", next(iter(inputs)), start=0, end=1)
    (result,) = write_function(graph, function, likes, list(inputs), batch)
    graph.nodes.append(helper.make_node("Identity", [result], [output], name=output))
    like = jax.eval_shape(function, *likes)
    infos = [
        helper.make_tensor_value_info(name, _type_of(a.dtype), ("N", *a.shape[1:]))
        for name, a in {**inputs, output: like}.items()
    ]
    return _make_model(graph, infos[:-1], infos[-1:], {}, "the function")


def _import_onnx(function: str) -> Any:
    """Imports onnx for a function."""
    try:
        import onnx

        return onnx
    except ImportError as error:
        raise ImportError(f"{function} needs the package onnx: pip install 'rnn_jax[onnx]'") from error


def _make_model(graph: Graph, inputs: Any, outputs: Any, defaults: Mapping[str, np.ndarray], what: str) -> Any:
    """Makes a model of a graph, and checks it."""
    import onnx
    from onnx import helper, numpy_helper

    initializers = [numpy_helper.from_array(array, name) for name, array in {**graph.constants, **defaults}.items()]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "rnn_jax", inputs, outputs, initializers),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="rnn_jax",
    )
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # Its own exceptions are of several classes.
        raise ValueError(f"{what} has a step that ONNX has no operators for: {error}") from error
    return model


def _to_float32(array: Any) -> np.ndarray:
    """Copies an array to NumPy, as float32 if it is floating-point."""
    return np.asarray(array, np.float32 if jnp.issubdtype(array.dtype, jnp.floating) else None)


def _names(tree: Any, root: str) -> Any:
    """Replaces each leaf of a pytree by its name."""
    return jax.tree.unflatten(jax.tree.structure(tree), list(name_arrays(tree, root)))


@dataclasses.dataclass(frozen=True)
class _Sequences:
    """The graph being written, and the names in it of everything that all layers read."""

    graph: Graph
    xs: str  # [T, B, D], zero in the padding
    lengths: str  # int32 [B]
    valid: str  # bool [T, B]
    is_empty: str  # bool [B, 1], where the length is 0
    batch: str  # int64 [1], the size of the batch


def _read_inputs(graph: Graph, xs: str, lengths: str) -> _Sequences:
    """Writes the nodes that prepare sequences and their lengths."""
    add, zero = graph.add, graph.constant(0, np.int32)
    num_steps, batch = add("Shape", xs, start=0, end=1), add("Shape", xs, start=1, end=2)
    # Range over int64, the dtype of sizes: onnxruntime refuses another one where it knows the size beforehand.
    steps = add("Range", graph.constant(0), add("Squeeze", num_steps), graph.constant(1))
    steps, num_steps = (add("Cast", name, to=_type_of(np.int32)) for name in (steps, num_steps))
    lengths = add("Min", add("Expand", lengths, batch), num_steps)
    valid = add("Less", add("Unsqueeze", steps, graph.sizes(1)), lengths)
    # Zeros in place of the padding: a NaN there must reach no output.
    xs = add("Where", add("Unsqueeze", valid, graph.sizes(2)), xs, graph.constant(0, np.float32))
    is_empty = add("Unsqueeze", add("Equal", lengths, zero), graph.sizes(1))
    return _Sequences(graph, xs, lengths, valid, is_empty, batch)


def _type_of(dtype: Any) -> int:
    """Returns ONNX's number of a dtype."""
    from onnx import helper

    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def _for_batch(s: _Sequences, state: str) -> str:
    """Repeats one array of a state, [1, ...], for each sequence of the batch; leaves one of [B, ...] alone."""
    rank = s.graph.add("Shape", s.graph.add("Shape", state))
    ones = s.graph.add("Expand", s.graph.sizes(1), s.graph.add("Sub", rank, s.graph.sizes(1)))
    return s.graph.add("Expand", state, s.graph.add("Concat", s.batch, ones, axis=0))


def _write_layer(s: _Sequences, layer: Any, params: Params, state: State, xs: str) -> tuple[State, Any]:
    """Writes a layer; returns the names of its final state and of its outputs."""
    match layer:
        case Recurrent():
            return _write_cell(s, layer.cell, params, state, xs, layer.reverse)
        case Stack():
            final = []
            for inner, inner_params, inner_state in zip(layer.layers, params, state, strict=True):
                inner_state, xs = _write_layer(s, inner, inner_params, inner_state, xs)
                final.append(inner_state)
            return tuple(final), xs
        case Bidirectional():
            directions = zip((layer.forward, layer.backward), params, state, strict=True)
            states, ys = zip(*(_write_layer(s, *direction, xs) for direction in directions), strict=True)
            merged = {
                "concat": lambda: s.graph.add("Concat", *ys, axis=2),
                "sum": lambda: s.graph.add("Add", *ys),
                "both": lambda: BothWays(*ys),
            }
            return BothWays(*states), merged[layer.merge]()
        case Residual():
            state, ys = _write_layer(s, layer.layer, params, state, xs)
            return state, s.graph.add("Add", xs, ys)
        case Dropout():
            return _write_layer(s, layer.layer, params, state, xs)
        case _:
            raise ValueError(f"to_onnx knows no layer like {layer}: it writes cells, and layers made of them")


def _write_cell(s: _Sequences, cell: Any, params: Any, state: Any, xs: str, reverse: bool) -> tuple[State, str]:
    """Writes a cell over a sequence, as ONNX's own node where it has one."""
    while isinstance(cell, TensorParallel | VariationalDropout):  # Neither changes a step without randomness.
        cell = cell.cell
    options = {"direction": "reverse" if reverse else "forward", "hidden_size": getattr(cell, "hidden_size", None)}
    if type(cell) is LSTM and cell.projection_size is None and cell.cell_clip is None:
        b = reorder(params.b, _IOFC)
        weights = [reorder(params.w_x, _IOFC).T, reorder(params.w_h, _IOFC).T, np.concatenate([b, np.zeros_like(b)])]
        peepholes = params.p and s.graph.constant([np.concatenate([params.p.i, params.p.o, params.p.f])])
        return _write_node(s, "LSTM", weights, state, xs, options, peepholes)
    if type(cell) is GRU and params.w_h.ndim == 2:
        b_h = np.zeros(cell.hidden_size, np.float32) if params.b_h is None else params.b_h
        biases = np.concatenate([reorder(params.b, _ZRN), np.zeros(2 * cell.hidden_size, np.float32), b_h])
        weights = [reorder(params.w_x, _ZRN).T, reorder(params.w_h, _ZRN).T, biases]
        return _write_node(s, "GRU", weights, state, xs, options | {"linear_before_reset": int(cell.reset_after)})
    if type(cell) is VanillaRNN:
        weights = [params.w_x.T, params.w_h.T, np.concatenate([params.b, np.zeros_like(params.b)])]
        return _write_node(s, "RNN", weights, state, xs, options | {"activations": [cell.activation.capitalize()]})
    return _write_scan(s, cell, params, state, xs, reverse)


def _write_node(
    s: _Sequences,
    op: str,
    weights: list[np.ndarray],
    state: Any,
    xs: str,
    options: dict[str, Any],
    peepholes: str | None = None,
) -> tuple[State, str]:
    """Writes one of ONNX's recurrent nodes, whose arrays have an axis of directions, here of size 1."""
    add, first = s.graph.add, s.graph.sizes(0)
    names = [s.graph.constant(weight[None], np.float32) for weight in weights]
    initial = [add("Unsqueeze", array, first) for array in state]
    inputs = [xs, *names, s.lengths, *initial, *([peepholes] if peepholes else [])]
    ys, *final = s.graph.add_many(op, inputs, 1 + len(state), **options)
    # Runtimes differ in the final state of a sequence of length 0.
    final = [add("Where", s.is_empty, old, add("Squeeze", new, first)) for old, new in zip(state, final, strict=True)]
    return type(state)(*final), add("Squeeze", ys, s.graph.sizes(1))


def _write_scan(s: _Sequences, cell: Any, params: Params, state: State, xs: str, reverse: bool) -> tuple[State, str]:
    """Writes a scan over a cell's step, which holds the state where a step is not valid."""
    from onnx import helper

    (B,) = jax.export.symbolic_shape("B")
    state_like = jax.tree.map(
        lambda like: jax.ShapeDtypeStruct((B, *like.shape[1:]), like.dtype),
        jax.eval_shape(lambda: cell.initial_state((1,), np.float32)),
    )
    params_like = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), params)
    input_size = find_input_size(cell, params)
    likes = (params_like, state_like, jax.ShapeDtypeStruct((B, input_size), np.float32))

    body = s.graph.inner()
    number = next(body.numbers)
    old = [f"old_{number}_{k}" for k in range(len(jax.tree.leaves(state)))]
    x, valid = f"x_{number}", f"valid_{number}"
    constants = [s.graph.constant(array) for array in jax.tree.leaves(params)]
    try:
        *new, y = write_function(body, cell.step, likes, [*constants, *old, x], s.batch)
    except ValueError as error:
        raise ValueError(f"to_onnx cannot write {cell}: {error}") from error

    like = [*jax.tree.leaves(state_like), jax.eval_shape(cell.step, *likes)[1]]
    zeros = s.graph.constant(0, like[-1].dtype)
    held = []
    for array, otherwise, a in zip([*new, y], [*old, zeros], like, strict=True):
        mask = body.add("Unsqueeze", valid, body.sizes(*range(1, len(a.shape))))
        held.append(body.add("Where", mask, array, otherwise))

    def info(name: str, a: Any) -> Any:
        return helper.make_tensor_value_info(name, _type_of(a.dtype), ("B", *a.shape[1:]))

    inputs = [info(name, a) for name, a in zip([*old, x], [*like[:-1], likes[-1]], strict=True)]
    inputs.append(info(valid, jax.ShapeDtypeStruct((B,), bool)))
    outputs = [info(name, a) for name, a in zip(held, like, strict=True)]
    *final, ys = s.graph.add_many(
        "Scan",
        [*jax.tree.leaves(state), xs, s.valid],
        len(held),
        body=helper.make_graph(body.nodes, f"step_{number}", inputs, outputs),
        num_scan_inputs=2,
        scan_input_directions=[int(reverse)] * 2,
        scan_output_directions=[int(reverse)],
    )
    return jax.tree.unflatten(jax.tree.structure(state), final), ys
