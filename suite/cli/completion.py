"""`subquad completion`: print what makes a shell complete commands, flags and names."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from suite.errors import Exit, UsageError

SHELLS = ("bash", "zsh", "tcsh")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, help='the shell, as in: eval "$(subquad completion bash)"')


def run(args: argparse.Namespace) -> Exit:
    try:
        import shtab
    except ImportError as error:
        raise UsageError("completion needs shtab: pip install shtab") from error
    from suite.cli import parser

    whole = parser(everything=True)
    names = _names()
    for action in _actions(whole):
        if action.dest in names and not action.choices:
            action.choices = names[action.dest]
        elif action.type in (Path, str) and "FILE" in str(action.metavar):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.type is Path:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    print(shtab.complete(whole, args.shell))
    return Exit.PASS


def _names() -> dict[str, Sequence[str]]:
    """What flags and arguments may name, by destination."""
    from suite.discovery import discover
    from suite.presets import names
    from suite.problem import STANDARD

    operators = discover().operators
    made = sorted({name for operator in operators.values() for name in operator.implementations})
    found: dict[str, Sequence[str]] = {
        "op": sorted(operators),
        "operator": sorted(operators),
        "impl": made,
        "skip": [*sorted(operators), *made],
        "origin": ("ours", "baseline", "peer"),
        "preset": list(names()),
    }
    return found | {axis.field: axis.values for axis in STANDARD.values() if axis.flag and axis.values}


def _actions(parser: argparse.ArgumentParser) -> Iterator[Any]:
    """All flags and arguments of a parser and its commands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
        else:
            yield action
