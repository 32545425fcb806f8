"""Flax linen: modules around our cells and layers, and linen's cells as ours.

`RNN` has the constructor and the call of `flax.linen.RNN`, with a cell or layer of ours in place of a linen cell.
`RNNCell` is a cell for linen's own `RNN` and `Bidirectional`. `from_linen` goes the other way.

In both modules the carry is our state (`LSTMState(h, c)` where Flax has `(c, h)`), the variables of the collection
`params` are named as the fields of the cell's parameters (`w_x`, `w_h`, `b`; in a stack `0`, `1` ... with fields in
them), and dropout and zoneout draw from the stream `dropout`: without it, nothing is random.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
from flax.traverse_util import flatten_dict, unflatten_dict

from rnn_jax.base import Array, Cell, Layer, Params, State, check_instance, check_like
from rnn_jax.modules.calls import cast, run, step


class RNN(nn.Module):
    """Runs a cell or layer over sequences, with the constructor and the call of `flax.linen.RNN`.

    >>> import jax, jax.numpy as jnp, rnn_jax as rnn
    >>> module = rnn.linen.RNN(rnn.LSTM(16))
    >>> variables = module.init(jax.random.key(0), jnp.ones((2, 5, 3)))
    >>> carry, ys = module.apply(variables, jnp.ones((2, 5, 3)), seq_lengths=jnp.array([5, 1]), return_carry=True)
    >>> carry.h.shape, ys.shape
    ((2, 16), (2, 5, 16))

    Two results differ from Flax's, both with `seq_lengths`: the outputs in the padding are zero, and a sequence of
    length 0 keeps its initial carry. Nothing in the padding, NaN included, reaches an output or a gradient.

    Attributes:
      cell: a cell, or a layer made of cells: `stack`, `bidirectional`, `Recurrent`, `dropout` ...
      time_major: whether inputs and outputs are [T, B, D] rather than [B, T, D].
      return_carry: whether a call returns the final carry beside the outputs.
      reverse: whether each sequence is read from its last valid step to its first.
      keep_order: whether the outputs of a reversed reading lie where their inputs do; else they come in the order of
        reading. The padding stays at the end in both cases.
      unroll: accepted because Flax has it, and without effect: see the `implementation` of `Recurrent`.
      variable_axes: empty: a cell of ours has no variables but its parameters, the same at every step.
      variable_broadcast: accepted because Flax has it, and without effect.
      variable_carry: False, for the same reason as `variable_axes`.
      split_rngs: accepted because Flax has it, and without effect: the cell says whether its noise changes at every
        step, see `variational_dropout`.
      dtype: of the computation; None for the dtype that inputs and parameters promote to.
      param_dtype: of the parameters.
    """

    cell: Cell | Layer
    time_major: bool = False
    return_carry: bool = False
    reverse: bool = False
    keep_order: bool = False
    unroll: int = 1
    variable_axes: Mapping[Any, Any] = FrozenDict()
    variable_broadcast: Any = "params"
    variable_carry: Any = False
    split_rngs: Mapping[Any, bool] = FrozenDict({"params": False})
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        inputs: Any,
        *,
        initial_carry: State | None = None,
        init_key: Array | None = None,
        seq_lengths: Any = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
    ) -> Any:
        """Runs over whole sequences.

        Args:
          inputs: [B, T, D], any number of batch axes, none included.
          initial_carry: our state before the first step taken; None for the initial one.
          init_key: accepted because Flax has it, and without effect: no initial state of ours is random.
          seq_lengths: [B], how many steps of each sequence are valid, from 0 to T; None for all.
          return_carry: overrides the module's, as do the next three.
          time_major: see `RNN`.
          reverse: see `RNN`.
          keep_order: see `RNN`.

        Returns:
          The outputs [B, T, output_size], or (final carry, outputs) with `return_carry`.

        Raises:
          ValueError: naming the argument, the shape it has and the one it needs.
        """
        if self.variable_axes or self.variable_carry:
            raise ValueError("variable_axes and variable_carry must be empty: a cell of rnn_jax has only parameters")
        return run(
            self,
            _params(self, inputs),
            inputs,
            initial_carry=initial_carry,
            seq_lengths=seq_lengths,
            key=_key(self),
            return_carry=return_carry,
            time_major=time_major,
            reverse=reverse,
            keep_order=keep_order,
        )


class RNNCell(nn.RNNCellBase):
    """Takes one step of a cell of ours, as a cell of linen: for `nn.RNN`, `nn.Bidirectional` and loops of your own.

    >>> import jax, jax.numpy as jnp, rnn_jax as rnn
    >>> from flax import linen as nn
    >>> module = nn.RNN(rnn.linen.RNNCell(rnn.GRU(16)))
    >>> ys, variables = module.init_with_output(jax.random.key(0), jnp.ones((2, 5, 3)))
    >>> ys.shape
    (2, 5, 16)

    Dropout and zoneout in linen's `RNN` need `split_rngs={"params": False, "dropout": True}`, or False for noise that
    is the same at every step.

    Attributes:
      cell: a cell.
      dtype: of the computation; None for the dtype that inputs and parameters promote to.
      param_dtype: of the parameters.
    """

    cell: Cell
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, carry: State, inputs: Any) -> tuple[State, Array]:
        """Takes one step: (carry, inputs [B, D]) -> (the next carry, output [B, H]).

        Raises:
          ValueError: naming the argument, the shape it has and the one it needs.
        """
        return step(self, _params(self, inputs), carry, inputs, _key(self))

    @nn.nowrap
    def initialize_carry(self, rng: Array, input_shape: tuple[int, ...]) -> State:
        """Makes the carry before the first step, for inputs of `input_shape` [B, D]. `rng` is not used."""
        return self.cell.initial_state(input_shape[:-1], self.dtype or self.param_dtype)

    @property
    def num_feature_axes(self) -> int:
        """1: the last axis of the inputs."""
        return 1


def _key(module: nn.Module) -> Array | None:
    """Draws the key of one call; None without a stream for dropout."""
    return module.make_rng("dropout") if module.has_rng("dropout") else None


def _params(module: Any, inputs: Any) -> Params:
    """Returns the parameters of a module's cell; where there are none yet, draws them all at once."""
    cell, kind = module.cell, type(module).__name__
    check_instance(kind, cell)
    if not hasattr(cell, "init") or isinstance(cell, nn.Module):
        raise ValueError(f"{kind} needs a cell or layer of rnn_jax, not {type(cell).__name__}: see from_linen")

    def draw(key: Array) -> Params:
        return cast(cell.init(key, jnp.shape(inputs)[-1]), module.param_dtype)

    if module.is_mutable_collection("params") and "params" not in module.variables:
        for name, value in to_variables(draw(module.make_rng("params")))["params"].items():
            module.param(name, lambda _, value=value: value)
    like = jax.eval_shape(draw, jax.random.key(0))
    params = _from_variables(module.variables, like, cell)
    check_like("params", params, like, f"{cell} with {jnp.shape(inputs)[-1]} features")
    return params


