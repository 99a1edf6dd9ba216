"""`subquad list`: operators, their implementations, what is absent and why, and the presets."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from suite.cli.selection import add_discovery
from suite.errors import Exit, PluginError

if TYPE_CHECKING:
    from suite.registry import Implementation, Operator, Registry


def configure(parser: argparse.ArgumentParser) -> None:
    add_discovery(parser)
    parser.add_argument("--op", metavar="NAME", help="one operator, with its equation, paper and axes")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> Exit:
    from suite.discovery import discover

    registry = discover(load=args.load)
    operators = [registry.operator(args.op)] if args.op else list(registry.operators.values())
    if args.json:
        print(json.dumps(_json(registry, operators), indent=1))
    elif args.op:
        _print_operator(operators[0])
    else:
        _print_all(registry, operators)
    return Exit.PASS


def _status(made: Implementation) -> str:
    try:
        return made.missing() or ""
    except PluginError as error:
        return str(error)


def _rows(operators: list[Operator]) -> list[tuple[str, ...]]:
    return [
        (op.name, made.name, made.origin, ",".join(sorted(made.passes)), ",".join(sorted(made.devices)), _status(made))
        for op in operators
        for made in op.implementations.values()
    ]


def _print_all(registry: Registry, operators: list[Operator]) -> None:
    from suite.cli.tables import print_table
    from suite.presets import load_preset, names

    print_table(("operator", "implementation", "origin", "passes", "devices", "missing"), _rows(operators))
    if registry.absent:
        print()
        print_table(("module", "not imported because"), [(each.module, each.reason) for each in registry.absent])
    print()
    print_table(("preset", "what for"), [(name, load_preset(name).description) for name in names()])


def _print_operator(op: Operator) -> None:
    from suite.cli.tables import print_table

    print(f"{op.name}: {op.equation}\nsource: {op.paper}\ntags: {', '.join(op.tags)}\ndefined at {op.place}")
    for axis in op.axes:
        print(f"axis {axis.name}: {', '.join(str(value) for value in axis.values)}  ({axis.help})")
    print()
    print_table(("operator", "implementation", "origin", "passes", "devices", "missing"), _rows([op]))


def _json(registry: Registry, operators: list[Operator]) -> dict[str, Any]:
    return {
        "operators": [
            {
                "name": op.name, "equation": op.equation, "paper": op.paper, "tags": op.tags, "place": op.place,
                "axes": {axis.name: axis.values for axis in op.axes},
                "implementations": [
                    {
                        "name": made.name, "origin": made.origin, "passes": sorted(made.passes),
                        "devices": sorted(made.devices), "dtypes": sorted(made.dtypes),
                        "tunables": dict(made.tunables), "missing": _status(made), "place": made.place,
                    }
                    for made in op.implementations.values()
                ],
            }
            for op in operators
        ],
        "absent": [{"module": each.module, "reason": each.reason} for each in registry.absent],
    }  # fmt: skip
