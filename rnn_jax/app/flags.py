"""Command lines made from dataclass fields. A mistake is reported in one line, with the nearest valid word."""

import argparse
import dataclasses
import difflib
import os
import re
import typing
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

METAVARS = {int: "N", float: "X", str: "NAME", Path: "DIR"}


class Rule(NamedTuple):
    """The rules of a flag, stored with its field.

    Attributes:
      help: the help text.
      choices: the valid values; None for any.
      check: (flag, value) -> None, raises `ValueError` for a value out of range; not called for None.
      decides: True if the value can change the trained parameters; False for placement, paths and logging.
      saved: True if the value is written into a run's configuration.
      overrides: True if the value, when given, replaces the recipe's.
      metavar: the placeholder of the value in help texts; None for the default of its type.
      negatable: True to add a flag `--no-...`.
    """

    help: str
    choices: Sequence[str] | None = None
    check: Callable[[str, Any], None] | None = None
    decides: bool = True
    saved: bool = True
    overrides: bool = False
    metavar: str | None = None
    negatable: bool = False


def option(default: Any, help: str, choices: Sequence[str] | None = None, **rules: Any) -> Any:
    """Makes a dataclass field that is a flag.

    Args:
      default: the field's default; `help` explains None.
      help: the flag's help text.
      choices: the valid values; None for any.
      **rules: other fields of `Rule`.
    """
    return dataclasses.field(default=default, metadata={"rule": Rule(help, choices, **rules)})


def rule(field: dataclasses.Field) -> Rule:
    """Returns the rules of a field."""
    return field.metadata["rule"]


def check_fields(config: Any) -> None:
    """Checks each field of a configuration by its rules; raises `ValueError` in one line."""
    for field in dataclasses.fields(config):
        value, (_, choices, check, *_rest) = getattr(config, field.name), rule(field)
        if choices and value is not None and value not in choices:
            raise ValueError(f"{flag(field.name)} must be one of {', '.join(choices)}, not {value!r}")
        if check is not None and value is not None:
            check(flag(field.name), value)


def flag(name: str) -> str:
    """Returns the flag of a field.

    >>> flag("hidden_size")
    '--hidden-size'
    """
    return "--" + name.replace("_", "-")


def in_flags(message: str) -> str:
    """Rewrites the Python arguments in a message as flags.

    >>> in_flags('name the column: target=NAME, or missing="fill"')
    'name the column: --target NAME, or --missing fill'
    """
    return re.sub(r'\b([a-z_]+)=("?)(\w+)\2', lambda match: f"{flag(match[1])} {match[3]}", message)


def kind(field: dataclasses.Field) -> type:
    """Returns the type of a field without None: `int` for `int | None`."""
    alternatives: tuple[Any, ...] = (*typing.get_args(field.type), field.type)
    return next(t for t in alternatives if t is not type(None))


def nearest(word: str, known: Iterable[str]) -> str:
    """Returns the end of a message about an unknown word: the nearest known one, if any is near.

    >>> nearest("--hiden-size", ["--hidden-size", "--cell"])
    ', did you mean --hidden-size?'
    """
    guess = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean {guess[0]}?" if guess else "; see --help"


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that reports errors in one line and suggests the nearest flag."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=32, width=100),
            allow_abbrev=False,
            **options,
        )

    def add_fields(self, fields: Iterable[dataclasses.Field]) -> None:
        """Adds a flag for each field. A flag that is not given stays out of the namespace."""
        for field in fields:
            help, choices = rule(field).help, rule(field).choices
            if kind(field) is bool:
                action = argparse.BooleanOptionalAction if rule(field).negatable else "store_true"
                self.add_argument(flag(field.name), action=action, default=argparse.SUPPRESS, help=help)
                continue
            default = "" if field.default is None else f" (default: {field.default})"
            self.add_argument(
                flag(field.name),
                type=(absolute_path if rule(field).saved else path) if kind(field) is Path else kind(field),
                default=argparse.SUPPRESS,
                help=help + default,
                metavar="{" + ",".join(choices) + "}" if choices else rule(field).metavar or METAVARS[kind(field)],
            )

    def parse_known_args(self, args=None, namespace=None):  # type: ignore
        """Parses as the base class does, but refuses unknown arguments here, where the flags are known."""
        arguments, unknown = super().parse_known_args(args, namespace)
        if unknown:
            word = unknown[0].split("=")[0]
            self.error(f"unknown argument {word}{nearest(word, self._option_string_actions)}")
        return arguments, unknown

    def error(self, message: str) -> NoReturn:
        """Reports a mistake in one line on stderr and exits with status 2."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")


def path(text: str) -> Path:
    """Makes a path and expands ~, which shells leave in `--data-dir=~/data`."""
    return Path(os.path.expanduser(text))


def absolute_path(text: str) -> Path:
    """Makes an absolute path, because saved configurations are read from other folders."""
    return Path(os.path.abspath(path(text)))
