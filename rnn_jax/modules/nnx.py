"""Flax nnx: modules around our cells and layers, and nnx's cells as ours.

`RNN` has the constructor and the call of `flax.nnx.RNN`, with a cell or layer of ours and `in_features` in place of a
cell that holds parameters. `RNNCell` is a cell for nnx's own `RNN` and `Bidirectional`. `from_nnx` goes the other way.

In both modules the carry is our state (`LSTMState(h, c)` where Flax has `(c, h)`), the parameters are the `nnx.Param`s
of `module.params`, a pytree with the structure and field names of the cell's own, and dropout and zoneout draw from the
stream `dropout` of `rngs` until `module.eval()`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from rnn_jax.base import Array, Cell, Layer, Params, State, check_instance
from rnn_jax.modules.calls import cast, is_random, run, step


class _Module(nnx.Module):
    """What `RNN` and `RNNCell` share: a cell, its parameters, and the stream of its randomness."""

    def __init__(
        self,
        cell: Cell | Layer,
        in_features: int | None,
        params: Params | None,
        dtype: Any,
        param_dtype: Any,
        rngs: nnx.Rngs | None,
    ):
        kind = type(self).__name__
        check_instance(kind, cell)
        if not hasattr(cell, "init"):
            raise ValueError(f"{kind} needs a cell or layer of rnn_jax, not {type(cell).__name__}: see from_nnx")
        if in_features is None:
            raise ValueError(f"{kind} needs in_features, the number of input features")
        if params is None:
            if not isinstance(rngs, nnx.Rngs):
                raise ValueError(f"{kind} needs rngs, an nnx.Rngs that draws its parameters, or params, not {rngs!r}")
            params = cast(cell.init(rngs.params(), in_features), param_dtype)
        self.cell = cell
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.params = nnx.data(jax.tree.map(nnx.Param, params))
        self.deterministic = False
        self.random = is_random(cell, params, in_features)
        stream = _dropout_stream(rngs) if self.random else None
        self.rngs = nnx.data(None if stream is None else stream.fork())

    def set_view(self, deterministic: bool | None = None) -> None:
        """Sets the options of a view, see `nnx.view`.

        Args:
          deterministic: if True, nothing is random.
        """
        if deterministic is not None:
            self.deterministic = deterministic

    def _key(self, rngs: Any = None) -> Array | None:
        """Draws the key of one call; None if nothing is to be random."""
        if self.deterministic or not self.random:
            return None
        stream = _dropout_stream(rngs)
        stream = self.rngs if stream is None else stream
        if stream is None:
            raise ValueError(f"{self.cell} is random and has no rngs with a stream dropout: give them, or call eval()")
        return stream()


def _dropout_stream(rngs: Any) -> nnx.RngStream | None:
    """Returns the stream for dropout; None if there is none among `rngs`."""
    if isinstance(rngs, nnx.Rngs):
        return rngs.dropout if {"dropout", "default"} & set(rngs) else None
    # A stream by itself is what nnx's Bidirectional hands on to initialize the carry.
    return rngs if isinstance(rngs, nnx.RngStream) and rngs.tag != "carry" else None


class RNN(_Module):
    """Runs a cell or layer over sequences, with the constructor and the call of `flax.nnx.RNN`.

    >>> import jax.numpy as jnp, rnn_jax as rnn
    >>> from flax import nnx
    >>> module = rnn.nnx.RNN(rnn.LSTM(16), in_features=3, rngs=nnx.Rngs(0))
    >>> carry, ys = module(jnp.ones((2, 5, 3)), seq_lengths=jnp.array([5, 1]), return_carry=True)
    >>> carry.h.shape, ys.shape
    ((2, 16), (2, 5, 16))

    Two results differ from Flax's, both with `seq_lengths`: the outputs in the padding are zero, and a sequence of
    length 0 keeps its initial carry. Nothing in the padding, NaN included, reaches an output or a gradient.

    Args:
      cell: a cell, or a layer made of cells: `stack`, `bidirectional`, `Recurrent`, `dropout` ...
      in_features: D, the number of input features.
      params: parameters of the cell or layer to begin with, such as converted ones; None to draw them.
      time_major: whether inputs and outputs are [T, B, D] rather than [B, T, D].
      return_carry: whether a call returns the final carry beside the outputs.
      reverse: whether each sequence is read from its last valid step to its first.
      keep_order: whether the outputs of a reversed reading lie where their inputs do; else they come in the order of
        reading. The padding stays at the end in both cases.
      unroll: accepted because Flax has it, and without effect: see the `implementation` of `Recurrent`.
      state_axes: None: a cell of ours has no state but the carry.
      broadcast_rngs: None: the cell says whether its noise changes at every step, see `variational_dropout`.
      dtype: of the computation; None for the dtype that inputs and parameters promote to.
      param_dtype: of the parameters drawn.
      rngs: draws the parameters from its stream `params`, and at every call dropout and zoneout from `dropout`.

    Raises:
      ValueError: for a module in place of a cell, without in_features, without rngs or params, or for an option of
        `nnx.scan` that has no meaning here.
    """

    def __init__(
        self,
        cell: Cell | Layer,
        *,
        in_features: int | None = None,
        params: Params | None = None,
        time_major: bool = False,
        return_carry: bool = False,
        reverse: bool = False,
        keep_order: bool = False,
        unroll: int = 1,
        state_axes: Any = None,
        broadcast_rngs: Any = None,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ):
        if state_axes is not None:
            raise ValueError("state_axes must be None: a cell of rnn_jax has no state but the carry")
        if broadcast_rngs is not None:
            raise ValueError("broadcast_rngs must be None: variational_dropout draws one mask for all steps")
        super().__init__(cell, in_features, params, dtype, param_dtype, rngs)
        self.time_major = time_major
        self.return_carry = return_carry
        self.reverse = reverse
        self.keep_order = keep_order
        self.unroll = unroll

    def __call__(
        self,
        inputs: Any,
        *,
        initial_carry: State | None = None,
        seq_lengths: Any = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | None = None,
    ) -> Any:
        """Runs over whole sequences.

        Args:
          inputs: [B, T, D], any number of batch axes, none included.
          initial_carry: our state before the first step taken; None for the initial one.
          seq_lengths: [B], how many steps of each sequence are valid, from 0 to T; None for all.
          return_carry: overrides the module's, as do the next three.
          time_major: see `RNN`.
          reverse: see `RNN`.
          keep_order: see `RNN`.
          rngs: drives dropout and zoneout in this call, in place of the module's.

        Returns:
          The outputs [B, T, output_size], or (final carry, outputs) with `return_carry`.

        Raises:
          ValueError: naming the argument, the shape it has and the one it needs.
        """
        return run(
            self,
            _arrays(self.params),
            inputs,
            initial_carry=initial_carry,
            seq_lengths=seq_lengths,
            key=self._key(rngs),
            return_carry=return_carry,
            time_major=time_major,
            reverse=reverse,
            keep_order=keep_order,
        )


class RNNCell(_Module, nnx.RNNCellBase):
    """Takes one step of a cell of ours, as a cell of nnx: for `nnx.RNN`, `nnx.Bidirectional` and loops of your own.

    >>> import jax.numpy as jnp, rnn_jax as rnn
    >>> from flax import nnx
    >>> module = nnx.RNN(rnn.nnx.RNNCell(rnn.GRU(16), in_features=3, rngs=nnx.Rngs(0)))
    >>> module(jnp.ones((2, 5, 3))).shape
    (2, 5, 16)

    Args:
      cell: a cell.
      in_features: D, the number of input features.
      params: parameters of the cell to begin with; None to draw them.
      dtype: of the computation; None for the dtype that inputs and parameters promote to.
      param_dtype: of the parameters drawn.
      rngs: draws the parameters from its stream `params`, and at every step dropout and zoneout from `dropout`. With
        `broadcast_rngs="dropout"`, nnx's RNN draws once for all steps.

    Raises:
      ValueError: for a layer or a module in place of a cell, or without rngs or params.
    """

    def __init__(
        self,
        cell: Cell,
        in_features: int,
        *,
        params: Params | None = None,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ):
        super().__init__(cell, in_features, params, dtype, param_dtype, rngs)

    def __call__(self, carry: State, inputs: Any) -> tuple[State, Array]:
        """Takes one step: (carry, inputs [B, D]) -> (the next carry, output [B, H]).

        Raises:
          ValueError: naming the argument, the shape it has and the one it needs.
        """
        return step(self, _arrays(self.params), carry, inputs, self._key())

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: nnx.Rngs | nnx.RngStream | None = None,
        carry_init: Callable[..., Array] | None = None,
    ) -> State:
        """Makes the carry before the first step.

        Args:
          input_shape: of the inputs of one step, [B, D].
          rngs: the stream `carry` of these is for `carry_init`, which alone needs them.
          carry_init: a Flax initializer for every array of the carry; None for the cell's initial state.
        """
        state = self.cell.initial_state(input_shape[:-1], self.dtype or self.param_dtype)
        if carry_init is None:
            return state
        stream = rngs.carry if isinstance(rngs, nnx.Rngs) else rngs
        if stream is None:
            raise ValueError("carry_init needs rngs")
        return jax.tree.map(lambda leaf: carry_init(stream(), leaf.shape, leaf.dtype), state)

    @property
    def num_feature_axes(self) -> int:
        """1: the last axis of the inputs."""
        return 1


def _arrays(params: Any) -> Params:
    """Takes the arrays out of a pytree of `nnx.Param`s."""
    return jax.tree.map(lambda param: param[...], params, is_leaf=lambda node: isinstance(node, nnx.Variable))


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, eq=False)
class NnxCell:
    """A cell written in nnx, as one of ours. See `from_nnx`. Equal to itself alone."""

    graphdef: Any = dataclasses.field(repr=False)
    params: Any = dataclasses.field(repr=False)
    rng_state: Any = dataclasses.field(repr=False)
    in_features: int
    name: str

    @functools.cached_property
    def output_size(self) -> int:
        """Size of the last axis of the module's output."""
        state, x = self.initial_state((1,)), jnp.zeros((1, self.in_features))
        return jax.eval_shape(self.step, self.params, state, x)[1].shape[-1]

    def init(self, key: Array, input_size: int) -> Params:
        """Returns the parameters the module came with: nnx draws them when it builds a module.

        Raises:
          ValueError: if the module was built for inputs of another size.
        """
        if input_size != self.in_features:
            raise ValueError(f"{self.name} was built for inputs of {self.in_features} features, not {input_size}")
        return self.params

    def initial_state(self, batch_shape: tuple[int, ...] = (), dtype: Any = float) -> State:
        """The module's own initial carry, in its own dtype."""
        module = nnx.merge(self.graphdef, self.params, self.rng_state)
        return module.initialize_carry((*batch_shape, self.in_features), nnx.Rngs(0))

    def noise(self, key: Array, xs: Array) -> Array:
        """Draws a key for every step and sequence of xs [T, B, D]. Consumes `key`."""
        return jax.random.split(key, xs.shape[:-1])

    def step(self, params: Params, state: State, x: Array, keys: Array | None = None) -> tuple[State, Array]:
        """Takes one step of the module, in its own mode with keys [B], in eval mode without: x [B, D] -> (state, y)."""
        rng_state = self.rng_state if keys is None else _reseed(self.rng_state, keys.reshape(-1)[0])
        module = nnx.merge(self.graphdef, params, rng_state)
        if keys is None:
            module.eval()
        return module(state, x)


