"""Writes functions of JAX as ONNX nodes: a table of primitives, and a walk over the equations of a jaxpr.

One dimension may be symbolic, the batch. Every other shape is known when the graph is written. ONNX has no operators
for complex numbers, so a complex array is a pair of names here, of its real and of its imaginary part.
"""

import dataclasses
import itertools
import string
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from jax.extend import core

_CALLS = ("jit", "pjit", "closed_call", "core_call", "remat", "checkpoint", "custom_jvp_call", "custom_vjp_call")
_IDENTITIES = ("copy", "copy_p", "stop_gradient", "sharding_constraint", "optimization_barrier", "reduce_precision")
_INT64 = 7  # ONNX's number of the dtype
_ELEMENTWISE = {
    "abs": "Abs",
    "add": "Add",
    "add_any": "Add",
    "and": "And",
    "cos": "Cos",
    "div": "Div",
    "eq": "Equal",
    "erf": "Erf",
    "exp": "Exp",
    "floor": "Floor",
    "ge": "GreaterOrEqual",
    "gt": "Greater",
    "le": "LessOrEqual",
    "log": "Log",
    "logistic": "Sigmoid",
    "lt": "Less",
    "max": "Max",
    "min": "Min",
    "mul": "Mul",
    "neg": "Neg",
    "not": "Not",
    "or": "Or",
    "pow": "Pow",
    "sign": "Sign",
    "sin": "Sin",
    "sqrt": "Sqrt",
    "sub": "Sub",
    "tanh": "Tanh",
}
_PART_BY_PART = (
    *("add", "add_any", "sub", "neg", "select_n", "reduce_sum", "cumsum"),
    *("broadcast_in_dim", "concatenate", "expand_dims", "gather", "reshape", "slice", "split", "squeeze"),
    *("stack", "tile", "transpose", "unstack"),
)
_REDUCTIONS = {"reduce_max": "ReduceMax", "reduce_min": "ReduceMin", "reduce_sum": "ReduceSum"}


class Complex(NamedTuple):
    """The names of the parts of a complex array."""

    real: str
    imag: str


Value: TypeAlias = str | Complex

# Stands in a function for nodes that `write(graph, *inputs)` writes: the first input with `size` features.
nodes = core.Primitive("nodes")
nodes.def_abstract_eval(lambda x, *_, write, size: x.update(shape=(*x.shape[:-1], size)))


@dataclasses.dataclass
class Graph:
    """Nodes being written, and the constants that they share with the graphs within them."""

    nodes: list[Any] = dataclasses.field(default_factory=list)
    constants: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    numbers: Iterator[int] = dataclasses.field(default_factory=itertools.count)

    def inner(self) -> "Graph":
        """Returns an empty graph for the body of a node, which may use the names of this one."""
        return Graph([], self.constants, self.numbers)

    def constant(self, value: Any, dtype: Any = None) -> str:
        """Adds a constant."""
        name = f"constant_{next(self.numbers)}"
        self.constants[name] = np.asarray(value, dtype)
        return name

    def sizes(self, *values: int) -> str:
        """Adds a constant vector of sizes, axes or indices."""
        return self.constant(values, np.int64)

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node with one output, and returns the output's name."""
        return self.add_many(op, inputs, 1, **attributes)[0]

    def add_many(self, op: str, inputs: Sequence[str], num_outputs: int, **attributes: Any) -> list[str]:
        """Adds a node with several outputs, and returns their names."""
        from onnx import helper

        number = next(self.numbers)
        outputs = [f"{op}_{number}" if k == 0 else f"{op}_{number}_{k}" for k in range(num_outputs)]
        self.nodes.append(helper.make_node(op, inputs, outputs, name=outputs[0], **attributes))
        return outputs


def write_function(
    graph: Graph, function: Callable[..., Any], like: Any, inputs: Sequence[str], batch: str
) -> list[str]:
    """Writes a function of arrays.

    Args:
      graph: the graph to write into.
      function: the function.
      like: the shapes of its arguments, a tuple of pytrees of `jax.ShapeDtypeStruct`.
      inputs: the names of the arguments' arrays, in the order of `jax.tree.leaves`.
      batch: the name of a vector with the batch size alone.

    Returns:
      The names of the results' arrays.

    Raises:
      ValueError: for a primitive that has no like in ONNX.
    """
    closed = jax.make_jaxpr(function)(*like)
    return _write(graph, closed.jaxpr, [*(_constant(graph, const) for const in closed.consts), *inputs], batch)


