"""`subquad list`: operators, their implementations, which libraries are absent and why, and the presets."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from suite.cli.selection import add_discovery
from suite.cli.values import words
from suite.errors import Exit, PluginError

if TYPE_CHECKING:
    from suite.registry import Implementation, Operator, Registry
    from suite.signature import Input


def configure(parser: argparse.ArgumentParser) -> None:
    add_discovery(parser)
    parser.add_argument(
        "--op",
        type=words,
        default=(),
        metavar="NAMES",
        help="operators to describe: signature, axes and implementations",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> Exit:
    from suite.discovery import discover

    registry = discover(load=args.load)
    operators = [registry.operator(name) for name in args.op] or list(registry.operators.values())
    if args.json:
        print(json.dumps(_json(registry, operators, bool(args.op)), indent=1))
    elif args.op:
        for i, operator in enumerate(operators):
            print(end="\n" if i else "")
            _print_operator(operator)
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
    from suite.signature import output_dims

    print(f"{op.name}: {op.equation}\nsource: {op.paper}\ntags: {', '.join(op.tags)}\ndefined at {op.place}")
    print(f"passes: {', '.join(op.passes)}")
    for pass_, inputs in _signatures(op).items():
        print(f"\n{'sequence passes' if pass_ == 'fwd' else pass_} take")
        for each in inputs:
            print(f"  {each}")
    print(f"\nreturns o [{','.join(output_dims(op))}]{', and the final state on request' if op.stateful else ''}")
    at = "; T is 1 in a decode step" if "decode" in op.passes else ""
    print(f"HS is max(H, HV); N is the number of sequences{at}\n")
    for axis in op.axes:
        values = ", ".join(str(value) for value in axis.values)
        print(f"axis {axis.name}: {values}  ({axis.default} by default{'; ' + axis.help if axis.help else ''})")
    columns = ("implementation", "origin", "passes", "devices", "dtypes", "tunables", "requires", "missing")
    print_table(columns, [_implementation_row(made) for made in op.implementations.values()])


def _signatures(op: Operator) -> dict[str, list[Input]]:
    """The inputs of sequence passes, under `fwd`, and of `decode`, where the operator has them."""
    from suite.registry import SEQUENCE_PASSES
    from suite.signature import signature

    found = {"fwd": signature(op, "fwd")} if SEQUENCE_PASSES & set(op.passes) else {}
    return found | ({"decode": signature(op, "decode")} if "decode" in op.passes else {})


def _implementation_row(made: Implementation) -> tuple[str, ...]:
    from suite.dtypes import SHORT

    tunables = "; ".join(f"{name} {'|'.join(map(str, values))}" for name, values in made.tunables.items())
    taken = ",".join(short for name, short in SHORT.items() if name in made.dtypes)
    return (
        made.name,
        made.origin,
        ",".join(sorted(made.passes)),
        ",".join(sorted(made.devices)),
        taken,
        tunables,
        _required(made),
        _status(made),
    )


def _required(made: Implementation) -> str:
    """The library that it needs, and the version that is there."""
    if made.requires is None:
        return ""
    version = made.requires.version()
    return f"{made.requires.distribution}{made.requires.versions}{f' ({version} is here)' if version else ''}"


def _json(registry: Registry, operators: list[Operator], signed: bool) -> dict[str, Any]:
    return {
        "operators": [_operator_json(op, signed) for op in operators],
        "absent": [{"module": each.module, "reason": each.reason} for each in registry.absent],
    }


def _operator_json(op: Operator, signed: bool) -> dict[str, Any]:
    """What is known of an operator; with its signature where that is asked for, which takes a second."""
    from suite.signature import output_dims

    found = {
        "name": op.name,
        "equation": op.equation,
        "paper": op.paper,
        "tags": op.tags,
        "place": op.place,
        "passes": op.passes,
        "stateful": op.stateful,
        "axes": {axis.name: axis.values for axis in op.axes},
        "implementations": [
            {
                "name": made.name,
                "origin": made.origin,
                "passes": sorted(made.passes),
                "devices": sorted(made.devices),
                "dtypes": sorted(made.dtypes),
                "tunables": dict(made.tunables),
                "requires": _required(made),
                "missing": _status(made),
                "place": made.place,
            }
            for made in op.implementations.values()
        ],
    }
    if signed:
        inputs = {pass_: [vars(each) for each in inputs] for pass_, inputs in _signatures(op).items()}
        found |= {"inputs": inputs, "output": output_dims(op)}
    return found
