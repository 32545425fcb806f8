"""Uses a trained run: `python -m rnn_jax {evaluate,predict,generate,export,demo} RUN`."""

import argparse
import csv
import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import jax
import numpy as np

from rnn_jax.app.cache import use_compilation_cache
from rnn_jax.app.demo import port, serve
from rnn_jax.app.devices import check_devices, use_own_settings
from rnn_jax.app.digest import digest
from rnn_jax.app.errors import Mistake, mistakes, run_command
from rnn_jax.app.export import FORMATS, describe_export, write_export
from rnn_jax.app.flags import Parser, flag, path
from rnn_jax.app.folder import check_data
from rnn_jax.app.interruption import unwinding
from rnn_jax.app.model import Model, load_run
from rnn_jax.app.program import begin, leave, started
from rnn_jax.app.readers import make_reader
from rnn_jax.app.reporting import data_label, figure_lines
from rnn_jax.app.runtime import quiet_libraries
from rnn_jax.app.series import load_own, predict_file
from rnn_jax.app.streams import STDOUT, tell
from rnn_jax.app.text import predict_text_file
from rnn_jax.data import DataInfo, load_dataset
from rnn_jax.data.examples import pieces
from rnn_jax.data.text import TextInfo
from rnn_jax.tasks.images import read_images
from rnn_jax.tasks.task import predict_examples

PROGRAM = "rnn_jax"
SPLITS = {"train": "Training", "validation": "Validation", "test": "Testing"}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status, 2 after one line on stderr for a mistake of the user's."""
    arguments = _parser().parse_args(argv)

    def command() -> None:
        with mistakes():
            try:
                use_compilation_cache(arguments.compilation_cache, lambda message: _notify(f"warning: {message}"))
                check_devices()
                model = load_run(arguments.run, checkpoint=arguments.checkpoint, seed=arguments.run_seed)
                started()
                arguments.command(model, arguments)
            except BrokenPipeError:
                raise
            except OSError as error:
                if error.filename == STDOUT:
                    raise
                raise Mistake(f"{error.filename}: {error.strerror}") from error

    quiet_libraries()
    return run_command(PROGRAM, command)


def start() -> NoReturn:
    """Runs the command and ends the process."""
    begin(PROGRAM)
    use_own_settings(lambda message: _notify(f"warning: {message}"))
    leave(main)


def evaluate(model: Model, arguments: argparse.Namespace) -> None:
    """Prints the figures and the loss on a split of the data that the model was trained on."""
    if not isinstance(model.data, DataInfo):
        _evaluate_own(model, arguments)
        return
    with unwinding(PROGRAM):
        data = load_dataset(model.data.name, arguments.data_dir or model.config.data_dir)
    remedy = "name those by --data-dir, or evaluate on these by --accept-data"
    check_data(arguments.run, digest(data), data.info, accept=arguments.accept_data, remedy=remedy)
    split = getattr(data, arguments.split)
    metrics = model.evaluate(split)
    print(
        f"{SPLITS[arguments.split]} Accuracy: {metrics.accuracy:.4f}{data_label(data.info.name)}\n"
        f"Loss: {metrics.loss:.4f} nats, on {len(split.targets):,} images of {data.info.name}, after step {model.step}"
    )


def _evaluate_own(model: Model, arguments: argparse.Namespace) -> None:
    """Prints all figures on a split, beside those of the baselines."""
    data = load_own(model.config, quiet=True)
    remedy = "bring those back, or train on these"  # Scaled by other numbers, they would be misread.
    check_data(arguments.run, digest(data), data.info, accept=False, remedy=remedy)
    split, label = getattr(data, arguments.split), data_label(data.info.name)
    predict = jax.jit(functools.partial(predict_examples, model.task))
    predictions = [np.asarray(predict(model.params, piece.inputs, piece.lengths)) for piece in pieces(split)]
    figures = model.task.measure(split, np.concatenate(predictions))
    baselines = {what: model.task.measure(split, guess) for what, guess in model.task.baselines(split).items()}
    for line in figure_lines(SPLITS[arguments.split], [figures], baselines, label):
        print(line)


def predict(model: Model, arguments: argparse.Namespace) -> None:
    """Prints a table: each image's name, the predicted class and the probability of every class; see `predict_file`."""
    if not isinstance(model.data, DataInfo):
        predict_own: Any = predict_text_file if isinstance(model.data, TextInfo) else predict_file
        for i, file in enumerate(arguments.files):
            rows = list(predict_own(model.task, model.params, model.data, file))
            csv.writer(sys.stdout, lineterminator="\n").writerows(rows[min(i, 1) :])
        return
    options = {"invert": arguments.invert, "as_is": arguments.as_is, "notify": _notify}
    read = [read_images(file, model.data, **options) for file in arguments.files]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["image", "predicted", *range(model.data.num_classes)])
    for names, images in read:
        for name, probabilities in zip(names, model.predict(images), strict=True):
            writer.writerow([name, probabilities.argmax(), *(f"{p:.6f}" for p in probabilities)])


