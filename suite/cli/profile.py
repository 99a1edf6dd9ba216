"""`subquad profile OP --impl NAME`: one case under torch.profiler, proton or ncu."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.cli import values
from suite.cli.selection import add_selection, selection_of
from suite.cli.sweeping import device_of
from suite.errors import Exit, UsageError
from suite.profiling.model import REPLAYS, TOOLS

if TYPE_CHECKING:
    from suite.plan import Group
    from suite.presets import Preset
    from suite.problem import Case
    from suite.profiling.model import Options, Profile
    from suite.registry import Registry

PROFILES = Path("results/local/profiles")
# What is profiled where no flag says otherwise: one problem that a layer could have.
DEFAULTS = {
    "cuda": {"T": (8192,), "H": (16,), "K": (128,)},
    "cpu": {"T": (1024,), "H": (1,), "K": (64,), "dtype": ("float32",)},
}
MOST_NAMED = 3


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("operator", metavar="OP", help="operator of the case")
    add_selection(parser)
    group = parser.add_argument_group("how to profile")
    group.add_argument(
        "--tool", choices=TOOLS, default="torch", help="the profiler; default: torch; ncu counts bytes and FLOPs"
    )
    group.add_argument("--device", choices=("cuda", "cpu"), help="default: cuda if there is a GPU, else cpu")
    group.add_argument(
        "--calls", type=values.count, default=5, metavar="N", help="number of calls to average; ncu profiles one"
    )
    group.add_argument(
        "--replay", choices=REPLAYS, default="application", help="how ncu repeats the work to read all counters"
    )
    group.add_argument("--seed", type=values.seed, default=0, metavar="N", help="seed of the inputs")
    group.add_argument("--out", type=Path, metavar="DIR", help=f"folder for the tool's files; default: {PROFILES}/…")
    group.add_argument(
        "--run", dest="stored", type=Path, metavar="RUN", help="add the profile to the records of this run"
    )
    group.add_argument("--top", type=values.count, default=20, metavar="N", help="number of kernels to list")
    group.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(args: argparse.Namespace) -> Exit:
    from suite.discovery import discover
    from suite.profiling.model import Options
    from suite.profiling.predicted import static_of
    from suite.profiling.running import FailedCase, profile
    from suite.profiling.traffic import traffic_of

    args.load = [str(Path(path).resolve()) for path in args.load]
    registry = discover(load=args.load)
    device = device_of(args)
    case = _case(args, registry, device)
    options = Options(args.tool, device, args.calls, args.seed, tuple(args.load), args.replay)
    made = registry.implementation(case.operator, case.implementation)
    cost = registry.operator(case.operator).cost_of(case.problem, made, dict(case.tunables))
    try:
        found = profile(case, options, args.out or _folder(options), cost)
    except FailedCase as error:
        print(f"subquad: {case.case_id} is {error.status}: {error}", file=sys.stderr)
        return Exit.USAGE if error.status == "unsupported" else Exit.REGRESSION
    computed = static_of(case, found.device, options.load) if found.counters else None
    found = replace(found, predicted=_pairs(computed, found))
    traffic = traffic_of(found, cost.bytes_compulsory, computed) if "dram_bytes" in found.counters else {}
    if args.json:
        print(json.dumps(found.to_dict() | {"traffic": traffic}))
    else:
        _show(found, traffic, args.top)
    if args.stored:
        _join(args.stored, found)
    return Exit.PASS


def _case(args: argparse.Namespace, registry: Registry, device: str) -> Case:
    """The one case that the flags select; UsageError that says what varies when there are several."""
    from suite.plan import make_plan
    from suite.presets import load_preset

    if args.op:
        raise UsageError("--op: `profile` takes the operator as its first word; remove --op")
    if len(args.impl) != 1:
        raise UsageError("--impl: `profile` takes one implementation; name it, as `subquad list` has it")
    args.op = (args.operator,)
    registry.implementation(args.operator, args.impl[0].rpartition("/")[2])
    preset = load_preset(args.preset) if args.preset else _default(device)
    groups = make_plan(registry, preset, selection_of(args))
    cases = [case for group in groups for case in group.cases]
    if len(cases) > 1:
        raise UsageError(f"{len(cases)} cases are selected, and one is profiled at a time: choose {_varying(groups)}")
    return cases[0]


def _default(device: str) -> Preset:
    from suite.presets import Preset, Sweep

    return Preset("of `profile`", sweeps=(Sweep(values=DEFAULTS[device]),))


def _varying(groups: list[Group]) -> str:
    """`T (128, 512), pass (fwd, bwd)`: the axes and tunables in which cases differ."""
    cases = [case for group in groups for case in group.cases]
    rows = [{**case.problem.columns(), **dict(case.problem.axes), **dict(case.tunables)} for case in cases]
    found = []
    for name in rows[0]:
        values = list(dict.fromkeys(str(row.get(name)) for row in rows))
        if len(values) > 1:
            more = ", …" if len(values) > MOST_NAMED else ""
            found.append(f"{name} ({', '.join(values[:MOST_NAMED])}{more})")
    return ", ".join(found)


def _folder(options: Options) -> Path:
    from suite.store.writing import fresh_folder

    return fresh_folder(PROFILES / f"{datetime.now():%Y%m%d-%H%M%S}-{options.tool}")


def _pairs(computed: Any, found: Profile) -> tuple[dict[str, Any], ...]:
    """What is predicted of the call's kernels, beside what was counted."""
    from suite.profiling.predicted import pairs

    return tuple(pair.to_dict() for pair in pairs(computed.launches, found.kernels)) if computed else ()


def _show(found: Profile, traffic: dict[str, Any], top: int) -> None:
    from suite.cli.tables import print_table
    from suite.profiling import rows

    print(f"{found.case_id} on {found.device}, {found.tool} {found.version}\n")
    print_table(rows.columns(found), rows.kernels(found, top))
    if found.counters:
        print()
        print_table(("counted in one call", "value"), rows.counters(found))
    if traffic:
        print()
        print_table(("traffic of one call", "bytes", "/ compulsory"), rows.traffic(traffic))
    if found.predicted:
        print()
        print_table(rows.PREDICTED, rows.predicted(found))
    for line in found.missing:
        print(f"missing: {line}")
    print()
    for what, path in found.files.items():
        print(f"{what}: {path}")
    print("These times are from the profiled process; to measure the case, run `subquad bench`.")


def _join(run: Path, found: Profile) -> None:
    from suite.profiling.merging import doubts, join

    joined = join(run, found)
    print(f"joined to {len(joined)} record(s) of {run}", file=sys.stderr)
    for doubt in doubts(run, joined, found):
        print(f"note: {doubt}", file=sys.stderr)
