"""`subquad tiles`: choose configs by predicted time, without a GPU, and keep them: of our kernels in kernels/tiles/, of
peers' autotuners in baselines/tiles/."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from suite.cli import values
from suite.cli.selection import add_selection, selected
from suite.errors import Exit, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from suite.plan import Group
    from suite.registry import Registry
    from suite.tuning.chosen import Chosen, ChosenTable

PRESET = "tiles"


def configure(parser: argparse.ArgumentParser) -> None:
    add_selection(parser, preset=PRESET)
    group = parser.add_argument_group("how to choose")
    group.add_argument(
        "--arch",
        type=values.filled,
        default="sm_90",
        metavar="NAME",
        help="architecture to compile for: sm_80, sm_90 or sm_100",
    )
    group.add_argument(
        "--budget",
        type=values.budget,
        metavar="TIME",
        help="time limit, such as 90s, 8m or 1h30m; the next run continues from there",
    )
    group.add_argument(
        "--peers",
        action="store_true",
        help="choose what the autotuners of other libraries would: static profiles then compile that alone",
    )
    group.add_argument("--refresh", action="store_true", help="choose again what the table already has")
    group.add_argument("--jobs", type=values.count, default=2, metavar="N", help="number of processes that compile")
    group.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="file of the table; default: kernels/tiles/<arch>-triton-<version>.json, with --peers in baselines/tiles/",
    )
    group.add_argument("--dry-run", action="store_true", help="print what would be tried, and stop")
    group.add_argument("--json", action="store_true", help="print JSON lines")


def run(args: argparse.Namespace) -> Exit:
    from suite.discovery import ROOT, discover
    from suite.running.budget import Budget
    from suite.static.progress import shown
    from suite.static.stub_driver import target_of
    from suite.tuning.chosen import FOLDER, PEERS, ChosenTable, installed_triton, path_for, read_chosen
    from suite.tuning.tiling import choose, open_keys

    target = target_of(args.arch)
    if not (triton := installed_triton()):
        raise UsageError("configs are chosen from compiled kernels: install triton")
    load = [str(Path(path).resolve()) for path in args.load]
    registry = discover(load=load)
    path = args.out or path_for(ROOT, args.arch, triton, PEERS if args.peers else FOLDER)
    table = read_chosen(path) or ChosenTable(args.arch, target.name, triton)
    if table.arch != args.arch:
        raise UsageError(f"{path} is the table of {table.arch}, not of {args.arch}; name another file with --out")
    _, groups = selected(args, registry, PRESET)
    keeper = _Keeper(path, table, triton, args.json)
    if args.peers:
        return _of_peers(args, registry, groups, keeper, load)
    opened = open_keys(registry, groups, set() if args.refresh else set(table.entries), target)
    if args.dry_run:
        for each in opened:
            print(f"{each.key}: {len(each.configs)} configs, in {', '.join(case.case_id for case in each.cases)}")
    print(f"{len(opened)} kernels to choose configs for", file=sys.stderr)
    if args.dry_run or not opened:
        return Exit.PASS
    without = choose(
        opened, args.arch, keeper.keep, load=load, jobs=args.jobs, progress=shown, budget=Budget(args.budget)
    )
    for each in without:
        print(each, file=sys.stderr)
    print(f"table: {path}", file=sys.stderr if args.json else sys.stdout)
    return Exit.PASS


def _of_peers(
    args: argparse.Namespace, registry: Registry, groups: Sequence[Group], keeper: _Keeper, load: list[str]
) -> Exit:
    from suite.running.budget import Budget
    from suite.static.progress import shown
    from suite.tuning.peers import choose_for_peers

    cases = [
        case
        for group in groups
        for case in group.cases
        if registry.operator(group.operator).implementations[case.implementation].origin == "peer"
    ]
    if args.dry_run:
        for case in cases:
            print(case.case_id)
    print(f"{len(cases)} cases of other libraries", file=sys.stderr)
    if args.dry_run or not cases:
        return Exit.PASS
    without = choose_for_peers(
        cases,
        args.arch,
        keeper.keep,
        load=load,
        jobs=args.jobs,
        progress=shown,
        budget=Budget(args.budget),
        refresh=args.refresh,
    )
    for each in without:
        print(each, file=sys.stderr)
    print(f"table: {keeper.path}", file=sys.stderr if args.json else sys.stdout)
    return Exit.PASS


class _Keeper:
    """Writes the table anew with each config: what ends the command, or another one beside it, loses nothing."""

    def __init__(self, path: Path, table: ChosenTable, triton: str, as_json: bool) -> None:
        self.path, self.table, self.json = path, table, as_json
        table.triton = triton

    def keep(self, key: str, entry: Chosen) -> None:
        from dataclasses import asdict, replace

        from suite.tuning.chosen import read_chosen, write_chosen

        now = read_chosen(self.path) or self.table
        entries = {**now.entries, key: entry}
        write_chosen(self.path, replace(self.table, entries=entries))
        print(json.dumps({"key": key, **asdict(entry)}) if self.json else told(key, entry), flush=True)


def told(key: str, entry: Chosen) -> str:
    """One line: the key, its config, and the predicted time of each case beside that with the family's own config."""
    words = " ".join(f"{name}={value}" for name, value in entry.config.items()) or "the family's own"
    times = ", ".join(f"{us:.0f} us ({us / entry.own_us[name]:.2f}x)" for name, us in entry.us.items())
    return f"{key}: {words}: {times}"
