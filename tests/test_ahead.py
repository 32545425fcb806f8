"""Work ahead of its use: it is done once, and its errors belong to whoever uses it."""

import sys
import time

import jax
import jax.numpy as jnp
import pytest

from rnn_jax.app.ahead import compile_ahead, import_ahead

SHAPE = jax.ShapeDtypeStruct((3,), jnp.float32)


def test_a_function_compiled_ahead_is_traced_once():
    traced = []

    @jax.jit
    def function(x):
        traced.append(x)
        return x + 1

    ahead = compile_ahead(function, SHAPE)
    assert ahead(jnp.zeros(3)).tolist() == [1, 1, 1]
    assert len(traced) == 1


def test_an_error_is_raised_by_the_call():
    @jax.jit
    def function(x):
        raise ValueError("as the user would see it")

    import_ahead("a_module_that_nobody_has")
    ahead = compile_ahead(function, SHAPE)
    with pytest.raises(ValueError, match="as the user would see it"):
        ahead(jnp.zeros(3))


def test_modules_are_imported_ahead():
    import_ahead("colorsys")
    deadline = time.monotonic() + 60
    while "colorsys" not in sys.modules:
        assert time.monotonic() < deadline
        time.sleep(0.01)
