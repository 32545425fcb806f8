"""From a recurrent encoder to logits: a readout of its outputs, and one dense layer."""

import dataclasses
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp

from rnn_jax.base import Array, Layer, Params, State, check_choice, check_size
from rnn_jax.layers import Bidirectional, Recurrent, Stack, as_layer
from rnn_jax.wrappers import within

Readout: TypeAlias = Literal["final", "last_step", "mean", "every_step"]


class ClassifierParams(NamedTuple):
    """Parameters of `Classifier`: the encoder's, and of the head w [H, C] and b [C]."""

    encoder: Params
    w: Array
    b: Array


class ClassifierState(NamedTuple):
    """State of `Classifier.step`: the encoder's; for the readout "mean" also the outputs' sum [B, H] and number [B]."""

    encoder: State
    total: Array | None = None
    count: Array | None = None


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Classifier:
    """Encodes a sequence and classifies it by the encoder's last outputs.

        logits = y w + b

    Args:
      encoder: any layer; a cell stands for the layer that runs it forwards.
      num_classes: C.
      readout: the choice of y. "final" takes each direction's output after it has read the whole sequence. "last_step"
        takes the outputs at the last time step, where the backward half of a bidirectional encoder has read one step
        only, as TensorFlow programs that read `outputs[-1]` do. "mean" takes the mean of the outputs at the valid
        steps. "every_step" takes the outputs at every step, and classifies each of them.
      head: how w and b are drawn: "glorot" draws w glorot-uniform and sets b to zero; "normal" draws both from the
        standard normal distribution.

    Raises:
      ValueError: for fewer than one class, or an unknown readout or head.
    """

    encoder: Layer
    num_classes: int
    _: dataclasses.KW_ONLY
    readout: Readout = "final"
    head: Literal["glorot", "normal"] = "glorot"

    def __post_init__(self) -> None:
        object.__setattr__(self, "encoder", as_layer(self.encoder))
        check_size("num_classes", self.num_classes)
        check_choice("readout", self.readout, get_args(Readout))
        check_choice("head", self.head, ("glorot", "normal"))

    def init(self, key: Array, input_size: int) -> ClassifierParams:
        """Draws all parameters for inputs of `input_size` features. Consumes `key`."""
        k_encoder, k_w, k_b = jax.random.split(key, 3)
        shape = (self.encoder.output_size, self.num_classes)
        if self.head == "normal":
            w, b = jax.random.normal(k_w, shape), jax.random.normal(k_b, shape[1:])
        else:
            w, b = jax.nn.initializers.glorot_uniform()(k_w, shape), jnp.zeros(shape[1:])
        return ClassifierParams(self.encoder.init(k_encoder, input_size), w, b)

    def apply(
        self, params: ClassifierParams, xs: Array, *, lengths: Array | None = None, key: Array | None = None
    ) -> Array:
        """Classifies sequences: xs [T, B, D] -> logits [B, C], or [T, B, C] at every step. `key` drives dropout.

        Raises:
          ValueError: for `lengths` with the readout "last_step", where shorter sequences have no output.
        """
        if lengths is not None and self.readout == "last_step":
            raise ValueError('the readout "last_step" cannot read sequences of unequal lengths: use "final"')
        _, ys = self.encoder.apply(params.encoder, xs, lengths=lengths, key=key)
        match self.readout:
            case "last_step":
                y = ys[-1]
            case "mean":  # outputs after the end of a sequence are zero
                count = jnp.asarray(len(ys) if lengths is None else jnp.maximum(lengths, 1)[..., None], ys.dtype)
                y = jnp.sum(ys, axis=0) / count
            case "every_step":
                y = ys
            case _:
                y = self.encoder.final_output(ys, lengths)
        return y @ params.w + params.b

    def initial_state(self, batch_shape: tuple[int, ...] = (), dtype: Any = float) -> ClassifierState:
        """Returns the state before the first `step`."""
        state = ClassifierState(self.encoder.initial_state(batch_shape, dtype))
        if self.readout != "mean":
            return state
        total = jnp.zeros((*batch_shape, self.encoder.output_size), dtype)
        return state._replace(total=total, count=jnp.zeros(batch_shape, dtype))

    def step(self, params: ClassifierParams, state: ClassifierState, x: Array) -> tuple[ClassifierState, Array]:
        """Reads one step: x [B, D] -> (state, logits [B, C] of the sequence so far, or of this step).

        Raises:
          ValueError: for an encoder that reads backwards, which needs the future.
        """
        if _reads_backwards(self.encoder):
            raise ValueError(f"step needs an encoder that reads forwards only, not {self.encoder}")
        encoder, (y,) = self.encoder.apply(params.encoder, x[None], state.encoder)
        total, count = state.total, state.count
        if total is not None and count is not None:
            total, count = total + y, count + 1
            y = total / count[..., None]
        return ClassifierState(encoder, total, count), y @ params.w + params.b


def _reads_backwards(net: Any) -> bool:
    """Returns True if an output of a layer depends on later inputs."""
    match net:
        case Bidirectional():
            return True
        case Recurrent():
            return net.reverse
        case Stack():
            return any(map(_reads_backwards, net.layers))
        case _:
            return net is not None and _reads_backwards(within(net))
