"""The Hopfield network against what is known of it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnn_jax import hopfield

N = 32
STORES = [hopfield.store_hebbian, hopfield.store_pseudo_inverse]

recall = jax.jit(hopfield.recall, static_argnames="max_sweeps")


@functools.partial(jax.jit, static_argnums=1)
def energies_of_a_sweep(seed, store):
    """The energy before each update of a unit of a batch, and at the end; the state at the end and by `sweep`."""
    k_patterns, k_state, k_order = jax.random.split(jax.random.key(seed), 3)
    w, s = store(draw_signs(k_patterns, 5, N)), draw_signs(k_state, 3, N)

    def step(s, unit):
        return hopfield.update_unit(w, s, unit), hopfield.energy(w, s)

    last, energies = jax.lax.scan(step, s, jax.random.permutation(k_order, N))
    return jnp.concatenate([energies, hopfield.energy(w, last)[None]]), last, hopfield.sweep(k_order, w, s)


def draw_signs(key, *shape):
    return jax.random.rademacher(key, shape, float)


@pytest.mark.parametrize("store", STORES)
@given(seed=st.integers(0, 2**31 - 1))
def test_the_energy_never_rises_where_units_take_turns(store, seed):
    energies, last, swept = energies_of_a_sweep(seed, store)
    rise = jnp.max(jnp.diff(energies, axis=0))
    # Hebb's weights are whole numbers, and exact; those of the projection have rounding errors.
    assert rise <= (0 if store is hopfield.store_hebbian else 1e-4)
    assert energies[-1].sum() < energies[0].sum()
    np.testing.assert_array_equal(swept, last)


def test_the_energy_is_that_of_the_paper():
    w, s = np.random.default_rng(0).normal(size=(4, 4)), np.array([1, -1, -1, 1])
    expected = -0.5 * sum(w[i, j] * s[i] * s[j] for i in range(4) for j in range(4))
    np.testing.assert_allclose(hopfield.energy(w, s), expected, rtol=1e-6)


def test_hebb_s_weights_count_agreements():
    x = np.asarray(draw_signs(jax.random.key(0), 3, N))
    w = hopfield.store_hebbian(x)
    expected = [[sum(x[:, i] * x[:, j]) if i != j else 0 for j in range(N)] for i in range(N)]
    np.testing.assert_array_equal(w, expected)


def test_below_capacity_stored_patterns_are_at_rest_and_damage_is_repaired():
    units, key = 500, jax.random.key(0)
    x = draw_signs(key, 20, units)  # 0.04 units
    w = hopfield.store_hebbian(x)
    np.testing.assert_array_equal(hopfield.update_all(w, x), x)
    damaged = jnp.where(jax.random.bernoulli(key, 0.2, x.shape), -x, x)
    restored = recall(key, w, damaged)
    assert restored.settled
    assert 2 <= restored.sweeps < 10
    np.testing.assert_array_equal(restored.state, x)


def test_above_capacity_they_are_not():
    x = draw_signs(jax.random.key(0), 125, 500)  # 0.25 units
    settled = recall(jax.random.key(1), hopfield.store_hebbian(x), x[:20])
    assert settled.settled
    assert jnp.mean(settled.state * x[:20]) < 0.7


@given(count=st.sampled_from([1, 13, N - 1, N]), seed=st.integers(0, 2**31 - 1))
def test_the_pseudo_inverse_stores_as_many_patterns_as_there_are_units(count, seed):
    x = draw_signs(jax.random.key(seed), N, N)[:count]  # one shape to draw
    w = hopfield.store_pseudo_inverse(x)
    np.testing.assert_allclose(x @ w, x, atol=1e-4)
    np.testing.assert_array_equal(hopfield.update_all(w, x), x)
    np.testing.assert_allclose(w, np.linalg.pinv(np.asarray(x, np.float64)) @ np.asarray(x), atol=1e-3)


def test_the_pseudo_inverse_takes_patterns_that_depend_on_each_other():
    x = draw_signs(jax.random.key(0), 3, N)
    twice = jnp.concatenate([x, -x, x])
    np.testing.assert_allclose(hopfield.store_pseudo_inverse(twice), hopfield.store_pseudo_inverse(x), atol=1e-5)


def test_all_at_once_two_states_may_alternate():
    w, s = jnp.array([[0.0, 1.0], [1.0, 0.0]]), jnp.array([1.0, -1.0])
    np.testing.assert_array_equal(hopfield.update_all(w, s), -s)
    np.testing.assert_array_equal(hopfield.update_all(w, -s), s)
    assert recall(jax.random.key(0), w, s).settled


def test_a_unit_without_a_field_stays():
    s = jnp.array([1.0, -1.0, 1.0])
    np.testing.assert_array_equal(hopfield.update_all(jnp.zeros((3, 3)), s), s)


def test_a_network_without_rest_is_given_up():
    w = jnp.array([[0.0, 1.0], [-1.0, 0.0]])  # not symmetric: one follows what the other flees
    state, sweeps, settled = recall(jax.random.key(0), w, jnp.ones(2), max_sweeps=7)
    assert (sweeps, settled) == (7, False)
    assert jnp.all(jnp.abs(state) == 1)


def test_under_jit_and_vmap_it_is_the_same():
    x = draw_signs(jax.random.key(0), 4, N)
    for store in STORES:
        w = store(x)
        np.testing.assert_allclose(jax.jit(store)(x), w, atol=1e-5)
        keys, s = jax.random.split(jax.random.key(1), 3), draw_signs(jax.random.key(2), 3, N)
        each = [hopfield.recall(k, w, row) for k, row in zip(keys, s, strict=True)]
        together = jax.jit(jax.vmap(hopfield.recall, in_axes=(0, None, 0)))(keys, w, s)
        for b, one in enumerate(each):
            jax.tree.map(lambda leaf, own, b=b: np.testing.assert_array_equal(leaf[b], own), together, one)
        np.testing.assert_array_equal(jax.jit(hopfield.update_all)(w, s), hopfield.update_all(w, s))


def test_the_order_is_the_key_s():
    k_patterns, k_state = jax.random.split(jax.random.key(0))
    w, s = hopfield.store_hebbian(draw_signs(k_patterns, 8, N)), draw_signs(k_state, 10, N)
    first, again, other = (hopfield.sweep(jax.random.key(seed), w, s) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hopfield.store_hebbian(jnp.ones(4)), r"patterns has shape \(4,\), but needs \[P, N\]"),
        (lambda: hopfield.store_hebbian(jnp.ones((0, 4))), r"patterns has shape \(0, 4\)"),
        (lambda: hopfield.store_pseudo_inverse(jnp.zeros((2, 4))), r"patterns must hold \+1 and -1 only"),
        (lambda: hopfield.store_pseudo_inverse(jnp.full((2, 4), jnp.nan)), "patterns must hold"),
        (lambda: hopfield.energy(jnp.ones((3, 4)), jnp.ones(4)), r"weights has shape \(3, 4\), but needs \[N, N\]"),
        (lambda: hopfield.energy(jnp.ones((4, 4), int), jnp.ones(4)), "weights has dtype int32"),
        (lambda: hopfield.update_all(jnp.ones((4, 4)), jnp.ones(3)), r"state has shape \(3,\), but weights \(4, 4\)"),
        (lambda: hopfield.update_all(jnp.ones((4, 4)), jnp.float32(1)), r"state has shape \(\)"),
        (lambda: hopfield.recall(jax.random.key(0), jnp.ones((4, 4)), 0.5 * jnp.ones(4)), "state must hold"),
        (lambda: hopfield.recall(jax.random.key(0), jnp.ones((4, 4)), jnp.ones(4), max_sweeps=0), "max_sweeps must"),
        (lambda: hopfield.update_unit(jnp.ones((4, 4)), jnp.ones(4), 4), "unit must be from 0 to 3, not 4"),
        (lambda: hopfield.update_unit(jnp.ones((4, 4)), jnp.ones(4), 0.5), "unit must be one whole number"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
