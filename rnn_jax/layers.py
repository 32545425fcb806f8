"""Layers: a cell over a sequence, both ways at once, and in stacks. All of them follow `base.Layer`."""

import dataclasses
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp

from rnn_jax.base import Array, Cell, Layer, Params, State, check_cell, check_choice, check_layer, given
from rnn_jax.cells.equations import Precision
from rnn_jax.implementations.problem import Implementation
from rnn_jax.implementations.table import find
from rnn_jax.lengths import flip_valid, last_output, last_steps, reset_steps, valid_steps, where_valid
from rnn_jax.unroll import unroll
from rnn_jax.wrappers import CellWrapper, LayerWrapper


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Recurrent(CellWrapper):
    """A cell unrolled over the sequence; parameters and state are the cell's.

    Args:
      cell: any cell.
      reverse: True to read each sequence from its end.
      remat: saves memory in long sequences, see `unroll`.
      precision: of the products, see `unroll`.
      implementation: see `unroll`; None to choose.

    Raises:
      ValueError: for anything but a cell.
    """

    _: dataclasses.KW_ONLY
    reverse: bool = False
    remat: bool | int = False
    precision: Precision = None
    implementation: str | Implementation | None = None

    def __post_init__(self) -> None:
        check_cell("Recurrent", self.cell)

    def apply(
        self,
        params: Params,
        xs: Array,
        state: State | None = None,
        *,
        lengths: Array | None = None,
        resets: Array | None = None,
        key: Array | None = None,
    ) -> tuple[State, Array]:
        """Runs over a whole sequence: xs [T, B, D] -> (final state, ys [T, B, H]). See `unroll`."""
        xs = jnp.asarray(xs)
        if self.reverse and resets is not None:
            resets = last_steps(resets, xs.shape[0], xs.shape[1:-1], lengths)
        return unroll(
            self.cell,
            params,
            xs,
            state,
            lengths=lengths,
            resets=resets,
            reverse=self.reverse,
            key=key,
            remat=self.remat,
            precision=self.precision,
            implementation=self.implementation,
        )

    def final_output(self, ys: Array, lengths: Array | None = None) -> Array:
        """Picks the output after the last step taken, [B, H]; zeros where the length is 0."""
        return last_output(ys[:1]) if self.reverse else last_output(ys, lengths)


class BothWays(NamedTuple):
    """Parameters or states of a bidirectional layer, those of each direction."""

    forward: Any
    backward: Any


