"""Flags that select cases, the same in every command: `add_selection(parser)`, then `selected(args, registry)`.

--preset NAME        what is swept (see `list`), or a TOML file
--op, --impl, --skip which operators and implementations
--pass --dtype --seq-len --head-dim --batch --heads …   an axis each, replacing the preset's values
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from suite import dtypes
from suite.cli.values import filled, head_dims, size, sizes, words
from suite.errors import UsageError, unknown
from suite.presets import Preset, load_preset
from suite.problem import SIZES, STANDARD, Value

if TYPE_CHECKING:
    from suite.axes import StandardAxis
    from suite.plan import Group, Selection
    from suite.registry import Registry

WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def add_discovery(parser: argparse.ArgumentParser) -> None:
    """`--load`."""
    parser.add_argument(
        "--load",
        action="append",
        default=[],
        metavar="FILE.py",
        help="Python file that registers operators; may be repeated",
    )


def add_selection(parser: argparse.ArgumentParser, preset: str = "gpu if there is a GPU, else cpu") -> None:
    """All flags that select cases. preset: which one the command takes without --preset, in words"""
    add_discovery(parser)
    group = parser.add_argument_group("what to select (lists are comma-separated)")
    group.add_argument(
        "--preset",
        type=filled,
        metavar="NAME",
        help=f"name of a preset, or a TOML file; default: {preset}",
    )
    group.add_argument("--op", type=words, default=(), metavar="NAMES", help="operators to select")
    group.add_argument(
        "--impl", "--only", type=words, default=(), metavar="NAMES", help="implementations to select: IMPL or OP/IMPL"
    )
    group.add_argument("--skip", type=words, default=(), metavar="NAMES", help="what to exclude: OP, IMPL or OP/IMPL")
    group.add_argument(
        "--origin",
        type=words,
        default=(),
        metavar="NAMES",
        help="implementations to select by origin: ours, baseline, peer",
    )
    axes = parser.add_argument_group("axes (each flag replaces the values of the preset)")
    for axis in STANDARD.values():
        if axis.flag:
            taken, metavar = {"size": (sizes, "N"), "flag": (words, "yes|no")}.get(axis.kind, (words, "NAMES"))
            axes.add_argument(axis.flag, dest=axis.field, type=taken, metavar=metavar, help=axis.help)
    axes.add_argument(
        "--head-dim", type=head_dims, metavar="K[xV]", help="key dim, and value dim if it differs, such as 64 or 128x64"
    )
    axes.add_argument(
        "--shape",
        action="append",
        default=[],
        metavar="B=1,T=8192,H=16,K=128",
        help="several sizes at once; repeat the flag for several shapes",
    )
    axes.add_argument(
        "--axis", action="append", default=[], metavar="NAME=V,…", help="an axis of the operator, such as causal=no"
    )
    axes.add_argument(
        "--chunk", type=words, metavar="N", help="chunk sizes, powers of two; `all` for every size that is allowed"
    )
    axes.add_argument(
        "--tunable", action="append", default=[], metavar="NAME=V,…", help="another tunable of the implementation"
    )


def selection_of(args: argparse.Namespace) -> Selection:
    """What the flags say, as a Selection."""
    from suite.plan import Selection

    values: dict[str, tuple[Value, ...]] = {}
    for name, axis in STANDARD.items():
        if axis.flag and (given := getattr(args, axis.field)):
            values[name] = tuple(_axis_value(axis, word) for word in given)
    tunables = _assignments(args.tunable, "--tunable")
    if args.chunk:
        tunables["chunk"] = tuple(_value(word) for word in args.chunk)
    return Selection(
        args.op,
        args.impl,
        args.skip,
        values,
        _assignments(args.axis, "--axis"),
        tunables,
        _shapes(args, values),
        args.origin,
    )


def _shapes(args: argparse.Namespace, values: dict[str, tuple[Value, ...]]) -> tuple[dict[str, Value], ...]:
    """`--shape` once or more, and `--head-dim` as the pairs of K and V that vary together."""
    shapes = [_shape(text) for text in args.shape] or [{}]
    if args.head_dim:
        shapes = [{**shape, "K": K, "V": V} for shape in shapes for K, V in args.head_dim]
    if twice := sorted({axis for shape in shapes for axis in shape} & set(values)):
        raise UsageError(f"{twice[0]} is given by --shape and by its own flag; remove one")
    return tuple(shapes) if shapes != [{}] else ()


def _shape(text: str) -> dict[str, Value]:
    shape: dict[str, Value] = {}
    for word in text.split(","):
        axis, _, value = word.strip().partition("=")
        if axis not in SIZES:
            raise unknown("axis in --shape", axis, SIZES)
        if axis in shape:
            raise UsageError(f"--shape {text}: {axis} is given twice; repeat --shape for another shape")
        try:
            shape[axis] = size(value)
        except argparse.ArgumentTypeError as error:
            raise UsageError(f"--shape {text}: {error}") from error
    return shape


def selected(args: argparse.Namespace, registry: Registry, default_preset: str) -> tuple[Preset, list[Group]]:
    """The preset and the plan that the flags select."""
    from suite.plan import make_plan

    preset = load_preset(args.preset or default_preset)
    return preset, make_plan(registry, preset, selection_of(args))


def _axis_value(axis: StandardAxis, word: int | str) -> Value:
    if axis.kind == "dtype":
        return dtypes.canonical(str(word))
    if axis.kind != "flag":
        return word
    if str(word).lower() not in WORDS:
        raise UsageError(f"{axis.flag} {word}: write yes, no, or yes,no")
    return WORDS[str(word).lower()]


def _value(word: str) -> Value:
    if word.lower() in WORDS:
        return WORDS[word.lower()]
    try:
        return int(word)
    except ValueError:
        return word


def _listed(told: str, values: str) -> tuple[str, ...]:
    try:
        return words(values)
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"{told}: {error}") from error


def _assignments(given: list[str], flag: str) -> dict[str, tuple[Value, ...]]:
    found = {}
    for each in given:
        name, equals, values = each.partition("=")
        if not equals or not values:
            raise UsageError(f"{flag} {each}: write NAME=VALUE, or NAME=VALUE,VALUE")
        if name in found:
            raise UsageError(f"{flag} {each}: {name} is given twice; write {name}=VALUE,VALUE")
        found[name] = tuple(_value(word) for word in _listed(f"{flag} {each}", values))
    return found
