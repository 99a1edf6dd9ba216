"""Rules: which values a stored field may have, and the message if a value does not fit.

>>> fault(TIME, "fast")
" = 'fast', which is not a number of ms from 1e-06 to 1e+09"
>>> fault(Object({"copy": List(Object({"gbs": TIME}, required=("gbs",)))}), {"copy": [{}]})
".copy[0] without 'gbs'"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

_SCALARS = {bool, int, float, str}
_NUMERIC = {int, float}
# Nothing that is measured is smaller and not 0, and the logarithms and quotients of what is overflow.
TINIEST = 1e-30


@dataclass(frozen=True)
class Rule:
    """A test of one value, and what a value that passes it is, in words. kind: its type, as docs/records.md has it."""

    fits: Callable[[Any], bool]
    words: str
    kind: str


@dataclass(frozen=True)
class List:
    """A JSON list, every value of which fits `of`."""

    of: Spec


@dataclass(frozen=True)
class Object:
    """A JSON object. Fields that `fields` does not name fit `others`, or may be anything without it."""

    fields: Mapping[str, Spec] = field(default_factory=dict)
    others: Spec | None = None
    required: tuple[str, ...] = ()


Spec: TypeAlias = Rule | List | Object


def fault(spec: Spec, value: Any) -> str | None:
    """What is wrong with a value, from the path inside it on, or None when it fits. Null fields count as absent."""
    if isinstance(spec, Rule):
        return None if spec.fits(value) else misfit(value, spec.words)
    if isinstance(spec, List):
        if type(value) is not list:
            return misfit(value, "a list")
        return _first((f"[{i}]", fault(spec.of, each)) for i, each in enumerate(value))
    if type(value) is not dict:
        return misfit(value, "an object")
    lacking = next((name for name in spec.required if value.get(name) is None), None)
    if lacking:
        return f" without '{lacking}'"
    return _first(
        (f".{name}", fault(inner, each))
        for name, each in value.items()
        if each is not None and (inner := spec.fields.get(name, spec.others)) is not None
    )


def without_nulls(spec: Spec, value: Any) -> Any:
    """A value that fits, without the fields that are null where an object or a list may stand: they are absent."""
    if isinstance(spec, List):
        return [without_nulls(spec.of, each) for each in value]
    if not isinstance(spec, Object):
        return value
    inner = {name: spec.fields.get(name, spec.others) for name in value}
    return {
        name: value[name] if each is None or value[name] is None else without_nulls(each, value[name])
        for name, each in inner.items()
        if value[name] is not None or not isinstance(each, List | Object)
    }


def misfit(value: Any, words: str) -> str:
    """` = -1, which is not a number from 0`."""
    return f" = {short(value)}, which is not {words}"


def short(value: Any) -> str:
    """A value as an error shows it: ASCII, and not long."""
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _first(found: Any) -> str | None:
    return next((place + wrong for place, wrong in found if wrong is not None), None)


def number(low: float, high: float, unit: str = "") -> Rule:
    """A number, no bool, from low to high; from 0 on, 0 or one that is no less than TINIEST."""
    least = low or TINIEST
    words = f"{'' if low else '0 or '}a number{f' of {unit}' if unit else ''} from {least:g} to {high:g}"
    return Rule(lambda value: type(value) in _NUMERIC and (value == low or least <= value <= high), words, "float")


def numbers(rule: Rule) -> Rule:
    """A list of numbers that each fit the rule. The extremes alone are asked: a record has many samples."""

    def fits(value: Any) -> bool:
        if type(value) is not list or not set(map(type, value)) <= _NUMERIC:
            return False
        return not value or (rule.fits(min(value)) and rule.fits(max(value)))

    return Rule(fits, f"a list of which each is {rule.words}", f"list of {rule.kind}")


def choice(names: tuple[str, ...]) -> Rule:
    """One of some words."""
    return Rule(lambda value: type(value) is str and value in names, f"one of {', '.join(names)}", "string")


def _errors(value: Any) -> bool:
    return type(value) is dict and all(
        each is None or (type(each) in _NUMERIC and each >= 0) for each in value.values()
    )


TEXT = Rule(lambda value: type(value) is str, "a string", "string")
FLAG = Rule(lambda value: type(value) is bool, "true or false", "bool")
WHOLE = Rule(lambda value: type(value) is int, "an integer", "int")
COUNT = Rule(lambda value: type(value) is int and value >= 0, "an integer of at least 0", "int")
SIZE = Rule(lambda value: type(value) is int and value >= 1, "an integer of at least 1", "int")
SCALAR = Rule(lambda value: type(value) in _SCALARS, "a number, a string, true or false", "any")
TEXTS = Rule(
    lambda value: type(value) is list and set(map(type, value)) <= {str}, "a list of strings", "list of string"
)
ERRORS = Rule(_errors, "an object of numbers of at least 0", "object")
ANY_OBJECT = Rule(lambda value: type(value) is dict, "an object", "object")
# From a clock's tick to eleven days: what is outside was measured wrongly, or is of another unit.
TIME = number(1e-6, 1e9, "ms")
SECONDS = number(0, 1e9, "seconds")
MIB = number(0, 1e9, "MiB")
MHZ = number(0, 1e5, "MHz")
WATTS = number(0, 1e6, "watts")
AMOUNT = number(0, 1e30)
RATE = number(0, 1e18)
ABOVE_0 = number(1e-9, 1e18)
