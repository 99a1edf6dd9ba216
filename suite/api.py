"""The commands from Python: `suite.bench`, `suite.check`, `suite.gate` and `suite.static_profile`.

Each takes the flags of its command by name, with `_` for `-` and `pass_` for --pass. A value is a text as on the
command line, a number, True, or a list of them. Each function does what its command does, by the same code, and returns
what the command prints::

    run = suite.bench(op="retention", seq_len=[1024, 4096], budget="2m")
    run                                                        # in a notebook: a table of who is fastest
    run.table(), run.frame                                     # pandas: a row an implementation; a row a record
    run.plot()                                                 # a matplotlib figure: time against T
    suite.check(op="retention", device="interpret")            # the records, as dicts
    suite.gate(base="main", op="retention").exit               # Exit.PASS
    suite.static_profile(op="retention", arch="sm_90")[0].floor

Progress and notes go to standard error, as they do from the command line; nothing is printed on standard output.
UsageError says what is wrong with a flag, as the command line does; TypeError, that there is no such flag.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import keyword
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.cli import parser
from suite.errors import Exit

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from suite.gating import Report
    from suite.reporting.data.results import Result
    from suite.static import Profile

# Flags that only print, or that choose how to print: what a function returns is neither.
PRINTING = frozenset({"json", "list", "dry_run", "format", "detail", "help", "verbose"})


@dataclass(frozen=True)
class Run:
    """What `bench` has stored.

    folder: the run, as `suite.load` and `suite.report` take it
    exit:   PASS, or REGRESSION where a case is incorrect, implausible, crashed, timed out, an error or did not compile
    whole:  whether every case of the plan was measured; a budget or Ctrl-C leaves some out
    """

    folder: Path
    exit: Exit
    whole: bool

    @cached_property
    def frame(self) -> pd.DataFrame:
        """All records, a row each, columns as docs/records.md has them."""
        from suite.store import load

        return load(self.folder)

    def table(self) -> pd.DataFrame:
        """Each timed implementation of each problem, fastest first: time in ms, its ratio to the fastest, % of the
        roof, MiB, error. Columns are those of `suite.reporting.data.results.COLUMNS`."""
        from suite.reporting.data.results import table

        return table(self._results)

    def plot(self, quantity: str = "time", setting: str | int = 0) -> Figure:
        """A chart of the report as a matplotlib figure.

        quantity: which chart: `time`, `memory`, `roofline`, `speedup`, `tflops` and others that the report has
        setting:  of which setting: its words, a part of them that no other has ("decode"), or its number in the
                  report; the first by default
        Raises UsageError where the run has no such setting or chart, with those that it has.
        """
        from suite.reporting.rendering import figure

        return figure(self.folder, quantity, setting)

    @cached_property
    def _results(self) -> list[Result]:
        from suite.reporting.data.frame import normalise, read
        from suite.reporting.data.results import results

        return results(normalise(read([self.folder])))

    def _repr_html_(self) -> str:
        """In a notebook: of each problem the fastest implementation, and how many times as long the others take."""
        from html import escape

        from suite.reporting.data.results import SUMMARY, summary

        found = summary(self._results)
        head = "".join(f"<th>{escape(name)}</th>" for name in SUMMARY)
        rows = "".join(
            f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>"
            for row in found.itertuples(index=False)
        )
        left = "" if self.whole else "; not every case was measured"
        told = f"<p>run: <code>{escape(str(self.folder))}</code>, {self.exit.name}{left}</p>"
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{told}"


def bench(**flags: Any) -> Run:
    """Measure cases and store a run: `subquad bench`, whose flags it takes. See `suite.report` for its report."""
    from suite.cli.bench import measured

    args = arguments("bench", {"no_report": True, **flags})
    with _silent():
        done = measured(args)
    return Run(done.folder, done.exit, whole=not done.left_out and not done.interrupted)


def check(**flags: Any) -> list[dict[str, Any]]:
    """Check numerics alone: `subquad check`, whose flags it takes. One record per case, as docs/records.md has them."""
    from suite.cli.check import checked

    args = arguments("check", flags)
    with _silent():
        return checked(args).records


def gate(**flags: Any) -> Report:
    """Judge a candidate against a baseline: `subquad gate`, whose flags it takes, but for --calibrate and --promises.

    Returns the report, whose `exit` is the command's exit code. Files that flags name are written.
    """
    from suite.cli.gate import judged

    if flags.get("calibrate"):
        raise TypeError("gate() takes no calibrate: run `subquad gate --calibrate`, which keeps what it finds")
    if flags.get("promises"):
        raise TypeError("gate() takes no promises: run `subquad gate --promises`, which prints them")
    args = arguments("gate", flags, printing=PRINTING - {"json"})
    with _silent():
        return judged(args)


def static_profile(**flags: Any) -> list[Profile]:
    """Compile kernels without a GPU: `subquad static`, whose flags it takes, but for --base and --run.

    Returns one profile per case and architecture, in the order of the plan.
    """
    from suite.cli.static import profiled

    for name in ("base", "run"):
        if flags.get(name):
            raise TypeError(f"static_profile() takes no {name}: run `subquad static --{name}`")
    args = arguments("static", flags)
    with _silent():
        return profiled(args)


def arguments(command: str, flags: Mapping[str, Any], printing: frozenset[str] = PRINTING) -> argparse.Namespace:
    """The flags as the command's own parser takes them.

    Raises TypeError on a name that is no flag, and UsageError as the command line does on a value.
    """
    made = parser(command)
    known = _flags(made, command)
    words: list[str] = [command]
    for name, value in flags.items():
        if name not in known or name in printing:
            near = difflib.get_close_matches(name, known.keys() - printing, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; see `subquad {command} --help`"
            raise TypeError(f"{command}() takes no '{name}'{hint}")
        words += _words(known[name], value)
    return made.parse_args(words)


def _flags(made: argparse.ArgumentParser, command: str) -> dict[str, argparse.Action]:
    """The flags of a command by their names in Python."""
    (commands,) = (each for each in made._actions if isinstance(each, argparse._SubParsersAction))
    return {
        _name(option): action
        for action in commands.choices[command]._actions
        for option in action.option_strings
        if option.startswith("--")
    }


def _name(option: str) -> str:
    name = option.removeprefix("--").replace("-", "_")
    return f"{name}_" if keyword.iskeyword(name) else name


def _words(action: argparse.Action, value: Any) -> list[str]:
    """A flag as it would stand on the command line; nothing for None and for a switch that is False."""
    flag = next(option for option in action.option_strings if option.startswith("--"))
    if value is None or (value is False and action.nargs in (0, "?")):
        return []
    if action.nargs == 0 and value is not True:
        raise TypeError(f"{_name(flag)} is a switch: give True or False")
    if action.nargs == 0 or (action.nargs == "?" and value is True):
        return [flag]
    if not isinstance(action, argparse._AppendAction):
        return [f"{flag}={_text(value)}"]
    words: list[str] = []
    for each in value if isinstance(value, list | tuple) else [value]:
        if not isinstance(each, Mapping):
            words.append(_text(each))
        elif flag == "--shape":
            words.append(",".join(f"{name}={size}" for name, size in each.items()))
        else:
            words += [f"{name}={_text(chosen)}" for name, chosen in each.items()]
    return [f"{flag}={word}" for word in words]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ",".join(map(_text, value)) if isinstance(value, list | tuple | set | frozenset) else str(value)


@contextlib.contextmanager
def _silent() -> Any:
    """What a command prints goes to standard error."""
    with contextlib.redirect_stdout(sys.stderr):
        yield
