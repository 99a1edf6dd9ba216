"""The command line: one module per command, imported only when that command is called.

A command's module has `configure(parser)` and `run(args) -> Exit`; nothing heavy is imported at its top.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from suite.cli import values
from suite.errors import Exit, SubquadError, UsageError
from suite.store.text import one_line
from suite.terminal import guarded

# command -> what `--help` says of it
COMMANDS = {
    "bench": "measure cases and store a run",
    "check": "check numerics only, against the float64 oracle",
    "list": "list operators, implementations and presets",
    "device": "describe this machine and its ceilings",
    "doctor": "say what is known to be wrong with this machine's versions and GPU, and what to do",
    "report": "render stored runs as HTML and PNG",
    "crossover": "find the length from which linear beats quadratic in time and memory",
    "analyse": "compare our kernels with peers and with lower bounds, over runs of a GPU",
    "compare": "list what changed between two stored runs",
    "history": "find where the time of a case changed, over the runs of many commits",
    "gate": "judge a change by exit code: slower, more memory or less accurate?",
    "export": "write a run's records in another format",
    "profile": "profile one case: kernels, a trace, counters",
    "static": "compile kernels without a GPU and report what they will cost",
    "validate": "compare predicted times with published ones",
    "compile": "compile the kernels that a run will launch, on all cores, before it",
    "tune": "find the fastest launch configurations on this GPU and keep them",
    "tiles": "choose launch configurations by predicted time, without a GPU, and keep them",
    "campaign": "run commands in the order of what they prove, on a device whose time is short",
    "new-kernel": "write the skeleton of an operator and its test",
    "completion": "print what makes a shell complete commands, flags and names",
}


class _Parser(argparse.ArgumentParser):
    def __init__(self, *args: Any, **words: Any) -> None:
        super().__init__(*args, **words)
        # An empty word, as of a shell's variable that is not set, would be the folder that one stands in.
        self.register("type", Path, values.path)

    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(f"{message}; see '{self.prog} --help'")


def parser(command: str | None = None, *, everything: bool = False) -> argparse.ArgumentParser:
    """The parser of all commands; only the named command's own flags are filled in, or those of all."""
    top = _Parser(prog="subquad", description="Benchmarks and profiles of sequence operators.", allow_abbrev=False)
    top.add_argument("--version", action="version", version=_version())
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, help_ in COMMANDS.items():
        sub = commands.add_parser(name, help=help_, description=help_, allow_abbrev=False)
        if everything or name == command:
            module = _module(name)
            module.configure(sub)
            sub.set_defaults(run=module.run)
    return top


def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit code; an error the user can mend is one line on stderr."""
    with guarded():
        return _main(argv)


def _main(argv: list[str] | None) -> int:
    words = sys.argv[1:] if argv is None else argv
    command = next((word for word in words if not word.startswith("-")), None)
    try:
        args, unknown = parser(command if command in COMMANDS else None).parse_known_args(words)
        if unknown:
            raise UsageError(f"unrecognized arguments: {' '.join(unknown)}; see 'subquad {args.command} --help'")
        return _run(args)
    except SubquadError as error:
        print(f"subquad: {one_line(str(error))}", file=sys.stderr)
        return int(error.exit_code)
    except MemoryError:
        print(
            "subquad: this machine has too little memory for that; choose smaller sizes, such as --batch, --seq-len",
            file=sys.stderr,
        )
        return int(Exit.USAGE)
    except BrokenPipeError:
        sys.stderr.close()
        return int(Exit.PASS)
    except KeyboardInterrupt as error:
        print(f"subquad: interrupted {error}".rstrip(), file=sys.stderr)
        return 130


def _run(args: argparse.Namespace) -> int:
    """The command's exit code; one that somebody's code chose in the middle of it is none."""
    try:
        return int(args.run(args))
    except SystemExit as error:
        from suite.faults import place_of

        place = place_of(error)
        if not place:
            raise
        print(
            f"subquad: {args.command} was ended by exit code {error.code!r} of {place}; remove that exit",
            file=sys.stderr,
        )
        return int(Exit.USAGE)


def _module(command: str):
    return import_module(f"suite.cli.{command.replace('-', '_')}")


def _version() -> str:
    from suite import __version__

    return f"subquad {__version__}"