def _reseed(rng_state: Any, key: Array) -> Any:
    """Gives every stream a key of its own."""
    leaves, tree = jax.tree.flatten(rng_state)
    is_key = [jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(
        tree,
        [jax.random.split(k, leaf.shape) if new else leaf for new, k, leaf in zip(is_key, keys, leaves, strict=True)],
    )


def from_nnx(module: nnx.Module, *, in_features: int | None = None) -> tuple[Any, Params]:
    """Makes a cell and its parameters of a cell written in nnx, Flax's or your own.

    >>> import jax.numpy as jnp, rnn_jax as rnn
    >>> from flax import nnx
    >>> cell, params = rnn.nnx.from_nnx(nnx.GRUCell(3, 4, rngs=nnx.Rngs(0)))
    >>> state, ys = rnn.unroll(cell, params, jnp.ones((5, 2, 3)), lengths=jnp.array([5, 1]))
    >>> ys.shape
    (5, 2, 4)

    The state is the module's carry. With a key, every step draws anew from each of the module's streams; without, the
    module runs in eval mode. The parameters are copied: training the module further changes nothing here. Flax's own
    LSTM, GRU and simple cell are faster as `LSTM`, `GRU` and `VanillaRNN` with `convert.from_flax`.

    Args:
      module: an object with `__call__(carry, inputs)` and `initialize_carry(input_shape, rngs)`, whose variables are
        `nnx.Param`s and streams of random numbers; or an `RNN` or `RNNCell` of this module, which gives back its cell
        or layer.
      in_features: the number of input features; None for the module's attribute of that name.

    Returns:
      (cell, params): params is the module's state as nested dicts of arrays. The cell's `init` returns them too.

    Raises:
      ValueError: for a module that is not a cell, has other variables, or does not say its in_features.
    """
    if isinstance(module, _Module):
        return module.cell, _arrays(module.params)
    name = type(module).__name__
    if not isinstance(module, nnx.Module) or not hasattr(module, "initialize_carry"):
        raise ValueError(f"from_nnx needs a cell, an nnx.Module with initialize_carry, not {name}")
    in_features = in_features or getattr(module, "in_features", None)
    if in_features is None:
        raise ValueError(f"from_nnx needs in_features: {name} has no attribute of that name")
    graphdef, params, rng_state, rest = nnx.split(module, nnx.Param, nnx.RngState, ...)
    others = [f"{'.'.join(map(str, path))} is a {type(value).__name__}" for path, value in nnx.to_flat_state(rest)]
    if others:
        raise ValueError(f"from_nnx needs a cell whose variables are nnx.Params, but in {name} {', '.join(others)}")
    # A dict's arrays outlive the module's updates, as the variables of a State do not.
    params, rng_state = nnx.to_pure_dict(params), nnx.to_pure_dict(rng_state)
    return NnxCell(graphdef, params, rng_state, in_features, name), params
