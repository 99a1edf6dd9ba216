"""The command that measures a record again."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from suite.problem import SIZES, STANDARD
from suite.reporting.data.groups import SETTING, Setting

if TYPE_CHECKING:
    from suite.reporting.data.frame import Row

FLAGS = {"timed": "bench", "check": "check", "static": "static"}


def problem_words(setting: Setting, T: int) -> list[str]:
    """The flags that select one problem: shape, dtype, pass, layout, states."""
    columns = {**setting.axes, "T": T}
    words = ["--shape", ",".join(f"{name}={columns[name]}" for name in SIZES)]
    for name, axis in STANDARD.items():
        if axis.kind != "size":
            words += [axis.flag, _value(columns[name])]
    return words


def named_words(flag: str, values: Mapping[str, Any]) -> list[str]:
    """`--axis NAME=VALUE` or `--tunable NAME=VALUE` for each."""
    return [word for name, value in values.items() for word in listed_words(flag, name, [value])]


def listed_words(flag: str, name: str, values: Iterable[Any]) -> list[str]:
    """`--axis NAME=VALUE,…`."""
    return [flag, f"{name}={','.join(map(_value, values))}"]


def _value(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def loads(argv: object) -> list[str]:
    """`--load FILE.py` as it stood in a run's command line."""
    words = [str(word) for word in argv] if isinstance(argv, list | tuple) else []
    return [word for one, other in itertools.pairwise(words) if one == "--load" for word in (one, other)]


def command(row: Row, argv: object = ()) -> str:
    """A line for a shell. row: a normalised one; argv: the run's command line, for the plug-ins that it loaded."""
    setting = Setting({name: row[name] for name in SETTING}, row["mode"])
    record: Mapping[str, Any] = row["record"]
    axes = {name[len("axis.") :]: value for name, value in record.items() if name.startswith("axis.")}
    words = ["subquad", FLAGS.get(row["kind"], "bench"), *loads(argv), "--op", row["operator"]]
    words += ["--impl", row["implementation"], *problem_words(setting, row["T"]), *named_words("--axis", axes)]
    words += named_words("--tunable", dict(row["settings"])) + _how(row)
    return shlex.join(words)


def _how(row: Row) -> list[str]:
    if row["kind"] == "static":
        return ["--arch", row["static.arch"] or row["device"]]
    if row["kind"] == "check":
        return ["--device", row["mode"] or "cpu"]
    return ["--preset", "smoke", "--mode", row["mode"]]
