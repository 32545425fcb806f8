"""Writes tensorflow.npz: TensorFlow 1's cells, under static_rnn and static_bidirectional_rnn. See record.py.

    pip install "tensorflow<2.16" "numpy<2"
    python tests/golden/make_tensorflow.py

These are the classes of TensorFlow 1 itself, which 2.x keeps under tf.compat.v1, except for contrib's
LayerNormBasicLSTMCell: that went away with contrib, and is written out below after its source in TensorFlow 1.8.
"""
# pyright: reportMissingImports=false, reportMissingModuleSource=false

import tensorflow as tf
from record import draw, save

tf1 = tf.compat.v1
tf1.disable_v2_behavior()
tf1.logging.set_verbosity(tf1.logging.ERROR)
rnn_cell = tf1.nn.rnn_cell


class LayerNormBasicLSTMCell(rnn_cell.RNNCell):
    """contrib.rnn.LayerNormBasicLSTMCell, without dropout."""

    def __init__(self, num_units, forget_bias=1.0):
        super().__init__(name="layer_norm_basic_lstm_cell")
        self.num_units = num_units
        self.forget_bias = forget_bias

    @property
    def state_size(self):
        return rnn_cell.LSTMStateTuple(self.num_units, self.num_units)

    @property
    def output_size(self):
        return self.num_units

    def norm(self, inputs, scope):
        with tf1.variable_scope(scope):
            gamma = tf1.get_variable("gamma", [self.num_units], inputs.dtype)
            beta = tf1.get_variable("beta", [self.num_units], inputs.dtype)
        mean, variance = tf1.nn.moments(inputs, [1], keep_dims=True)
        return tf1.nn.batch_normalization(inputs, mean, variance, beta, gamma, variance_epsilon=1e-12)

    def call(self, inputs, state):
        c, h = state
        args = tf.concat([inputs, h], 1)
        kernel = tf1.get_variable("kernel", [args.shape[1], 4 * self.num_units], args.dtype)
        i, j, f, o = tf.split(tf.matmul(args, kernel), 4, axis=1)
        i = self.norm(i, "input")
        j = self.norm(j, "transform")
        f = self.norm(f, "forget")
        o = self.norm(o, "output")
        g = tf.tanh(j)
        new_c = c * tf.sigmoid(f + self.forget_bias) + tf.sigmoid(i) * g
        new_c = self.norm(new_c, "state")
        new_h = tf.tanh(new_c) * tf.sigmoid(o)
        return new_h, rnn_cell.LSTMStateTuple(new_c, new_h)


def leaves(state):
    """The tensors of a state in the order of record.py: layer after layer, h before c."""
    if isinstance(state, rnn_cell.LSTMStateTuple):
        return [state.h, state.c]
    if isinstance(state, (tuple, list)):
        return [leaf for inner in state for leaf in leaves(inner)]
    return [state]


def run(case, make_cell, T, B, D, lengths=None, initial=True, bidirectional=False, scale=0.6):
    """One forward and one backward pass."""
    with tf1.Graph().as_default(), tf1.Session() as session:
        xs = tf.constant(draw(f"{case}/xs", T, B, D))
        cells = [make_cell() for _ in range(2 if bidirectional else 1)]
        states = [cell.zero_state(B, tf.float64) for cell in cells]
        if initial:
            numbers = iter(range(100))
            states = tf.nest.map_structure(
                lambda zero: tf.constant(draw(f"{case}/state/{next(numbers)}", *zero.shape)), states
            )
        options = {"sequence_length": lengths, "dtype": tf.float64}
        if bidirectional:
            ys, *final = tf1.nn.static_bidirectional_rnn(*cells, tf.unstack(xs), *states, **options)
        else:
            ys, final = tf1.nn.static_rnn(cells[0], tf.unstack(xs), states[0], **options)

        outputs = {"ys": tf.stack(ys), **{f"final/{k}": leaf for k, leaf in enumerate(leaves(final))}}
        factors = {name: draw(f"{case}/loss/{name}", *output.shape) for name, output in outputs.items()}
        loss = sum(tf.reduce_sum(factors[name] * output) for name, output in outputs.items())

        weights = {f"weights/{v.name.removesuffix(':0')}": v for v in tf1.trainable_variables()}
        for name, variable in weights.items():
            variable.load(draw(f"{case}/{name}", *variable.shape, scale=scale), session)
        inputs = {"xs": xs, **({f"state/{k}": leaf for k, leaf in enumerate(leaves(states))} if initial else {})}
        # One step from a state of zeros leaves some weights without a gradient: None.
        grads = {
            f"grads/{name}": tf.zeros_like(source) if grad is None else tf.convert_to_tensor(grad)
            for (name, source), grad in zip(
                {**inputs, **weights}.items(), tf.gradients(loss, [*inputs.values(), *weights.values()]), strict=True
            )
        }
        return {
            **session.run({**inputs, **weights, **outputs, **grads}),
            **({} if lengths is None else {"lengths": lengths}),
            **{f"loss/{name}": factor for name, factor in factors.items()},
        }


def stack():
    return rnn_cell.MultiRNNCell([rnn_cell.BasicLSTMCell(4), rnn_cell.LSTMCell(3, use_peepholes=True)])


def everything():
    return rnn_cell.LSTMCell(4, use_peepholes=True, cell_clip=0.7, num_proj=3, proj_clip=0.2, forget_bias=0.5)


cases = {}
for name, make_cell in {
    "basic_rnn": lambda: rnn_cell.BasicRNNCell(4),
    "basic_lstm": lambda: rnn_cell.BasicLSTMCell(4),
    "gru": lambda: rnn_cell.GRUCell(4),
    "lstm_peepholes": lambda: rnn_cell.LSTMCell(4, use_peepholes=True),
    "lstm_projection": lambda: rnn_cell.LSTMCell(4, num_proj=3, proj_clip=0.4),
    "lstm_cell_clip": lambda: rnn_cell.LSTMCell(4, cell_clip=0.5),
    "lstm_everything": everything,
    "layer_norm_lstm": lambda: LayerNormBasicLSTMCell(4),
    "stack": stack,
}.items():
    cases[name] = run(name, make_cell, T=7, B=3, D=5)
for name, make_cell in {
    "basic_rnn": lambda: rnn_cell.BasicRNNCell(7),
    "basic_lstm": lambda: rnn_cell.BasicLSTMCell(7),
    "gru": lambda: rnn_cell.GRUCell(7),
    "layer_norm_lstm": lambda: LayerNormBasicLSTMCell(7),
}.items():
    one = f"{name}_one_step"
    cases[one] = run(one, make_cell, T=1, B=1, D=1, initial=False)
for name, make_cell in {
    "basic_lstm": lambda: rnn_cell.BasicLSTMCell(4),
    "gru": lambda: rnn_cell.GRUCell(4),
    "layer_norm_lstm": lambda: LayerNormBasicLSTMCell(4),
}.items():
    ragged = f"{name}_ragged"
    cases[ragged] = run(ragged, make_cell, T=5, B=4, D=3, lengths=[0, 5, 2, 3])
for name, make_cell in {
    "basic_lstm": lambda: rnn_cell.BasicLSTMCell(4),
    "gru": lambda: rnn_cell.GRUCell(4),
    "lstm_everything": everything,
}.items():
    both = f"{name}_bidirectional"
    cases[both] = run(both, make_cell, T=5, B=4, D=3, lengths=[0, 5, 2, 3], bidirectional=True)
save(__file__, cases)