def generate(model: Model, arguments: argparse.Namespace) -> None:
    """Prints the prompt and its continuation, as it is made; further samples follow, each below a line of dashes."""
    prompt = _read_stdin() if arguments.prompt == "-" else arguments.prompt
    names = ("length", "temperature", "top_k", "top_p", "samples", "seed")
    later = [prompt] * (arguments.samples - 1)
    try:
        pieces = model.generate(prompt, **{name: getattr(arguments, name) for name in names})
    except ValueError as error:
        name, _, rest = str(error).partition(" ")
        raise Mistake(f"{flag(name)} {rest}" if name in names else str(error)) from error
    print(prompt, end="", flush=True)
    for first, *others in pieces:
        print(first, end="", flush=True)
        later = [text + piece for text, piece in zip(later, others, strict=True)]
    print()
    for text in later:
        print(f"{'-' * 20}\n{text}")


def _read_stdin() -> str:
    """Reads UTF-8; other bytes become surrogates, as in arguments of the command line."""
    return "" if sys.stdin is None else sys.stdin.buffer.read().decode("utf-8", "surrogateescape")


def export(model: Model, arguments: argparse.Namespace) -> None:
    """Writes the model as a file for other programs."""
    stem = "step" if arguments.step else "classifier" if isinstance(model.data, DataInfo) else "model"
    file = arguments.output or arguments.run / f"{stem}.{arguments.format}"
    write_export(model, file, arguments.format, step=arguments.step)
    print(describe_export(model, file, arguments.format, step=arguments.step))


def demo(model: Model, arguments: argparse.Namespace) -> None:
    """Serves a page on which the model is watched as it reads."""
    reader = make_reader(model, arguments.run)
    with unwinding(PROGRAM):
        serve(reader, str(arguments.run), arguments.port, browser=not arguments.no_browser)


def _parser() -> Parser:
    parser = Parser(prog="python -m rnn_jax", description="Use a run of train.py.")
    commands = parser.add_subparsers(title="commands", metavar="{evaluate,predict,generate,export,demo}", required=True)

    def add_command(
        function: Callable[[Model, argparse.Namespace], None], help: str, seed_flag: str = "--seed"
    ) -> Parser:
        command = commands.add_parser(function.__name__, help=help, description=help[0].upper() + help[1:] + ".")
        command.set_defaults(command=function)
        command.add_argument("run", type=path, metavar="RUN", help="the run's folder")
        command.add_argument(
            "--checkpoint",
            choices=("newest", "best"),
            help="the newest, or the one with the best validation score; default: the one that the run has tested",
        )
        command.add_argument(
            seed_flag, type=int, metavar="N", dest="run_seed", help="one of the run's seeds; default: its first"
        )
        command.add_argument("--compilation-cache", type=path, metavar="DIR", help="as in train.py; default: none")
        return command

    command = add_command(evaluate, "accuracy and loss on a split of the run's data")
    command.add_argument("--split", choices=tuple(SPLITS), default="test", help="which images (default: test)")
    command.add_argument("--data-dir", type=path, metavar="DIR", help="as in train.py; default: the run's")
    command.add_argument("--accept-data", action="store_true", help="accept data other than the run's")
    command = add_command(predict, "a CSV table of the predicted class and of all probabilities, for each image")
    command.add_argument(
        "files",
        nargs="+",
        type=path,
        metavar="FILE",
        help="a picture, or a .npy array of many; own data: a file of sequences or a text",
    )
    command.add_argument(
        "--invert", action="store_true", help="the pictures are dark on white; default: found out, for handwriting"
    )
    command.add_argument(
        "--as-is", action="store_true", help="do not look for ink and centre it: scale pictures as a whole"
    )
    command = add_command(generate, "text that continues a prompt, as a language model learned it", "--run-seed")
    command.add_argument(
        "--prompt",
        default="",
        metavar="TEXT",
        help="the beginning of the text; - to read it from stdin (default: none)",
    )
    command.add_argument("--length", type=int, default=1000, metavar="N", help="characters or bytes (default: 1000)")
    command.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        metavar="X",
        help="divides the logits; 0 takes the likeliest token (default: 1.0)",
    )
    command.add_argument("--top-k", type=int, metavar="N", help="draw from the N likeliest tokens; default: from all")
    command.add_argument(
        "--top-p",
        type=float,
        metavar="X",
        help="draw from the likeliest tokens whose probabilities add up to X; default: from all",
    )
    command.add_argument("--samples", type=int, default=1, metavar="N", help="texts made at once (default: 1)")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the draws (default: 0)")
    command = add_command(export, "the model as a file for other programs")
    command.add_argument(
        "--format",
        choices=FORMATS,
        default="stablehlo",
        help="stablehlo (default) needs nothing but JAX to run; onnx runs in onnxruntime and others; safetensors is "
        "the network alone, for rnn_jax.load",
    )
    command.add_argument("--step", action="store_true", help="one step, with its state: to stream with")
    command.add_argument(
        "--output", type=path, metavar="FILE", help="default: classifier.stablehlo or the like in the run's folder"
    )
    command = add_command(demo, "a page on which the model reads what you draw, type or drop, step by step")
    command.add_argument("--port", type=port, default=0, metavar="N", help="of 127.0.0.1 (default: one that is free)")
    command.add_argument("--no-browser", action="store_true", help="only print the address")
    return parser


def _notify(message: str) -> None:
    tell(f"rnn_jax: {message}")


if __name__ == "__main__":
    start()
