"""TensorFlow 1's cells in a graph unrolled by `static_rnn` and run by a session, as in a tutorial of 2019.

It runs under TensorFlow 2.15, the last with these cells, which needs an older NumPy and so an interpreter of its own:
`pip install tensorflow-cpu==2.15.1 'numpy<2'`.
"""
# pyright: reportMissingImports=false, reportMissingModuleSource=false

import tensorflow as tf

from benchmarks.cases import LEARNING_RATE, Case, draw_inputs
from benchmarks.peers import Program, Unsupported

PACKAGES = ("tensorflow-cpu", "tensorflow")
LONGEST = 100  # steps; the graph grows with them

tf1 = tf.compat.v1
tf1.disable_v2_behavior()


def prepare(case: Case) -> Program:
    """Builds the graph and starts a session."""
    if case.shape.time > LONGEST:
        raise Unsupported(f"its graph is unrolled, and not built for more than {LONGEST} steps")
    tf1.reset_default_graph()
    batch = draw_inputs(case.shape)
    xs = tf1.placeholder(tf.float32, batch.shape)
    ys = tf.stack(build(case.cell, case.shape.hidden_size, tf.unstack(xs)))
    loss = tf.reduce_mean(tf.square(ys))
    train = tf1.train.GradientDescentOptimizer(LEARNING_RATE).minimize(loss)
    session = tf1.Session()
    session.run(tf1.global_variables_initializer())
    fetches = [train, loss] if case.mode == "training" else [ys, ys[-1, 0, 0]]

    def run(n: int) -> float:
        result = 0.0
        for _ in range(n):
            _, result = session.run(fetches, feed_dict={xs: batch})
        return float(result)

    return Program(run, tuple(ys.shape))


def build(cell: str, hidden_size: int, xs: list[tf.Tensor]) -> list[tf.Tensor]:
    """The outputs, step by step, of the network of that name."""
    cells = tf1.nn.rnn_cell

    def lstm() -> "tf.compat.v1.nn.rnn_cell.BasicLSTMCell":
        return cells.BasicLSTMCell(hidden_size)

    match cell:
        case "lstm":
            one = lstm()
        case "gru-reset-before":
            one = cells.GRUCell(hidden_size)
        case "vanilla":
            one = cells.BasicRNNCell(hidden_size)
        case "two-layer-lstm":
            one = cells.MultiRNNCell([lstm(), lstm()])
        case "bidirectional-lstm":
            return tf1.nn.static_bidirectional_rnn(lstm(), lstm(), xs, dtype=tf.float32)[0]
        case "gru":
            raise Unsupported("its GRU resets before the product")
        case _:
            raise Unsupported("has no such cell")
    return tf1.nn.static_rnn(one, xs, dtype=tf.float32)[0]
