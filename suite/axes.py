"""Axes: the dimensions of a problem. Define a standard axis once, as a field of Problem; all else follows from it.

    initial_state: bool = standard(False, flag="--initial-state", help="...", token=...)

From this line follow the parts of ids, the columns of records and their rules, the flags of the commands, the keys of
presets, the groups of reports, the commands that measure a record again, and the table in docs/records.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Value = bool | int | float | str
Kind = Literal["size", "dtype", "name", "flag"]
# (value, all standard axes by name) -> text; an empty text is left out.
Text = Callable[[Any, Mapping[str, Any]], str]
_KEY = "axis"


@dataclass(frozen=True)
class StandardAxis:
    """One standard axis.

    name:    the column of a record and the key of a preset
    field:   the field of Problem
    default: what a sweep takes where the axis is not given
    kind:    a `size` is an integer of at least 1; a `dtype` is stored by its long name; a `name` is text; a `flag` is
             true or false
    help:    what it says, in one line: for --help and docs/records.md
    flag:    the option of the command line; empty where another option sets it
    values:  the names that a `name` may have, for --help
    follows: the size that it equals where it is not given
    token:   its part of an id
    label:   its part of a report's titles
    facet:   by which of a report's selections a reader finds it
    since:   the schema that has it first; a record of an older one has the default
    """

    name: str
    field: str
    default: Value
    kind: Kind
    help: str
    flag: str
    values: tuple[str, ...]
    follows: str
    token: Text
    label: Text
    facet: str
    since: str

    @property
    def required(self) -> bool:
        """Whether every record has it."""
        return self.since == "1.0"


@dataclass(frozen=True)
class Axis:
    """An operator's own axis, such as `causal`: its name and admissible values, the default first.

    drawn: whether it only says how inputs are drawn: then neither oracle nor implementations are told of it
    """

    name: str
    values: Sequence[Value]
    help: str = ""
    drawn: bool = False

    @property
    def default(self) -> Value:
        return self.values[0]

    def token(self, value: Value) -> str:
        """How a value stands in a case id: `causal`, `no-causal`, `feature_map-relu`."""
        return named(self.name, value)


def named(name: str, value: Value) -> str:
    """`causal`, `no-causal`, `feature_map-relu`."""
    if isinstance(value, bool):
        return name if value else f"no-{name}"
    return f"{name}-{value}"


def standard(
    default: Value,
    *,
    kind: Kind,
    help: str,
    flag: str = "",
    values: tuple[str, ...] = (),
    follows: str = "",
    token: Text | None = None,
    label: Text | None = None,
    facet: str = "shape",
    since: str = "1.0",
) -> Any:
    """A field of Problem that is a standard axis; arguments as in StandardAxis.

    Without `token` and `label` the axis stands in ids and titles where it is off its default, by its name. An axis that
    is added now needs `since`, the schema's next minor version.
    """
    given = {
        "default": default,
        "kind": kind,
        "help": help,
        "flag": flag,
        "values": values,
        "follows": follows,
        "token": token,
        "label": label,
        "facet": facet,
        "since": since,
    }
    return dataclasses.field(default=default, metadata={_KEY: given})


def standard_axes(problem: type) -> dict[str, StandardAxis]:
    """The standard axes of the class Problem by name, in the order of its fields.

    A trailing `_` of a field is left out.
    """
    found = {}
    for each in dataclasses.fields(problem):
        if _KEY in each.metadata:
            given = dict(each.metadata[_KEY])
            name = each.name.rstrip("_")
            given["token"] = given["token"] or _off_default(name, given["default"], named)
            given["label"] = given["label"] or _off_default(name, given["default"], _told)
            found[name] = StandardAxis(name=name, field=each.name, **given)
    return found


def _off_default(name: str, default: Value, text: Callable[[str, Value], str]) -> Text:
    return lambda value, _: "" if value == default else text(name, value)


def _told(name: str, value: Value) -> str:
    words = name.replace("_", " ")
    if isinstance(value, bool):
        return words if value else f"no {words}"
    return f"{words} {value}"