def _write(graph: Graph, jaxpr: Any, inputs: Sequence[Value], batch: str) -> list[Any]:
    """Writes the equations of a jaxpr; `inputs` begin with its constants."""
    names: dict[Any, Value] = dict(zip([*jaxpr.constvars, *jaxpr.invars], inputs, strict=True))

    def read(atom: Any) -> Value:
        if isinstance(atom, core.Literal):
            return _constant(graph, np.asarray(atom.val, atom.aval.dtype))  # type: ignore
        return names[atom]

    for equation in jaxpr.eqns:
        outputs = _write_equation(graph, equation, [read(atom) for atom in equation.invars], batch)
        names |= dict(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _constant(graph: Graph, value: Any) -> Value:
    """Adds a constant, real or complex."""
    if np.iscomplexobj(value):
        return Complex(graph.constant(np.real(value)), graph.constant(np.imag(value)))
    return graph.constant(value)


def _write_equation(graph: Graph, equation: Any, inputs: list[Any], batch: str) -> list[Any]:
    """Writes one equation, and returns the names of its outputs."""
    primitive = equation.primitive.name
    if primitive == "complex":
        return [Complex(*inputs)]
    if primitive not in (*_CALLS, *_IDENTITIES) and any(isinstance(value, Complex) for value in inputs):
        return _write_complex(graph, equation, inputs, batch)
    if primitive in _IDENTITIES:
        return inputs
    if primitive in _CALLS:
        inner = next(equation.params[name] for name in ("jaxpr", "call_jaxpr", "fun_jaxpr") if name in equation.params)
        consts = [_constant(graph, const) for const in getattr(inner, "consts", ())]
        return _write(graph, getattr(inner, "jaxpr", inner), [*consts, *inputs], batch)
    if primitive in _ELEMENTWISE:
        return [graph.add(_ELEMENTWISE[primitive], *inputs)]
    if primitive in _REDUCTIONS:
        return [graph.add(_REDUCTIONS[primitive], inputs[0], graph.sizes(*equation.params["axes"]), keepdims=0)]
    if primitive in _RULES:
        outputs = _RULES[primitive](_Call(graph, equation, batch), *inputs)
        return [outputs] if isinstance(outputs, str) else outputs
    raise ValueError(f"the exporter knows no ONNX operator for JAX's {primitive}")


def _write_complex(graph: Graph, equation: Any, inputs: list[Any], batch: str) -> list[Any]:
    """Writes one equation with complex inputs in real operators."""
    primitive, add, x = equation.primitive.name, graph.add, inputs[0]
    if primitive in ("real", "imag"):
        return [getattr(x, primitive)]
    if primitive == "conj":
        return [Complex(x.real, add("Neg", x.imag))]
    if primitive == "mul":
        y = inputs[1]
        real = add("Sub", add("Mul", x.real, y.real), add("Mul", x.imag, y.imag))
        return [Complex(real, add("Add", add("Mul", x.real, y.imag), add("Mul", x.imag, y.real)))]
    if primitive == "exp":
        size = add("Exp", x.real)
        return [Complex(add("Mul", size, add("Cos", x.imag)), add("Mul", size, add("Sin", x.imag)))]
    if primitive in _PART_BY_PART:
        parts = [
            _write_equation(graph, equation, [getattr(v, part) if isinstance(v, Complex) else v for v in inputs], batch)
            for part in Complex._fields
        ]
        return [Complex(*pair) for pair in zip(*parts, strict=True)]
    raise ValueError(f"the exporter knows no ONNX operator for JAX's {primitive} of complex numbers")


@dataclasses.dataclass
class _Call:
    """One equation, for the rules below."""

    graph: Graph
    equation: Any
    batch: str

    def __getattr__(self, name: str) -> Any:
        """Returns a parameter of the equation."""
        return self.equation.params[name]

    @property
    def shape(self) -> tuple[Any, ...]:
        """The shape of the first input."""
        return self.equation.invars[0].aval.shape

    @property
    def out_shape(self) -> tuple[Any, ...]:
        """The shape of the first output."""
        return self.equation.outvars[0].aval.shape

    def number(self, value: float) -> str:
        """Adds a constant with the dtype of the first input."""
        return self.graph.constant(value, self.equation.invars[0].aval.dtype)


Rule: TypeAlias = Callable[..., str | list[str]]


def _is_known(size: Any) -> bool:
    return isinstance(size, int)


def _reshape(call: _Call, x: str, shape: Sequence[Any] | None = None) -> str:
    """Reshapes to a shape with at most one symbolic size."""
    shape = call.out_shape if shape is None else shape
    if sum(not _is_known(size) for size in shape) > 1:
        raise ValueError(f"the exporter knows one free axis, the batch, not {shape}")
    return call.graph.add("Reshape", x, call.graph.sizes(*(size if _is_known(size) else -1 for size in shape)))


def _broadcast_in_dim(call: _Call, x: str, *_: str) -> str:
    axes, target = call.broadcast_dimensions, call.out_shape
    aligned = [1] * len(target)
    for axis, size in zip(axes, call.shape, strict=True):
        aligned[axis] = size
    if len(call.shape) != len(target):
        x = _reshape(call, x, aligned)
    if tuple(aligned) == tuple(target):
        return x
    # Expand leaves an axis as it is where 1 is asked for.
    parts = [
        call.graph.sizes(1 if have == want else want) if _is_known(want) or have == want else call.batch
        for have, want in zip(aligned, target, strict=True)
    ]
    return call.graph.add("Expand", x, call.graph.add("Concat", *parts, axis=0))


def _slice(call: _Call, x: str) -> str:
    strides = call.strides or (1,) * len(call.shape)
    cut = [
        (axis, start, stop, stride)
        for axis, (start, stop, stride, size) in enumerate(
            zip(call.start_indices, call.limit_indices, strides, call.shape, strict=True)
        )
        if (start, stride) != (0, 1) or stop != size
    ]
    if not cut:
        return x
    axes, starts, stops, strides = (call.graph.sizes(*values) for values in zip(*cut, strict=True))
    return call.graph.add("Slice", x, starts, stops, axes, strides)


def _gather(call: _Call, x: str, indices: str) -> str:
    """Cuts one block at computed indices; JAX writes so every slice of an array with a symbolic size."""
    axes = call.dimension_numbers.start_index_map
    picked = _pick(call, x, indices)
    if picked is not None:
        return picked
    whole = all(
        cut == size
        for axis, (cut, size) in enumerate(zip(call.slice_sizes, call.shape, strict=True))
        if axis not in axes
    )
    if len(call.equation.invars[1].aval.shape) != 1 or not whole:
        raise ValueError("the exporter knows no ONNX operator for indexing by an array")
    add, sizes = call.graph.add, call.graph.sizes
    starts = add("Cast", indices, to=_INT64)
    stops = add("Add", starts, sizes(*(call.slice_sizes[axis] for axis in axes)))
    x = add("Slice", x, starts, stops, sizes(*axes))
    collapsed = call.dimension_numbers.collapsed_slice_dims
    return add("Squeeze", x, sizes(*collapsed)) if collapsed else x


def _pick(call: _Call, x: str, indices: str) -> str | None:
    """Picks by a vector of indices along one axis, or along the first axis by `take_along_axis`; None otherwise."""
    numbers, shape = call.dimension_numbers, call.equation.invars[1].aval.shape
    (axis, *others), (*_, last) = numbers.start_index_map, shape
    if others or last != 1 or numbers.collapsed_slice_dims != (axis,):
        return None
    add, sizes, ndim = call.graph.add, call.graph.sizes, len(call.shape)
    rest = tuple(k for k in range(ndim) if k != axis)
    batching = numbers.operand_batching_dims
    if not batching and len(shape) == 2 and numbers.offset_dims == rest:
        return add("Gather", x, add("Squeeze", indices, sizes(1)), axis=axis)
    if (
        axis == 0
        and len(shape) == ndim
        and batching == numbers.start_indices_batching_dims == tuple(range(1, ndim - 1))
    ):
        indices = add("Expand", indices, sizes(*(1 for _ in batching), 1, call.shape[-1]))
        return add("GatherElements", x, indices, axis=0)
    return None


def _dot_general(call: _Call, x: str, y: str) -> str:
    (contract_x, contract_y), (batch_x, batch_y) = call.dimension_numbers
    ndim_x, ndim_y = (len(variable.aval.shape) for variable in call.equation.invars)
    if (contract_x, contract_y, batch_x, ndim_y) == ((ndim_x - 1,), (0,), (), 2):
        return call.graph.add("MatMul", x, y)
    letters = iter(string.ascii_lowercase)
    names_x = [next(letters) for _ in range(ndim_x)]
    names_y = [next(letters) for _ in range(ndim_y)]
    for axis_x, axis_y in zip((*contract_x, *batch_x), (*contract_y, *batch_y), strict=True):
        names_y[axis_y] = names_x[axis_x]
    rest_x = [name for axis, name in enumerate(names_x) if axis not in (*contract_x, *batch_x)]
    rest_y = [name for axis, name in enumerate(names_y) if axis not in (*contract_y, *batch_y)]
    out = [*(names_x[axis] for axis in batch_x), *rest_x, *rest_y]
    return call.graph.add("Einsum", x, y, equation=f"{''.join(names_x)},{''.join(names_y)}->{''.join(out)}")


def _select(call: _Call, which: str, *cases: str) -> str:
    if len(cases) != 2:
        raise ValueError(f"the exporter knows a choice between two arrays, not {len(cases)}")
    return call.graph.add("Where", which, cases[1], cases[0])


def _convert(call: _Call, x: str) -> str:
    from onnx import helper

    return call.graph.add("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(call.new_dtype)))


def _near_zero(call: _Call, x: str, near: str, far: str) -> str:
    """Takes `near` where |x| < 1/2, `far` elsewhere."""
    return call.graph.add("Where", call.graph.add("Less", call.graph.add("Abs", x), call.number(0.5)), near, far)


def _log1p(call: _Call, x: str) -> str:
    """log(1 + x), which rounds a small x away, or 2 artanh(x / (2 + x))."""
    add, one, two = call.graph.add, call.number(1), call.number(2)
    near = add("Mul", two, add("Atanh", add("Div", x, add("Add", x, two))))
    return _near_zero(call, x, near, add("Log", add("Add", x, one)))


def _expm1(call: _Call, x: str) -> str:
    """exp(x) - 1, or 2 t / (1 - t) with t = tanh(x / 2)."""
    add, one, two = call.graph.add, call.number(1), call.number(2)
    t = add("Tanh", add("Div", x, two))
    near = add("Div", add("Mul", two, t), add("Sub", one, t))
    return _near_zero(call, x, near, add("Sub", add("Exp", x), one))


def _iota(call: _Call) -> str:
    if not _is_known(call.out_shape[call.dimension]):
        raise ValueError("the exporter knows no numbering of the batch")
    known = [size if _is_known(size) else 1 for size in call.out_shape]
    iota = call.graph.constant(jax.lax.broadcasted_iota(call.dtype, known, call.dimension))
    if known == list(call.out_shape):
        return iota
    parts = [call.graph.sizes(1) if _is_known(size) else call.batch for size in call.out_shape]
    return call.graph.add("Expand", iota, call.graph.add("Concat", *parts, axis=0))


def _pad(call: _Call, x: str, value: str) -> str:
    low, high, interior = zip(*call.padding_config, strict=True)
    if any(interior) or min(*low, *high) < 0:
        raise ValueError("the exporter knows padding at the ends only")
    return call.graph.add("Pad", x, call.graph.sizes(*low, *high), value)


def _split(call: _Call, x: str) -> list[str]:
    return call.graph.add_many("Split", [x, call.graph.sizes(*call.sizes)], len(call.sizes), axis=call.axis)


def _stack(call: _Call, *xs: str) -> str:
    axis = call.graph.sizes(call.axis)
    return call.graph.add("Concat", *(call.graph.add("Unsqueeze", x, axis) for x in xs), axis=call.axis)


def _unstack(call: _Call, x: str) -> list[str]:
    size, axis = call.shape[call.axis], call.graph.sizes(call.axis)
    parts = call.graph.add_many("Split", [x, call.graph.sizes(*(1 for _ in range(size)))], size, axis=call.axis)
    return [call.graph.add("Squeeze", part, axis) for part in parts]


_RULES: dict[str, Rule] = {
    "broadcast_in_dim": _broadcast_in_dim,
    "clamp": lambda call, low, x, high: call.graph.add("Min", call.graph.add("Max", x, low), high),
    "concatenate": lambda call, *xs: call.graph.add("Concat", *xs, axis=call.dimension),
    "convert_element_type": _convert,
    "cumsum": lambda call, x: call.graph.add("CumSum", x, call.graph.sizes(call.axis), reverse=int(call.reverse)),
    "dot_general": _dot_general,
    "exp2": lambda call, x: call.graph.add("Pow", call.number(2), x),
    "expand_dims": _reshape,
    "expm1": _expm1,
    "gather": _gather,
    "integer_pow": lambda call, x: call.graph.add("Pow", x, call.number(call.y)),
    "iota": _iota,
    "log1p": _log1p,
    "nodes": lambda call, *inputs: call.write(call.graph, *inputs),
    "ne": lambda call, x, y: call.graph.add("Not", call.graph.add("Equal", x, y)),
    "pad": _pad,
    "rem": lambda call, x, y: call.graph.add("Mod", x, y, fmod=1),
    "reshape": _reshape,
    "rsqrt": lambda call, x: call.graph.add("Reciprocal", call.graph.add("Sqrt", x)),
    "select_n": _select,
    "slice": _slice,
    "split": _split,
    "square": lambda call, x: call.graph.add("Mul", x, x),
    "squeeze": _reshape,
    "stack": _stack,
    "tile": lambda call, x: call.graph.add("Tile", x, call.graph.sizes(*call.reps)),
    "transpose": lambda call, x: call.graph.add("Transpose", x, perm=call.permutation),
    "unstack": _unstack,
}
