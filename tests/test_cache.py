"""The cache of compiled programs: it saves compilation, and never changes a result, whatever state its folder is in."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rnn_jax.app.cache import is_whole, use_compilation_cache

SETTINGS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
EXPECTED = 2 * np.arange(8.0, dtype=np.float32)


@pytest.fixture(autouse=True)
def own_settings():
    """Gives the test process its settings, and its own cache, back."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    with warnings.catch_warnings():
        yield
    for name, value in before.items():
        jax.config.update(name, value)
    reset_cache()


def compile_with(folder, warn=pytest.fail):
    """Compiles a program for two devices, which also donates its input; returns the names of the files of the cache."""
    jax.clear_caches()
    reset_cache()
    use_compilation_cache(folder, warn)
    sharding = NamedSharding(Mesh(np.array(jax.devices()[:2]), ("b",)), P("b"))
    twice = jax.jit(lambda x: x + x, donate_argnums=0, out_shardings=sharding)
    np.testing.assert_array_equal(twice(jax.device_put(jnp.arange(8.0), sharding)), EXPECTED)
    return list(folder.glob("*/*-cache")) if folder is not None else []


def test_programs_are_kept_and_loaded(tmp_path):
    files = compile_with(tmp_path / "cache")
    assert files
    before = {file: file.stat().st_mtime_ns for file in files}
    hits = []
    jax.monitoring.register_event_listener(lambda event, **_: hits.append(event.endswith("cache_hits")))
    assert set(compile_with(tmp_path / "cache")) == set(files)
    assert sum(hits) >= len(files)
    assert {file: file.stat().st_mtime_ns for file in files} == before


@pytest.mark.parametrize("is_noticed", [True, False])
@pytest.mark.parametrize("kept", [0, 40, 200])
def test_damaged_programs_are_compiled_again(tmp_path, monkeypatch, kept, is_noticed):
    """Also those that are damaged after the folder was looked through."""
    files = compile_with(tmp_path)
    for file in files:
        file.write_bytes(file.read_bytes()[:kept] + b"garbage" * (kept == 40))
    if not is_noticed:
        monkeypatch.setattr("rnn_jax.app.cache.is_whole", lambda data: True)
    with warnings.catch_warnings(record=True) as caught:
        compile_with(tmp_path)
    assert not caught
    assert all(is_whole(file.read_bytes()) for file in files) == is_noticed


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    told = []
    assert compile_with(file / "cache", told.append) == []
    assert len(told) == 1
    assert told[0].startswith(f"--compilation-cache {file / 'cache'}")
    assert told[0].endswith("cannot be used: Not a directory")


def test_without_a_folder_jax_s_settings_stay(tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    compile_with(None)
    assert jax.config.jax_compilation_cache_dir == str(tmp_path)  # type: ignore