def to_variables(params: Params) -> dict[str, dict[str, Any]]:
    """Makes variables for `RNN` or `RNNCell` of the parameters of their cell or layer, such as converted ones.

    >>> import jax, rnn_jax as rnn
    >>> params = rnn.LSTM(16).init(jax.random.key(0), input_size=3)
    >>> {name: array.shape for name, array in rnn.linen.to_variables(params)["params"].items()}
    {'w_x': (3, 64), 'w_h': (16, 64), 'b': (64,)}
    """
    return {"params": unflatten_dict({_name(path): leaf for path, leaf in jax.tree.leaves_with_path(params)}, sep="/")}


def _from_variables(variables: Mapping[str, Any], like: Params, cell: Any) -> Params:
    """The inverse of `to_variables`; `like` has the structure of the parameters."""
    found = flatten_dict(variables.get("params", {}), sep="/")
    names = [_name(path) for path, _ in jax.tree.leaves_with_path(like)]
    if set(found) != set(names):
        raise ValueError(f"{cell} needs the params {', '.join(names)}, but the variables have {', '.join(found)}")
    return jax.tree.unflatten(jax.tree.structure(like), [found[name] for name in names])


def _name(path: Any) -> str:
    """Joins the fields on the way to a parameter by slashes; a single array alone, without a field, is "params"."""
    return jax.tree_util.keystr(path, simple=True, separator="/") or "params"


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class LinenCell:
    """A cell written in linen, as one of ours. See `from_linen`."""

    module: Any
    in_features: int

    @functools.cached_property
    def output_size(self) -> int:
        """Size of the last axis of the module's output."""
        batch_shape = (1,) * self.module.num_feature_axes  # axes of an image, if any, count as axes of the batch
        carry, x = self.initial_state(batch_shape), jnp.zeros((*batch_shape, self.in_features))
        (_, y), _ = jax.eval_shape(self.module.init_with_output, jax.random.key(0), carry, x)
        return y.shape[-1]

    def init(self, key: Array, input_size: int) -> Params:
        """Draws the module's parameters for inputs of `input_size` features. Consumes `key`."""
        x = jnp.zeros((*(1,) * self.module.num_feature_axes, input_size))
        carry = self.module.initialize_carry(jax.random.key(0), x.shape)
        return self.module.init(key, carry, x).get("params", {})

    def initial_state(self, batch_shape: tuple[int, ...] = (), dtype: Any = float) -> State:
        """The module's own initial carry, in its own dtype."""
        return self.module.initialize_carry(jax.random.key(0), (*batch_shape, self.in_features))

    def noise(self, key: Array, xs: Array) -> Array:
        """Draws a key for every step and sequence of xs [T, B, D]. Consumes `key`."""
        return jax.random.split(key, xs.shape[:-1])

    def step(self, params: Params, state: State, x: Array, keys: Array | None = None) -> tuple[State, Array]:
        """Takes one step of the module, which finds streams of random numbers with keys [B]: x [B, D] -> (state, y)."""
        rngs = {}
        if keys is not None:
            # linen takes every stream that it does not find from the one for parameters.
            rngs = dict(zip(("dropout", "params"), jax.random.split(keys.reshape(-1)[0]), strict=True))
        return self.module.apply({"params": params}, state, x, rngs=rngs)