Merge: TypeAlias = Literal["concat", "sum", "both"]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Bidirectional:
    """Two cells over the same sequence, one from each end. See `bidirectional`."""

    forward: Recurrent
    backward: Recurrent
    _: dataclasses.KW_ONLY
    merge: Merge = "concat"

    def __post_init__(self) -> None:
        check_choice("merge", self.merge, get_args(Merge))
        sizes = self.forward.output_size, self.backward.output_size
        if self.merge == "sum" and sizes[0] != sizes[1]:
            raise ValueError(f"a sum needs outputs of equal size, not {sizes[0]} and {sizes[1]}")

    @property
    def output_size(self) -> int:
        """Both directions' output sizes added up if outputs are concatenated; one of them if outputs are added."""
        if self.merge == "both":
            raise ValueError("bidirectional(merge='both') puts out two sequences, and no layer can read two")
        return self.forward.output_size + (self.backward.output_size if self.merge == "concat" else 0)

    def init(self, key: Array, input_size: int) -> BothWays:
        """Draws both cells' parameters. Consumes `key`."""
        k_forward, k_backward = jax.random.split(key)
        return BothWays(self.forward.init(k_forward, input_size), self.backward.init(k_backward, input_size))

    def initial_state(self, batch_shape: tuple[int, ...] = (), dtype: Any = float) -> BothWays:
        """Returns both cells' initial states."""
        return BothWays(self.forward.initial_state(batch_shape, dtype), self.backward.initial_state(batch_shape, dtype))

    def apply(
        self,
        params: BothWays,
        xs: Array,
        state: BothWays | None = None,
        *,
        lengths: Array | None = None,
        resets: Array | None = None,
        key: Array | None = None,
    ) -> tuple[BothWays, Any]:
        """Runs both ways: xs [T, B, D] -> (final states, ys merged)."""
        xs = jnp.asarray(xs)
        _check_parts("params", params, 2, self)
        forward, backward = (None, None) if state is None else _check_parts("state", state, 2, self)
        k_forward, k_backward = (None, None) if key is None else jax.random.split(key)
        each = (params.forward, forward, k_forward), (params.backward, backward, k_backward)
        if self._joins_directions():
            (forward, backward), (ys_forward, ys_backward) = self._apply_at_once(each, xs, lengths, resets)
        else:
            (forward, ys_forward), (backward, ys_backward) = (
                layer.apply(params, xs, state, lengths=lengths, resets=resets, key=key)
                for layer, (params, state, key) in zip((self.forward, self.backward), each, strict=True)
            )
        match self.merge:
            case "concat":
                ys = jnp.concatenate([ys_forward, ys_backward], axis=-1)
            case "sum":
                ys = ys_forward + ys_backward
            case "both":
                ys = BothWays(ys_forward, ys_backward)
        return BothWays(forward, backward), ys

    def _joins_directions(self) -> bool:
        """Returns True if one call of the implementation should run both directions."""
        implementation = self.forward.implementation
        alike = self.backward == dataclasses.replace(self.forward, reverse=True)
        return alike and implementation is not None and find(implementation).joins_directions

    def _apply_at_once(self, each: tuple[Any, Any], xs: Array, lengths: Array | None, resets: Array | None) -> Any:
        """Runs both directions as one kernel: `vmap` of a kernel over two sets of parameters is one kernel.

        Args:
          each: (params, state, key) of each direction.
          xs: [T, B, D].
          lengths: [B] or None.
          resets: [T, B] or None.

        Returns:
          (both final states, both ys).
        """

        def run(arguments: Any, xs: Array, resets: Array | None) -> Any:
            params, state, key = arguments
            return self.forward.apply(params, xs, state, lengths=lengths, resets=resets, key=key)

        both = jax.tree.map(lambda *pair: jnp.stack(pair), *each)
        if resets is not None:
            sizes = xs.shape[0], xs.shape[1:-1]
            lasts = last_steps(resets, *sizes, lengths)[..., None]
            resets = jnp.stack([reset_steps(resets, *sizes), flip_valid(lasts, lengths)[..., 0]])
        states, ys = jax.vmap(run)(both, jnp.stack([xs, flip_valid(xs, lengths)]), resets)
        return [jax.tree.map(lambda a, n=n: a[n], states) for n in range(2)], (ys[0], flip_valid(ys[1], lengths))

    def final_output(self, ys: Any, lengths: Array | None = None) -> Array:
        """Puts each direction's output after the whole sequence side by side: [B, 2H]."""
        if self.merge == "sum":
            raise ValueError("bidirectional(merge='sum') does not tell the directions' final outputs apart")
        forward, backward = ys if self.merge == "both" else jnp.split(ys, [self.forward.output_size], axis=-1)
        return jnp.concatenate(
            [self.forward.final_output(forward, lengths), self.backward.final_output(backward, lengths)], axis=-1
        )


def bidirectional(
    cell: Cell,
    backward: Cell | None = None,
    *,
    merge: Merge = "concat",
    remat: bool | int = False,
    precision: Precision = None,
    implementation: str | Implementation | None = None,
) -> Bidirectional:
    """Reads the sequence both ways (Schuster and Paliwal, 1997).

    Args:
      cell: the cell that reads from the start.
      backward: the cell that reads from the end; None for one equal to `cell`. Each has parameters of its own.
      merge: the output of each step: "concat" for both outputs side by side, forward first; "sum" for their sum; "both"
        for the two sequences apart, as `BothWays(forward, backward)`.
      remat: saves memory in long sequences, see `unroll`.
      precision: of the products, see `unroll`.
      implementation: see `unroll`; None to choose.

    Returns:
      A layer whose outputs at step t have seen steps 0..t (forward) and t..T-1 (backward).

    Raises:
      ValueError: for an unknown merge, a sum of outputs of different sizes, or a layer in place of a cell.
    """
    backward = cell if backward is None else backward
    for part in (cell, backward):
        check_cell("bidirectional", part)
    forward = Recurrent(cell, remat=remat, precision=precision, implementation=implementation)
    return Bidirectional(forward, dataclasses.replace(forward, cell=backward, reverse=True), merge=merge)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Stack:
    """Layers on top of each other. See `stack`."""

    layers: tuple[Layer, ...]

    @property
    def output_size(self) -> int:
        """The top layer's output size."""
        return self.layers[-1].output_size

    def init(self, key: Array, input_size: int) -> tuple[Params, ...]:
        """Draws the parameters of each layer, bottom first. Consumes `key`."""
        input_sizes = [input_size, *(layer.output_size for layer in self.layers[:-1])]
        keys = jax.random.split(key, len(self.layers))
        return tuple(layer.init(k, n) for layer, k, n in zip(self.layers, keys, input_sizes, strict=True))

    def initial_state(self, batch_shape: tuple[int, ...] = (), dtype: Any = float) -> tuple[State, ...]:
        """Returns each layer's initial state, bottom first."""
        return tuple(layer.initial_state(batch_shape, dtype) for layer in self.layers)

    def apply(
        self,
        params: tuple[Params, ...],
        xs: Array,
        state: tuple[State, ...] | None = None,
        *,
        lengths: Array | None = None,
        resets: Array | None = None,
        key: Array | None = None,
    ) -> tuple[tuple[State, ...], Array]:
        """Runs layer after layer: xs [T, B, D] -> (final states, bottom first, ys of the top layer)."""
        depth = len(self.layers)
        _check_parts("params", params, depth, self)
        states = (None,) * depth if state is None else _check_parts("state", state, depth, self)
        keys = [None] * depth if key is None else jax.random.split(key, depth)
        final_states = []
        for layer, layer_params, layer_state, k in zip(self.layers, params, states, keys, strict=True):
            layer_state, xs = layer.apply(layer_params, xs, layer_state, lengths=lengths, key=k, **given(resets=resets))
            final_states.append(layer_state)
        return tuple(final_states), xs

    def final_output(self, ys: Array, lengths: Array | None = None) -> Array:
        """Returns the top layer's final output."""
        return self.layers[-1].final_output(ys, lengths)


