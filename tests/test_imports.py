"""`import rnn_jax` loads the library alone, and works where Python is not Unix's."""

import json
import subprocess
import sys
import warnings
from importlib import metadata
from pathlib import Path

import pytest

import rnn_jax

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {
    "PIL", "flax", "grain", "matplotlib", "optax", "orbax", "pyarrow", "requests", "safetensors", "sklearn",
    "tensorflow_datasets", "torch", "tqdm",
}  # fmt: skip
PROGRAM = {"rnn_jax.app", "rnn_jax.data", "rnn_jax.tasks", "rnn_jax.training"}

LOADED_BY = """
import json, sys
import jax
before = set(sys.modules)
import rnn_jax
print(json.dumps(sorted(set(sys.modules) - before)))
"""

# Windows has Python without these. Only imports that this project writes fail, as other packages have their own ways.
AS_ON_WINDOWS = """
import builtins, os, runpy, signal, sys

UNIX = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
import_module = builtins.__import__

def import_as_on_windows(name, globals=None, *rest):
    importer = (globals or {}).get("__name__", "").partition(".")[0]
    if importer in ("rnn_jax", "train", "__main__") and name in UNIX:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return import_module(name, globals, *rest)

import jax, optax, orbax.checkpoint  # They look for the real platform when they are imported.

builtins.__import__ = import_as_on_windows
for name in ("SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP", "SIGUSR1", "SIGUSR2"):
    delattr(signal, name)
for name in ("fork", "getuid", "killpg", "sched_getaffinity", "statvfs"):
    delattr(os, name)
os.process_cpu_count = os.cpu_count  # Python 3.13's counts by sched_getaffinity where it was built with it.
sys.path.insert(0, "")
runpy.run_path("train.py", run_name="__main__")
"""


def python(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_importing_the_library_loads_nothing_of_the_program():
    process = python(LOADED_BY)
    assert process.returncode == 0, process.stderr
    loaded = set(json.loads(process.stdout))
    assert "rnn_jax.layers" in loaded
    assert not {name.partition(".")[0] for name in loaded} & HEAVY
    assert not {".".join(name.split(".")[:2]) for name in loaded} & PROGRAM


def test_the_program_s_names_come_on_demand():
    assert rnn_jax.load_run.__module__ == rnn_jax.Model.__module__ == "rnn_jax.app.model"
    assert {"Model", "load_run"} <= set(rnn_jax.__all__) & set(dir(rnn_jax))
    with pytest.raises(AttributeError, match="module 'rnn_jax' has no attribute 'lode_run'"):
        rnn_jax.lode_run  # type: ignore # noqa: B018


def test_every_exported_name_is_there():
    assert all(hasattr(rnn_jax, name) for name in rnn_jax.__all__)
    assert sorted(rnn_jax.__all__) == sorted(set(rnn_jax.__all__))


def test_the_version_is_the_installed_one():
    assert rnn_jax.__version__ == metadata.version("rnn_jax")


def test_types_are_marked_in_the_sources_and_in_the_wheel():
    assert (ROOT / "rnn_jax" / "py.typed").exists()
    origin = json.loads(metadata.distribution("rnn_jax").read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        pytest.skip("installed in place: there is no wheel to look into")
    assert "rnn_jax/py.typed" in map(str, metadata.files("rnn_jax") or [])


def test_the_command_trains_where_nothing_of_unix_is_there(tmp_path):
    options = "--dataset=digits", "--recipe=tutorial", "--steps=1", "--hidden-size=4", "--no-pictures"
    process = python(AS_ON_WINDOWS, *options, f"--output-dir={tmp_path / 'run'}")
    assert (process.returncode, process.stderr) == (0, "")
    assert "Testing Accuracy: " in process.stdout


@pytest.mark.parametrize("module", ["rnn_jax.layers", "test_imports", "jax._src.core"])
def test_a_deprecation_in_a_call_of_ours_is_an_error(module):
    with pytest.raises(DeprecationWarning, match="going away"):
        warnings.warn_explicit("it is going away", DeprecationWarning, "a.py", 1, module=module)


def test_a_deprecation_between_other_packages_is_not_ours():
    with pytest.warns(DeprecationWarning, match="going away"):
        warnings.warn_explicit("it is going away", DeprecationWarning, "a.py", 1, module="orbax.checkpoint")
