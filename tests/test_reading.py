"""What the page of `demo` shows, beside what the library computes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import CELLS, assert_close, draw_inputs, draw_params, draw_state

import rnn_jax as rnn
from rnn_jax.cells.gates import gates
from rnn_jax.data.text import TextInfo
from rnn_jax.readout import Classifier
from rnn_jax.tasks.classification import Classification
from rnn_jax.tasks.language import LanguageModel
from rnn_jax.tasks.reading import explain_answers, input_gradient, list_passes, read

T, D, C = 5, 3, 4
ENCODERS = {
    "one way": rnn.GRU(4),
    "both ways": rnn.bidirectional(rnn.GRU(4)),
    "stack, both ways": rnn.stack(rnn.dropout(rnn.bidirectional(rnn.LSTM(4)), 0.3), rnn.bidirectional(rnn.LSTM(4))),
}


def make_task(encoder, readout="final"):
    task = Classification(Classifier(encoder, C, readout=readout), D)  # type: ignore
    return task, draw_params(task.network)


def answers(task, params, xs):
    return jax.jit(lambda: read(task, params, xs).answers)()


@pytest.mark.parametrize(
    ("encoder", "readout"),
    [
        ("one way", "mean"),
        ("both ways", "last_step"),
        ("both ways", "mean"),
        ("stack, both ways", "final"),
        ("stack, both ways", "every_step"),
    ],
)
def test_the_last_answer_is_the_task_s_own(encoder, readout):
    task, params = make_task(ENCODERS[encoder], readout)
    xs = draw_inputs(T)
    answers, expected = jax.jit(lambda params, xs: (read(task, params, xs).answers, task.predict(params, xs)))(
        params, xs
    )
    assert_close(answers if readout == "every_step" else answers[-1], expected)


@pytest.mark.parametrize("readout", ["final", "last_step", "mean"])
def test_an_answer_after_t_steps_is_that_for_a_sequence_of_t_steps(readout):
    task, params = make_task(rnn.GRU(4), readout)
    xs = draw_inputs(T)
    answers, short = jax.jit(lambda: (read(task, params, xs).answers, task.predict(params, xs[:3])))()
    assert_close(answers[2], short)


def test_after_t_steps_the_halves_have_read_t_steps_from_either_end():
    task, params = make_task(ENCODERS["both ways"])
    xs, t = draw_inputs(T), 2
    forward, _ = rnn.unroll(rnn.GRU(4), params.encoder.forward, xs[:t])
    backward, _ = rnn.unroll(rnn.GRU(4), params.encoder.backward, xs[-t:], reverse=True)
    logits = jnp.concatenate([forward.h, backward.h]) @ params.w + params.b
    assert_close(answers(task, params, xs)[t - 1], jax.nn.softmax(logits))


def test_the_readout_last_step_has_the_backward_half_after_one_step():
    task, params = make_task(ENCODERS["both ways"], "last_step")
    xs, t = draw_inputs(T), 2
    forward, _ = rnn.unroll(rnn.GRU(4), params.encoder.forward, xs[:t])
    backward, _ = rnn.unroll(rnn.GRU(4), params.encoder.backward, xs[-1:], reverse=True)
    logits = jnp.concatenate([forward.h, backward.h]) @ params.w + params.b
    assert_close(answers(task, params, xs)[t - 1], jax.nn.softmax(logits))


def test_passes_have_the_states_and_the_gates_of_every_cell(cell):
    encoder = rnn.stack(rnn.bidirectional(cell), rnn.GRU(2))
    task, params = make_task(encoder)
    assert [info.name for info in list_passes(encoder)] == ["layer 1, forward", "layer 1, backward", "layer 2"]

    def step_by_step(params, xs, order):
        state, expected = cell.initial_state(), {}
        for t in order:
            values = gates(cell, params, state, xs[t])
            state, _ = cell.step(params, state, xs[t])
            expected[t] = (state, values)
        return jax.tree.map(lambda *steps: jnp.stack(steps), *(expected[t] for t in range(len(xs))))

    @jax.jit
    def both(params, xs):
        forward = step_by_step(params.encoder[0].forward, xs, range(2))
        return read(task, params, xs).passes, forward, step_by_step(params.encoder[0].backward, xs, (1, 0))

    passes, forward, backward = both(params, draw_inputs(2))
    assert_close(tuple(passes[0]), forward)
    assert_close(tuple(passes[1]), backward)


# How much of the memory a step keeps, by the gates.
KEPT = {
    "lstm": ("c", lambda g, params: g.forget),
    "slstm": ("c", lambda g, params: g.forget),
    "mingru": ("h", lambda g, params: 1 - g.update),
    "minlstm": ("h", lambda g, params: g.forget),
    "rglru": ("h", lambda g, params: jnp.exp(-8 * g.recurrence * jax.nn.softplus(params.lam))),
}


@pytest.mark.parametrize("name", KEPT)
def test_the_forget_gate_is_the_derivative_of_the_new_memory_by_the_old(name):
    cell, (field, kept) = CELLS[name], KEPT[name]
    params, state, x = draw_params(cell), draw_state(cell), draw_inputs()

    def advance(memory):
        return getattr(cell.step(params, state._replace(**{field: memory}), x)[0], field)

    derivative = jax.jvp(advance, (getattr(state, field),), (jnp.ones(4),))[1]
    assert_close(kept(gates(cell, params, state, x), params), derivative, atol=1e-5)


def test_a_gru_s_update_gate_keeps_the_state():
    cell = rnn.GRU(4)
    params = draw_params(cell)
    params = params._replace(w_h=jnp.zeros_like(params.w_h))  # the state reaches h' through the gate alone
    state, x = draw_state(cell), draw_inputs()
    derivative = jax.jvp(lambda h: cell.step(params, state._replace(h=h), x)[0].h, (state.h,), (jnp.ones(4),))[1]
    assert_close(gates(cell, params, state, x).update, derivative)


@pytest.mark.parametrize("name", ["lstm-peephole", "lstm-layernorm", "lstm-all-options"])
def test_closed_output_gates_are_zero(name):
    cell = CELLS[name]
    params = draw_params(cell)
    closed = {"beta": params.beta.at[3].set(-50.0)} if "norm" in name else {"b": params.b.at[12:].set(-50.0)}
    values = gates(cell, params._replace(**closed), draw_state(cell), draw_inputs())
    assert values._fields == ("input", "forget", "output")
    assert_close(values.output, jnp.zeros(4))
    assert ((values.input > 0) & (values.input < 1)).all()


def test_cells_without_gates_have_none():
    for name in ("vanilla", "lru"):
        cell = CELLS[name]
        assert gates(cell, draw_params(cell), draw_state(cell), draw_inputs()) is None


def test_a_wrapped_cell_has_the_gates_of_the_cell_within():
    cell = rnn.LSTM(4)
    arguments = draw_params(cell), draw_state(cell), draw_inputs()
    assert_close(gates(rnn.zoneout(cell, h=0.2), *arguments), gates(cell, *arguments))


def test_gates_follow_the_precision():
    cell = rnn.LSTM(4)
    arguments = draw_params(cell), draw_state(cell), draw_inputs()
    exact, rounded = gates(cell, *arguments), gates(cell, *arguments, precision="bfloat16")
    assert 0 < np.abs(np.asarray(exact.input - rounded.input)).max() < 0.02


def test_the_gradient_is_that_of_the_logit():
    task, params = make_task(ENCODERS["both ways"])
    xs, change = draw_inputs(T), draw_inputs(T, seed=9)
    logit = jax.jit(lambda xs: task.logits(params, xs)[2])
    gradient = jax.jit(lambda: input_gradient(task, params, xs, jnp.int32(2)))()
    up, down = logit(xs + 1e-2 * change), logit(xs - 1e-2 * change)
    np.testing.assert_allclose(jnp.sum(gradient * change), (up - down) / 2e-2, rtol=1e-2)


@pytest.mark.parametrize(
    ("encoder", "readout", "words"),
    [
        ("one way", "final", "The answer after row t has seen rows 1 to t."),
        ("one way", "mean", "mean of the outputs so far"),
        ("both ways", "final", "the backward half the last t"),
        ("both ways", "last_step", "the backward half only ever the last row"),
        ("stack, both ways", "final", "the first answer has already seen all of them"),
        ("both ways", "every_step", "from all rows before and after it"),
    ],
)
def test_the_page_says_which_rows_an_answer_has_seen(encoder, readout, words):
    assert words in explain_answers(make_task(ENCODERS[encoder], readout)[0].network, "row")


@pytest.mark.parametrize("tied", [False, True])
def test_a_language_model_answers_with_the_probabilities_of_the_next_token(tied):
    V = 7
    encoder = rnn.embed(rnn.stack(rnn.dropout(rnn.GRU(4), 0.3), rnn.GRU(4)), V)
    info = TextInfo("words", "", "", "language", "characters", "abcdef", 5)
    task = LanguageModel(Classifier(encoder, V, readout="every_step", tied=tied), info)
    params, tokens = task.init(jax.random.key(0)), jnp.array([3, 0, 6, 1])
    reading, expected = jax.jit(
        lambda: (read(task, params, tokens), jax.nn.softmax(task.network.apply(params, tokens)))
    )()
    assert_close(reading.answers, expected)
    assert [each.states.h.shape for each in reading.passes] == [(4, 4), (4, 4)]
    assert [info.name for info in list_passes(encoder)] == ["layer 1", "layer 2"]


def test_a_dropped_top_layer_has_its_halves():
    task, params = make_task(rnn.dropout(ENCODERS["both ways"], 0.3))
    bare, _ = make_task(ENCODERS["both ways"])
    xs = draw_inputs(T)
    assert_close(answers(task, params, xs), answers(bare, params, xs))


def test_a_task_keeps_its_network():
    task, params = make_task(rnn.GRU(4))
    before = dataclasses.replace(task)
    answers(task, params, draw_inputs(T))
    assert task == before
