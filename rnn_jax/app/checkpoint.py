"""Checkpoints: states of training on disk, written in the background by orbax, checked before they are trusted.

Orbax writes a checkpoint under a temporary name and renames it when it is complete. A checkpoint that is no longer
needed is first moved into the folder `removed`, and deleted there. So a process that is killed leaves nothing partial
behind a checkpoint's name. Checksums, which orbax does not keep, find later damage: a checkpoint that does not match
its own is never restored.
"""

import json
import math
import operator
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.app.errors import CommandError

if TYPE_CHECKING:
    import orbax.checkpoint as ocp

CHECKSUMS = "checksums.json"
DAMAGED = "damaged"
REMOVED = "removed"  # within the folder of the checkpoints
ITEM = "default"  # orbax's name for the state, beside its metrics


class CheckpointError(CommandError):
    """A checkpoint cannot be written or read; the message is one line that says which and why."""


class DamagedError(CheckpointError):
    """A checkpoint does not match its checksums."""


class Checkpoints:
    """The checkpoints of a run: the newest few, and the best.

    A context manager that waits at its end until all is written. It moves the damaged checkpoints that it finds at its
    beginning into the folder `damaged`, so that nothing is lost and their steps can be saved again.

    Args:
      folder: the folder of the checkpoints, made if it does not exist.
      keep: how many of the newest are kept.
      warn: is told of each damaged checkpoint, in a line.
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
                raise  # Else there is something to tell already.
        self._delete_removed()

    def restore(self, template: Any) -> Any:
        """Returns the newest state, or None if there is none. All were verified at the beginning.

        Args:
          template: a state of the same structure, shapes and dtypes; the arrays go where its arrays are, on whatever
            devices they were when they were saved.

        Raises:
          CheckpointError: if it is a state of another structure.
        """
        steps = steps_in(self.folder)
        return _read(self.folder / str(steps[0]), template) if steps else None

    def save(self, step: int, state: Any, score: float | None = None) -> None:
        """Begins to write a checkpoint, after waiting for the one before.

        Args:
          step: its number, above all before.
          state: any pytree of arrays, each whole on one device; typed keys may be among them.
          score: the highest is the best; None for a checkpoint that is to be kept as one of the newest only.

        Raises:
          CheckpointError: if this checkpoint or the one before cannot be written; those before are as they were.
        """
        import orbax.checkpoint as ocp

        metrics = {"score": -math.inf if score is None else float(score)}
        # Of arrays on devices, orbax would expect every process to write a part.
        on_host = jax.tree.map(np.asarray, without_keys(state))
        self.wait()
        self._delete_removed()
        try:
            self._manager.save(step, args=ocp.args.StandardSave(on_host), metrics=metrics)
        except Exception as error:  # Of orbax and tensorstore, which have no class for what can go wrong.
            raise self._error(error) from error

    def wait(self) -> None:
        """Waits until all is written; raises `CheckpointError` if it cannot be."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._error(error) from error

    def _make_manager(self) -> "ocp.CheckpointManager":
        import orbax.checkpoint as ocp  # It takes half a second to import, which not all who import us need spend.

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
        """Runs when all of a checkpoint is written, just before it gets its name."""
        for checkpoint in self.folder.iterdir():
            if checkpoint.is_dir() and checkpoint.name != REMOVED and not (checkpoint / CHECKSUMS).exists():
                (checkpoint / CHECKSUMS).write_text(json.dumps(_checksums(checkpoint)))

    def _delete_removed(self) -> None:
        """Deletes the checkpoints that are no longer needed, and what a killed process has left of them."""
        shutil.rmtree(self.folder / REMOVED, ignore_errors=True)

    def _set_aside(self, step: int) -> None:
        """Moves a damaged checkpoint to where no one takes it for a sound one."""
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


def steps_in(folder: Path) -> list[int]:
    """The steps of the complete checkpoints in a folder, newest first; none if it is not there."""
    if not folder.is_dir():
        return []
    return sorted((int(path.name) for path in folder.iterdir() if path.name.isdecimal()), reverse=True)


def newest_checkpoint(folder: Path) -> str:
    """In words, which is the newest checkpoint in a folder."""
    steps = steps_in(folder)
    return f"the newest checkpoint is of step {steps[0]}" if steps else "there is no checkpoint yet"


def is_sound(checkpoint: Path) -> bool:
    """Whether the files of a checkpoint are what was written."""
    try:
        return json.loads((checkpoint / CHECKSUMS).read_text()) == _checksums(checkpoint)
    except (OSError, ValueError):
        return False


def score(checkpoint: Path) -> float:
    """Returns the score that a checkpoint was saved with; the lowest of all, if it had none or cannot be read."""
    try:
        return float(json.loads((checkpoint / "metrics" / "metrics").read_text())["score"])
    except (KeyError, OSError, TypeError, ValueError):
        return -math.inf


def best_first(folder: Path) -> list[int]:
    """Returns the steps of the complete checkpoints in a folder, that of the highest score first."""
    return sorted(steps_in(folder), key=lambda step: (score(folder / str(step)), step), reverse=True)


def restore(checkpoint: Path, template: Any) -> Any:
    """Verifies and reads one checkpoint.

    Args:
      checkpoint: its folder.
      template: see `Checkpoints.restore`; its arrays may be `jax.ShapeDtypeStruct` with a sharding. A dictionary of
        some fields of the state restores those alone.

    Raises:
      DamagedError: if it does not match its checksums.
      CheckpointError: if it is another state's.
    """
    if not is_sound(checkpoint):
        raise DamagedError(f"the checkpoint {checkpoint} is damaged")
    return _read(checkpoint, template)


def _read(checkpoint: Path, template: Any) -> Any:
    import orbax.checkpoint as ocp

    on_disk = without_keys(template)
    arguments = ocp.args.PyTreeRestore(
        item=on_disk,
        restore_args=ocp.checkpoint_utils.construct_restore_args(on_disk),
        partial_restore=isinstance(template, dict),
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=_this_process())
    with ocp.Checkpointer(handler, multiprocessing_options=_this_process()) as checkpointer:
        try:
            restored = checkpointer.restore(checkpoint.absolute() / ITEM, args=arguments)
        except Exception as error:  # Of any class, see above.
            text = _one_line(error)
            if "not compatible with the stored shape" in text or "structures do not match" in text:
                text = "it holds arrays of another network or recipe"
            raise CheckpointError(f"cannot read the checkpoint {checkpoint}: {text}") from error
    return with_keys(template, restored)


def _this_process() -> "ocp.options.MultiprocessingOptions":
    """Tells orbax that this process alone writes and reads, whatever others there are."""
    import orbax.checkpoint as ocp

    this = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=this, active_processes={this}, barrier_sync_key_prefix=f"process{this}"
    )


def without_keys(state: Any) -> Any:
    """Typed keys as plain arrays, which can be written."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, state)


def with_keys(template: Any, state: Any) -> Any:
    """Undoes `without_keys` of a state that is like `template`."""
    return jax.tree.map(
        lambda leaf, data: jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf)) if _is_key(leaf) else data,
        template,
        state,
    )


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _checksums(checkpoint: Path) -> dict[str, int]:
    """CRC-32 of each file of a checkpoint's items; orbax's own notes beside them may still change."""
    files = (path for path in checkpoint.glob("*/**/*") if path.is_file())
    return {path.relative_to(checkpoint).as_posix(): zlib.crc32(path.read_bytes()) for path in files}


def _one_line(error: Exception) -> str:
    """The beginning of an error's message, which may go on for pages."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:200] + " ..."