def from_linen(module: nn.Module, variables: Mapping[str, Any], *, in_features: int = 1) -> tuple[Any, Params]:
    """Makes a cell and its parameters of a cell written in linen, Flax's or your own.

    >>> import jax, jax.numpy as jnp, rnn_jax as rnn
    >>> from flax import linen as nn
    >>> module = nn.RNN(nn.GRUCell(4))
    >>> variables = module.init(jax.random.key(0), jnp.ones((2, 5, 3)))
    >>> cell, params = rnn.linen.from_linen(module.cell, {"params": variables["params"]["cell"]})
    >>> state, ys = rnn.unroll(cell, params, jnp.ones((5, 2, 3)), lengths=jnp.array([5, 1]))
    >>> ys.shape
    (5, 2, 4)

    The state is the module's carry. With a key, every step has its own streams of random numbers, `dropout` among them;
    without, it has none. Flax's own LSTM, GRU and simple cell are faster as `LSTM`, `GRU` and `VanillaRNN` with
    `convert.from_flax`.

    Args:
      module: a module with `__call__(carry, inputs)`, `initialize_carry(rng, input_shape)` and `num_feature_axes`,
        without variables that are not parameters; or an `RNN` or `RNNCell` of this module, which gives back its cell or
        layer.
      variables: its variables, {"params": ...}.
      in_features: the number of input features, for modules whose carry or output size depends on it.

    Returns:
      (cell, params): params is `variables["params"]`, or for a module of ours the parameters of its cell.

    Raises:
      ValueError: for a module that is not a cell, or variables outside the collection `params`.
    """
    if set(variables) - {"params"}:
        raise ValueError(f"from_linen needs variables of the collection params alone, not {', '.join(variables)}")
    if isinstance(module, RNN | RNNCell):
        like = jax.eval_shape(lambda key: module.cell.init(key, in_features), jax.random.key(0))
        return module.cell, _from_variables(variables, like, module.cell)
    if not isinstance(module, nn.Module) or not hasattr(module, "initialize_carry"):
        raise ValueError(f"from_linen needs a cell, an nn.Module with initialize_carry, not {type(module).__name__}")
    return LinenCell(module, in_features), variables.get("params", {})
