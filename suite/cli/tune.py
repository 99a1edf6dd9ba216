"""`subquad tune`: measure the configs worth trying for each kernel, and keep the winners in kernels/tuned/."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.cli import values
from suite.cli.compiling import add_compiling, compile_first
from suite.cli.runs import settle
from suite.cli.selection import add_selection, selected
from suite.cli.sweeping import add_gpu, add_running, device_of, gpu_variables, holding
from suite.errors import Exit, UsageError

if TYPE_CHECKING:
    from suite.registry import Registry
    from suite.running.process import WorkerProcess
    from suite.tuning.search import Job
    from suite.tuning.tables import Table, Tuned

# Candidates of one kernel that are timed beside the table's own.
BEST = 4
ALL = 0


def configure(parser: argparse.ArgumentParser) -> None:
    add_selection(parser)
    add_running(parser, ("cuda", "cpu"))
    add_gpu(parser)
    add_compiling(parser)
    group = parser.add_argument_group("how to tune")
    group.add_argument(
        "--mode", metavar="NAME", help="cache state and timer, as in bench; default: cold-events (CUDA), warm-cpu"
    )
    group.add_argument(
        "--warmup",
        type=values.pause,
        default=25.0,
        metavar="MS",
        help="time of the warm-up before the first sample, in ms",
    )
    group.add_argument(
        "--rep",
        type=values.span,
        default=200.0,
        metavar="MS",
        help="longest time for sampling one configuration, in ms",
    )
    group.add_argument(
        "--budget",
        type=values.budget,
        metavar="TIME",
        help="time limit, such as 90s, 8m or 1h30m; the next run continues from there",
    )
    group.add_argument(
        "--best",
        type=_best,
        default=BEST,
        metavar="N",
        help=f"of each kernel's candidates on a GPU, time the N that look best by their static profile, beside the "
        f"table's own; or all; default: {BEST}",
    )
    group.add_argument("--refresh", action="store_true", help="measure again what the table already has")
    group.add_argument("--out", type=Path, metavar="FILE", help="file of the table; default: kernels/tuned/<gpu>.json")
    group.add_argument("--dry-run", action="store_true", help="print what would be tried, and stop")


def run(args: argparse.Namespace) -> Exit:
    from suite.discovery import ROOT, discover
    from suite.tuning.search import jobs, why_none
    from suite.tuning.tables import Table, path_of, read_table

    settle(args)
    registry = discover(load=args.load)
    device = device_of(args)
    variables = gpu_variables(args, device)
    identity = _identity(args, device, variables)
    name, arch = identity["name"], identity["arch"]
    path = args.out or path_of(ROOT, name)
    table = read_table(path) or Table(name, arch)
    if table.gpu != name:
        raise UsageError(f"{path} is the table of {table.gpu}, this is {name}; name another file with --out")
    _, groups = selected(args, registry, "gpu" if device == "cuda" else "cpu")
    todo = jobs(registry, groups, set() if args.refresh else set(table.entries), device)
    if args.dry_run:
        _show(todo)
    if not todo:
        for reason in why_none(registry, groups, device):
            print(f"nothing to tune: {reason}")
    if args.dry_run or not todo:
        return Exit.PASS
    with holding(args, identity.get("uuid")):
        return _Tune(args, registry, device, path, table, variables, identity["target"]).run(todo)


def _best(word: str) -> int:
    return ALL if word == "all" else values.count(word)


def _identity(args: argparse.Namespace, device: str, variables: dict[str, str]) -> dict[str, Any]:
    """The device as a worker sees it, and its target: which GPU --gpu names is known only there."""
    from suite.running.process import measuring_worker

    worker = measuring_worker(device, _plugins(args), environment=variables)
    try:
        return worker.ask(do="describe", device=device)["device"] | worker.ask(do="target")
    finally:
        worker.kill()


def _plugins(args: argparse.Namespace) -> list[str]:
    return [str(Path(path).resolve()) for path in args.load]


def _show(todo: list[Job]) -> None:
    for job in todo:
        for key, configs in job.search.items():
            print(f"{key}: {len(configs)} configs, in {job.case.case_id}")
    print(f"{sum(len(job.search) for job in todo)} kernels of {len(todo)} cases", file=sys.stderr)


class _Tune:
    def __init__(
        self,
        args: argparse.Namespace,
        registry: Registry,
        device: str,
        path: Path,
        table: Table,
        variables: dict[str, str],
        target: Mapping[str, Any],
    ) -> None:
        from suite.running.budget import Budget
        from suite.targets import Target

        self.args, self.registry, self.device, self.path, self.table = args, registry, device, path, table
        self.variables, self.target = variables, Target(**target)
        self.budget = Budget(args.budget)
        self.wrong = 0

    def run(self, todo: list[Job]) -> Exit:
        from suite.discovery import ROOT
        from suite.hardware.environment import library_versions, revision
        from suite.measuring.case import Settings
        from suite.measuring.timers import DEFAULT_MODES
        from suite.tuning.search import Tuning

        settings = Settings(
            device=self.device,
            device_name=self.table.gpu,
            modes=(self.args.mode or DEFAULT_MODES[self.device],),
            warmup_ms=self.args.warmup,
            rep_ms=self.args.rep,
            seed=self.args.seed,
            commit=revision(ROOT),
        )
        if self.device == "cuda":
            todo = self._prepared(todo)
        tuning = Tuning(
            settings, self._start, self.budget, self.args.timeout, self._keep, self._failed, library_versions()
        )
        tuning.run(todo)
        if tuning.left_out:
            print(f"{len(tuning.left_out)} kernels left out by --budget; run the command again", file=sys.stderr)
        print(f"table: {self.path}", file=sys.stderr if self.args.json else sys.stdout)
        return Exit.REGRESSION if self.wrong else Exit.PASS

    def _prepared(self, todo: list[Job]) -> list[Job]:
        """The candidates that are worth timing, and their kernels compiled, on all cores, before the first is timed."""
        from suite.running.budget import Budget
        from suite.static.ahead import SHARE, Wanted, cores
        from suite.static.progress import shown
        from suite.tuning.ranking import ranked

        if self.args.best != ALL:
            left = self.budget.left
            todo = ranked(
                todo,
                self.target.arch,
                self.target.name,
                self.args.best,
                load=_plugins(self.args),
                jobs=cores(),
                progress=shown,
                timeout_s=self.args.timeout,
                budget=Budget(None if left is None else max(left, 0.0) * SHARE),
            )
        if not self.args.no_compile:
            wanted = [
                Wanted(job.case, {key: config})
                for job in todo
                for key, configs in job.search.items()
                for config in configs
            ]
            compile_first(self.args, self.registry, wanted, self.target, self.budget)
        return todo

    def _start(self) -> WorkerProcess:
        from suite.running.process import measuring_worker

        return measuring_worker(
            self.device, _plugins(self.args), module="suite.tuning.worker", environment=self.variables
        )

    def _keep(self, key: str, entry: Tuned) -> None:
        """Written at once, key by key: what ends the sweep loses nothing that was found."""
        from dataclasses import asdict

        from suite.tuning.tables import write_table

        self.table.entries[key] = entry
        write_table(self.path, self.table)
        if self.args.json:
            print(json.dumps({"key": key, **asdict(entry)}), flush=True)
        else:
            print(_told(key, entry), flush=True)

    def _failed(self, case_id: str, key: str, trial: Mapping[str, Any]) -> None:
        """A candidate that does not fit is dropped; the table's own config must be right."""
        from suite.faults import FAILURES

        reason = str(trial["reason"]).partition("\n")[0]
        print(f"{trial['status']}: {key} {_words(trial['config'])}: {reason} ({case_id})", file=sys.stderr)
        self.wrong += trial["index"] == 0 and trial["status"] in FAILURES | {"over_limit"}


def _told(key: str, entry: Tuned) -> str:
    gain = f", {entry.default_ms / entry.ms:.2f}x the table's" if entry.default_ms else ""
    near = f"; next {entry.runner_up_ms / entry.ms - 1:+.1%}" if entry.runner_up_ms else ""
    return f"{key}: {_words(entry.config)} {entry.ms:.4f} ms{gain}{near}"


def _words(config: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in config.items())
