"""Command lines made of dataclass fields; a mistake in one is a single line, with the nearest guess."""

import argparse
import dataclasses
import difflib
import os
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

METAVARS = {int: "N", float: "X", str: "NAME", Path: "DIR"}


def option(default: Any, help: str, choices: Sequence[str] | None = None, *, decides: bool = True) -> Any:
    """A dataclass field that is a flag.

    Args:
      default: the field's; None in help texts is left to `help` to explain.
      help: the flag's help text.
      choices: the only values that make sense.
      decides: whether the value has a part in what is computed, and not only in where it lies or how it is told.
    """
    return dataclasses.field(default=default, metadata={"help": help, "choices": choices, "decides": decides})


def flag(name: str) -> str:
    """The flag of a field.

    >>> flag("hidden_size")
    '--hidden-size'
    """
    return "--" + name.replace("_", "-")


def kind(field: dataclasses.Field) -> type:
    """What a field holds when it is not None: the `int` of `int | None`."""
    alternatives: tuple[Any, ...] = (*typing.get_args(field.type), field.type)
    return next(t for t in alternatives if t is not type(None))


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: a guess of what was meant, if there is one.

    >>> nearest("--hiden-size", ["--hidden-size", "--cell"])
    ', did you mean --hidden-size?'
    """
    guess = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean {guess[0]}?" if guess else "; see --help"


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are one line, and that guesses what an unknown flag should have been."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=32, width=100),
            allow_abbrev=False,
            **options,
        )

    def add_fields(self, fields: Iterable[dataclasses.Field]) -> None:
        """Adds a flag for each field. What is not given on the command line is not in the namespace either."""
        for field in fields:
            help, choices = field.metadata["help"], field.metadata["choices"]
            if kind(field) is bool:
                self.add_argument(flag(field.name), action="store_true", default=argparse.SUPPRESS, help=help)
                continue
            default = "" if field.default is None else f" (default: {field.default})"
            self.add_argument(
                flag(field.name),
                type=path if kind(field) is Path else kind(field),
                default=argparse.SUPPRESS,
                help=help + default,
                metavar="{" + ",".join(choices) + "}" if choices else METAVARS[kind(field)],
            )

    def parse_known_args(self, args=None, namespace=None):  # type: ignore
        """As in the base class, but unknown arguments are errors here already, where the flags are known."""
        arguments, unknown = super().parse_known_args(args, namespace)
        if unknown:
            word = unknown[0].split("=")[0]
            self.error(f"unknown argument {word}{nearest(word, self._option_string_actions)}")
        return arguments, unknown

    def error(self, message: str) -> NoReturn:
        """Says what is wrong in one line on stderr and exits with status 2."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")


def path(text: str) -> Path:
    """A path, with ~ for the home folder also where the shell has left it: `--data-dir=~/data`."""
    return Path(os.path.expanduser(text))
