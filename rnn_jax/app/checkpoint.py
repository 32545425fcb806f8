"""Checkpoints: training states on disk, written asynchronously by orbax and verified before they are restored.

Orbax writes a checkpoint under a temporary name and renames it when it is complete. An obsolete checkpoint is moved
into the folder `removed` and deleted there. A killed process therefore never leaves a partial checkpoint under a final
name. Checksums, which orbax does not keep, detect later corruption: a checkpoint that fails them is never restored.
"""

import json
import math
import operator
import shutil
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.app.errors import CommandError
from rnn_jax.training.step import TrainState

if TYPE_CHECKING:
    import orbax.checkpoint as ocp

CHECKSUMS = "checksums.json"
DAMAGED = "damaged"
REMOVED = "removed"  # within the folder of the checkpoints
ITEM = "default"  # orbax's name for the state, beside its metrics


class CheckpointError(CommandError):
    """A checkpoint cannot be written or read; the message is one line with its path and the reason."""


class DamagedError(CheckpointError):
    """A checkpoint does not match its checksums."""


class Checkpoints:
    """The checkpoints of a run: the newest few, and the best.

    A context manager that waits for pending writes on exit. On construction it moves damaged checkpoints into the
    folder `damaged`, so that nothing is lost and their steps can be saved again.

    Args:
      folder: the folder of the checkpoints, made if it does not exist.
      keep: the number of newest checkpoints to keep.
      warn: called with one line for each damaged checkpoint.
    """

    def __init__(self, folder: Path, *, keep: int, warn: Callable[[str], None]) -> None:
        self.folder, self._keep, self._warn = folder.absolute(), keep, warn
        self._delete_removed()
        for step in steps_in(self.folder):
            if not is_sound(self.folder / str(step)):
                self._set_aside(step)
        self._manager = self._make_manager()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self.wait()
        except CheckpointError:
            if exception == (None, None, None):
                raise  # Otherwise another exception is being reported.
        self._delete_removed()

    def restore(self, template: Any) -> Any:
        """Restores the newest state; None if there is none. All checkpoints were verified on construction.

        Args:
          template: a state of the same structure, shapes and dtypes. The restored arrays take its shardings, whatever
            the devices they were saved from.

        Raises:
          CheckpointError: if the checkpoint has another structure.
        """
        steps = steps_in(self.folder)
        return _read(self.folder / str(steps[0]), template) if steps else None

    def save(self, step: int, state: Any, score: float | None = None) -> None:
        """Starts writing a checkpoint, after waiting for the previous write.

        Args:
          step: the number of updates made, greater than in all previous checkpoints.
          state: a pytree of arrays, each whole on one device; typed keys are allowed.
          score: the highest is the best; None to keep the checkpoint only while it is among the newest.

        Raises:
          CheckpointError: if this checkpoint or the previous one cannot be written. Earlier checkpoints stay intact.
        """
        import orbax.checkpoint as ocp

        metrics = {"score": -math.inf if score is None else float(score)}
        # Orbax would expect every process to write its part of arrays on devices.
        on_host = jax.tree.map(np.asarray, without_keys(_stored(state)))
        self.wait()
        self._delete_removed()
        try:
            self._manager.save(step, args=ocp.args.StandardSave(on_host), metrics=metrics)
        except Exception as error:  # Orbax and tensorstore have no common class of errors.
            raise self._error(error) from error

    def wait(self) -> None:
        """Waits for pending writes; raises `CheckpointError` if one fails."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._error(error) from error

    def _make_manager(self) -> "ocp.CheckpointManager":
        import orbax.checkpoint as ocp  # Imported on demand: it takes half a second.

        policies, score_of = ocp.checkpoint_managers, operator.itemgetter("score")
        options = ocp.CheckpointManagerOptions(
            best_fn=score_of,
            preservation_policy=policies.AnyPreservationPolicy(
                [
                    policies.LatestN(self._keep),
                    policies.BestN(get_metric_fn=score_of, n=1, keep_checkpoints_without_metrics=False),
                ]
            ),
            cleanup_tmp_directories=True,
            todelete_subdir=REMOVED,
            create=False,
            multiprocessing_options=_this_process(),
            async_options=ocp.AsyncOptions(post_finalization_callback=self._write_checksums),
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        return ocp.CheckpointManager(self.folder, options=options)

    def _write_checksums(self) -> None:
        """Writes the checksums of a complete checkpoint, just before orbax gives it its final name."""
        for checkpoint in self.folder.iterdir():
            if checkpoint.is_dir() and checkpoint.name != REMOVED and not (checkpoint / CHECKSUMS).exists():
                (checkpoint / CHECKSUMS).write_text(json.dumps(_checksums(checkpoint)))

    def _delete_removed(self) -> None:
        """Deletes obsolete checkpoints, including the remains that a killed process left."""
        shutil.rmtree(self.folder / REMOVED, ignore_errors=True)

    def _set_aside(self, step: int) -> None:
        """Moves a damaged checkpoint into the folder `damaged`."""
        damaged, number = self.folder.parent / DAMAGED, 0
        damaged.mkdir(exist_ok=True)
        while (target := damaged / f"{step}-{number}").exists():
            number += 1
        (self.folder / str(step)).rename(target)
        self._warn(f"the checkpoint of step {step} is damaged and passed over; it is now {target}")

    def _error(self, error: Exception) -> CheckpointError:
        full = any(words in str(error) for words in ("RESOURCE_EXHAUSTED", "No space left"))
        why = "no space left on the disk" if full else _one_line(error)
        return CheckpointError(f"cannot write a checkpoint in {self.folder}: {why}; {newest_checkpoint(self.folder)}")


def check_encodable(folder: Path) -> None:
    """Raises `ValueError`, in one line, unless orbax can use a folder: its path must be valid UTF-8."""
    try:
        str(folder.absolute()).encode()
    except UnicodeEncodeError as error:
        encoding = sys.getfilesystemencoding()
        raise ValueError(
            f"{str(folder)!a} cannot be read in this locale's {encoding}: set PYTHONUTF8=1, or move it"
        ) from error


def steps_in(folder: Path) -> list[int]:
    """Returns the steps of the complete checkpoints in a folder, newest first; empty if there is no folder."""
    if not folder.is_dir():
        return []
    return sorted((int(path.name) for path in folder.iterdir() if path.name.isdecimal()), reverse=True)


def newest_checkpoint(folder: Path) -> str:
    """Names the newest checkpoint in a folder, for messages."""
    steps = steps_in(folder)
    return f"the newest checkpoint is of step {steps[0]}" if steps else "there is no checkpoint yet"


def is_sound(checkpoint: Path) -> bool:
    """True if the files of a checkpoint match its checksums."""
    try:
        return json.loads((checkpoint / CHECKSUMS).read_text()) == _checksums(checkpoint)
    except (OSError, ValueError):
        return False


def score(checkpoint: Path) -> float:
    """Returns the score saved with a checkpoint; -inf if it has none or cannot be read."""
    try:
        return float(json.loads((checkpoint / "metrics" / "metrics").read_text())["score"])
    except (KeyError, OSError, TypeError, ValueError):
        return -math.inf


def best_first(folder: Path) -> list[int]:
    """Returns the steps of the complete checkpoints in a folder, the highest score first."""
    return sorted(steps_in(folder), key=lambda step: (score(folder / str(step)), step), reverse=True)


def restore(checkpoint: Path, template: Any) -> Any:
    """Verifies and reads one checkpoint.

    Args:
      checkpoint: its folder.
      template: see `Checkpoints.restore`; its arrays may be `jax.ShapeDtypeStruct` with a sharding. A dictionary of
        some fields of the state restores only those.

    Raises:
      DamagedError: if it does not match its checksums.
      CheckpointError: if it cannot be read, or holds a state of another structure.
    """
    if not is_sound(checkpoint):
        raise DamagedError(f"the checkpoint {checkpoint} is damaged")
    return _read(checkpoint, template)


def _read(checkpoint: Path, template: Any) -> Any:
    import orbax.checkpoint as ocp

    on_disk = without_keys(_stored(template))
    arguments = ocp.args.PyTreeRestore(
        item=on_disk,
        restore_args=ocp.checkpoint_utils.construct_restore_args(on_disk),
        partial_restore=isinstance(template, dict),
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=_this_process())
    with ocp.Checkpointer(handler, multiprocessing_options=_this_process()) as checkpointer:
        try:
            restored = checkpointer.restore(checkpoint.absolute() / ITEM, args=arguments)
        except Exception as error:  # Any class, see `save`.
            text = _one_line(error)
            if "not compatible with the stored shape" in text or "structures do not match" in text:
                text = "it holds arrays of another network or recipe"
            raise CheckpointError(f"cannot read the checkpoint {checkpoint}: {text}") from error
    restored = with_keys(_stored(template), restored)
    return template._replace(**restored) if isinstance(template, TrainState) else restored


def _stored(state: Any) -> Any:
    """Returns the part of a state that is written: without a carry where nothing is carried."""
    if not isinstance(state, TrainState):
        return state
    return {name: value for name, value in state._asdict().items() if value is not None}


def _this_process() -> "ocp.options.MultiprocessingOptions":
    """Configures orbax to read and write in this process alone, without waiting for others."""
    import orbax.checkpoint as ocp

    this = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=this, active_processes={this}, barrier_sync_key_prefix=f"process{this}"
    )


def without_keys(state: Any) -> Any:
    """Converts typed keys to plain arrays, which orbax can write."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, state)


def with_keys(template: Any, state: Any) -> Any:
    """Inverts `without_keys`; the template tells which arrays are keys."""
    return jax.tree.map(
        lambda leaf, data: jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf)) if _is_key(leaf) else data,
        template,
        state,
    )


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _checksums(checkpoint: Path) -> dict[str, int]:
    """Computes the CRC-32 of each file of a checkpoint's items; orbax may still change its metadata beside them."""
    files = (path for path in checkpoint.glob("*/**/*") if path.is_file())
    return {path.relative_to(checkpoint).as_posix(): zlib.crc32(path.read_bytes()) for path in files}


def _one_line(error: Exception) -> str:
    """Returns the beginning of an error's message in one line; some messages go on for pages."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:200] + " ..."
