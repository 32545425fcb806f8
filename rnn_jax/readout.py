"""From a recurrent encoder to logits: a readout of its outputs, and one dense layer."""

import dataclasses
import math
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp

from rnn_jax.base import Array, Params, State, check_choice, check_size
from rnn_jax.embedding import Embed
from rnn_jax.layers import Bidirectional, Recurrent, Stack, as_layer
from rnn_jax.wrappers import within

Readout: TypeAlias = Literal["final", "last_step", "mean", "every_step"]


class ClassifierParams(NamedTuple):
    """Parameters of `Classifier`: the encoder's, and of the head w [H, C], None if it is tied, and b [C]."""

    encoder: Params
    w: Any
    b: Array


class ClassifierState(NamedTuple):
    """State of `Classifier.read`: the encoder's; for the readout "mean" also the outputs' sum [B, H] and number [B]."""

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
      tied: True for w = embedding^T / sqrt(H), the vectors of an encoder of `embed` instead of parameters of the head
        (Press and Wolf, 2017, arXiv:1608.05859). The root is for vectors of unit variance, as in T5.

    Raises:
      ValueError: for fewer than one class, an unknown readout or head, or an encoder that cannot be tied: without an
        embedding, with another number of tokens than classes, or with vectors of another size than its outputs.
    """

    encoder: Any  # a `Cell` or a `Layer`, which it becomes
    num_classes: int
    _: dataclasses.KW_ONLY
    readout: Readout = "final"
    head: Literal["glorot", "normal"] = "glorot"
    tied: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "encoder", as_layer(self.encoder))
        check_size("num_classes", self.num_classes)
        check_choice("readout", self.readout, get_args(Readout))
        check_choice("head", self.head, ("glorot", "normal"))
        if self.tied:
            if not isinstance(self.encoder, Embed):
                raise ValueError(f"tied=True needs an encoder of embed, not {self.encoder}")
            has, needs = (self.encoder.num_tokens, self.encoder.size), (self.num_classes, self.encoder.output_size)
            if has != needs:
                raise ValueError(
                    f"tied=True needs as many tokens as classes, {needs[0]}, and vectors as large as the outputs, "
                    f"{needs[1]}, not {has[0]} tokens and vectors of size {has[1]}"
                )

    def init(self, key: Array, input_size: int) -> ClassifierParams:
        """Draws all parameters for inputs of `input_size` features. Consumes `key`."""
        k_encoder, k_w, k_b = jax.random.split(key, 3)
        shape = (self.encoder.output_size, self.num_classes)
        if self.head == "normal":
            w, b = jax.random.normal(k_w, shape), jax.random.normal(k_b, shape[1:])
        else:
            w, b = jax.nn.initializers.glorot_uniform()(k_w, shape), jnp.zeros(shape[1:])
        return ClassifierParams(self.encoder.init(k_encoder, input_size), None if self.tied else w, b)

    def apply(
        self, params: ClassifierParams, xs: Array, *, lengths: Array | None = None, key: Array | None = None
    ) -> Array:
        """Classifies sequences: xs [T, B, D] -> logits [B, C], or [T, B, C] at every step. `key` drives dropout.

        Raises:
          ValueError: for `lengths` with the readout "last_step", where shorter sequences have no output.
        """
        return self.read(params, xs, lengths=lengths, key=key)[1]

    def read(
        self,
        params: ClassifierParams,
        xs: Array,
        state: ClassifierState | None = None,
        *,
        lengths: Array | None = None,
        key: Array | None = None,
    ) -> tuple[ClassifierState, Array]:
        """Reads a part of sequences in one pass, and returns the state to read the next part with.

        Args:
          params: the parameters.
          xs: [T, B, D]; tokens int [T, B] for an encoder of `embed`.
          state: the state before the part; None for `initial_state`.
          lengths: [B], the number of valid steps of each part; None if all are valid.
          key: drives dropout; None for none.

        Returns:
          (the state after the part, the logits [B, C] of the sequences so far, or [T, B, C] at every step).

        Raises:
          ValueError: for `lengths` with the readout "last_step", where shorter sequences have no output.
        """
        if lengths is not None and self.readout == "last_step":
            raise ValueError('the readout "last_step" cannot read sequences of unequal lengths: use "final"')
        before = ClassifierState(None) if state is None else state
        encoder, ys = self.encoder.apply(params.encoder, xs, before.encoder, lengths=lengths, key=key)
        after = ClassifierState(encoder)
        match self.readout:
            case "last_step":
                y = ys[-1]
            case "mean":  # outputs after the end of a sequence are zero
                total = jnp.sum(ys, axis=0)
                count = jnp.asarray(len(ys) if lengths is None else lengths, ys.dtype)
                if before.total is not None and before.count is not None:
                    total, count = before.total + total, before.count + count
                y = total / jnp.maximum(count, 1)[..., None]
                after = ClassifierState(encoder, total, jnp.broadcast_to(count, total.shape[:-1]))
            case "every_step":
                y = ys
            case _:
                y = self.encoder.final_output(ys, lengths)
        return after, self._logits(params, y)

    def head_matrix(self, params: ClassifierParams) -> Array:
        """Returns w [H, C], the embedding's if it is tied."""
        return params.encoder.embedding.T / math.sqrt(self.encoder.output_size) if self.tied else params.w

    def _logits(self, params: ClassifierParams, y: Array) -> Array:
        """Computes y w + b."""
        return y @ self.head_matrix(params) + params.b

    def initial_state(self, batch_shape: tuple[int, ...] = (), dtype: Any = float) -> ClassifierState:
        """Returns the state before the first `read` or `step`."""
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
        state, logits = self.read(params, x[None], state)
        return state, logits[0] if self.readout == "every_step" else logits


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