def stack(*layers: Cell | Layer) -> Stack:
    """Puts layers on top of each other, each reading the outputs of the one below.

    >>> import jax, rnn_jax as rnn
    >>> net = rnn.stack(rnn.bidirectional(rnn.LSTM(8)), rnn.GRU(4))
    >>> params = net.init(jax.random.key(0), input_size=3)
    >>> states, ys = net.apply(params, jax.numpy.ones((5, 2, 3)))
    >>> ys.shape
    (5, 2, 4)

    Args:
      *layers: bottom first; a cell stands for the layer that runs it forwards.

    Raises:
      ValueError: for no layers.
    """
    if not layers:
        raise ValueError("stack needs at least one layer")
    return Stack(tuple(as_layer(layer, "stack") for layer in layers))


def as_layer(cell_or_layer: Cell | Layer, name: str = "a network") -> Layer:
    """Returns the layer itself, or for a cell the layer that runs it forwards.

    Raises:
      ValueError: for anything else; `name` is the function that needs it.
    """
    if hasattr(cell_or_layer, "step") and not isinstance(cell_or_layer, type):
        return Recurrent(cell_or_layer)  # type: ignore
    check_layer(name, cell_or_layer)
    return cell_or_layer  # type: ignore


def _check_parts(name: str, value: Any, count: int, layer: Layer) -> Any:
    """Returns `value`; raises `ValueError` unless it is a tuple with a part for each of a layer's parts."""
    kind = BothWays if isinstance(layer, Bidirectional) else tuple
    if type(value) is not kind or len(value) != count:
        parts = f"{count} parts" + ", BothWays(forward, backward)," * (kind is BothWays)
        raise ValueError(f"{name} must be a tuple of {parts} for {layer}, not {jax.tree.structure(value)}")
    return value


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Residual(LayerWrapper):
    """A layer whose inputs are added to its outputs. See `residual`."""

    def init(self, key: Array, input_size: int) -> Params:
        """Draws the layer's parameters; raises `ValueError` if inputs and outputs differ in size. Consumes `key`."""
        if input_size != self.output_size:
            raise ValueError(f"a residual connection needs inputs of size {self.output_size}, not {input_size}")
        return self.layer.init(key, input_size)

    def apply(
        self,
        params: Params,
        xs: Array,
        state: State | None = None,
        *,
        lengths: Array | None = None,
        resets: Array | None = None,
        key: Array | None = None,
    ) -> tuple[State, Array]:
        """Runs the layer and adds its inputs: xs [T, B, D] -> (final state, ys [T, B, D])."""
        xs = jnp.asarray(xs)
        state, ys = self.layer.apply(params, xs, state, lengths=lengths, key=key, **given(resets=resets))
        if lengths is not None:
            xs = where_valid(valid_steps(lengths, xs.shape[0], xs.shape[1:-1]), xs, 0)
        return state, xs + ys


def residual(layer: Cell | Layer) -> Residual:
    """Adds a layer's inputs to its outputs: y' = x + y (He et al., 2016; TensorFlow's ResidualWrapper).

    Args:
      layer: any layer whose outputs are as large as its inputs, checked by `init`; a cell stands for the layer that
        runs it forwards.
    """
    return Residual(as_layer(layer, "residual"))
