"""`subquad check`: only the numerics, on a GPU, a CPU or in Triton's interpreter."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.cli import values
from suite.cli.compiling import add_compiling, compile_first, target_of_worker
from suite.cli.runs import Resumption, add_run, environment_of, judged, refuse_both, settle, start_run, taken
from suite.cli.selection import add_selection, selected
from suite.cli.sweeping import (
    add_running,
    add_shard,
    add_telling,
    device_of,
    exit_of,
    run_sweep,
    sharded,
    summary_of,
    told_of,
)
from suite.errors import Exit, UsageError

if TYPE_CHECKING:
    from suite.measuring.case import Settings
    from suite.plan import Group
    from suite.registry import Registry
    from suite.running.process import WorkerProcess
    from suite.running.progress import Told
    from suite.running.sweep import Sweep
    from suite.store import Key, Writer
    from suite.targets import Target


DEFAULT_PRESET = "registry"
# In the interpreter: the same problems, also in bf16.
INTERPRETED_PRESET = "interpret"


def configure(parser: argparse.ArgumentParser) -> None:
    add_selection(parser, f"{DEFAULT_PRESET}, with --device interpret {INTERPRETED_PRESET}")
    add_running(parser, ("cuda", "cpu", "interpret"))
    add_telling(parser)
    add_compiling(parser)
    parser.add_argument_group("what to look at").add_argument(
        "--sanitize",
        nargs="?",
        const="memory",
        choices=("memory", "addresses"),
        default="",
        help="look in Triton's interpreter for accesses out of bounds, races, missing barriers, use of masked-off "
        "lanes, misaligned descriptors; `addresses`: for int32 overflow and grid limits at sizes that do not exist",
    )
    group = parser.add_argument_group("how to divide the plan")
    group.add_argument(
        "--jobs",
        type=values.count,
        default=1,
        metavar="N",
        help="check in N processes at the same time, which share the device; default: 1",
    )
    add_shard(group, "check")
    add_run(parser.add_argument_group("what to store"), "nothing is stored")


def run(args: argparse.Namespace) -> Exit:
    return checked(args).exit


def checked(args: argparse.Namespace) -> Check:
    """The check that the flags ask for, when it has run: its records and its exit code."""
    from suite.discovery import discover
    from suite.plan import by_proof

    refuse_both(args)
    _settle_sanitizing(args)
    resumption = Resumption(args, "check") if args.resume else None
    registry = discover(load=args.load)
    args.device = device_of(args)
    if resumption is None:
        args.preset = args.preset or (INTERPRETED_PRESET if args.device == "interpret" else DEFAULT_PRESET)
    if resumption:
        groups = resumption.plan.groups(registry)
    else:
        groups = sharded(by_proof(selected(args, registry, args.preset)[1]), args.shard)
    settle(args)
    with ExitStack() as stack:
        stored = args.resume or args.out
        writer = stack.enter_context(taken(args, stored)) if stored else None
        check = Check(args, registry, groups, writer, resumption)
        check.run()
        return check


class Check:
    """One check of a plan.

    records: one per case
    exit:    what their statuses say; REGRESSION too where Ctrl-C left cases out
    """

    def __init__(
        self,
        args: argparse.Namespace,
        registry: Registry,
        groups: list[Group],
        writer: Writer | None,
        resumption: Resumption | None,
    ) -> None:
        from suite.running.budget import Budget
        from suite.store import done_keys

        self.args, self.registry, self.device, self.groups = args, registry, args.device, groups
        self.writer, self.resumption = writer, resumption
        self.budget = Budget(args.budget)
        self.records: list[dict[str, Any]] = []
        self.exit = Exit.PASS
        self.done: set[Key] = done_keys(args.resume) if args.resume else set()

    def run(self) -> None:
        compiles = self.device == "cuda" and not self.args.no_compile
        if self.writer or compiles:
            worker = self._start()
            try:
                if self.writer:
                    self._begin(self.writer, worker)
                target = target_of_worker(worker) if compiles else None
            finally:
                worker.kill()
            if target:
                self._compile(target)
        sweep = self._sweep(self.writer)
        if not self.args.json:
            _print_table(self.records, told_of(self.args))
            print(summary_of(sweep.statuses) or "nothing to do")
        if sweep.left_out:
            again = f"; `subquad check --resume {self.writer.folder}` does them" if self.writer else ""
            print(f"{sweep.left_out} cases left out{again}", file=sys.stderr)
        # What a budget left out was asked for; what an interrupt did was not.
        whole = not sweep.left_out or bool(self.args.budget)
        self.exit = exit_of(sweep.statuses) if whole else Exit.REGRESSION

    def _begin(self, writer: Writer, worker: WorkerProcess) -> None:
        found = worker.ask(do="describe", device="cuda" if self.device == "cuda" else "cpu")
        environment = environment_of(found, self.args.preset, self.groups, self.args.seed)
        before = judged(self.args, environment, self.resumption) if self.args.resume else None
        start_run(writer, self.args, "check", self.groups, environment, before)

    def _compile(self, target: Target) -> None:
        """Compile what the cases that are missing will launch, on all cores, before the first is checked."""
        from suite.running.sweep import is_done
        from suite.static.ahead import Wanted

        settings = self._settings()
        cases = [case for group in self.groups for case in group.cases]
        wanted = [Wanted(case) for case in cases if not is_done(case, settings, "check", 0, self.done)]
        compile_first(self.args, self.registry, wanted, target, self.budget, calls="check")

    def _start(self) -> WorkerProcess:
        from suite.running.process import measuring_worker

        return measuring_worker(self.device, [str(Path(path).resolve()) for path in self.args.load])

    def _settings(self) -> Settings:
        from suite.discovery import ROOT
        from suite.hardware.environment import revision
        from suite.measuring.case import Settings

        return Settings(
            device=self.device,
            device_name=_device_name(self.device),
            modes=(),
            seed=self.args.seed,
            commit=revision(ROOT),
            sanitize=self.args.sanitize,
        )

    def _sweep(self, writer: Writer | None) -> Sweep:
        from suite.running.sweep import Options

        options = Options("check", timeout_s=self.args.timeout, done=self.done, jobs=self.args.jobs)

        def store(record: dict[str, Any]) -> None:
            if writer:
                writer.append(record)
            self.records.append(record)
            if self.args.json:
                print(json.dumps(record), flush=True)

        return run_sweep(
            self.registry,
            self.groups,
            self._settings(),
            options,
            start=self._start,
            store=store,
            budget=self.budget,
            told=told_of(self.args),
        )


def _settle_sanitizing(args: argparse.Namespace) -> None:
    """The device of a sanitized check; UsageError for flags that do not go with it."""
    if not args.sanitize:
        return
    if args.device not in (None, "interpret"):
        raise UsageError(f"--sanitize runs in Triton's interpreter; use --device interpret, not {args.device}")
    if args.out or args.resume:
        raise UsageError("--sanitize stores nothing; remove --out or --resume, and use --json to keep its records")
    args.device = "interpret"


def _device_name(device: str) -> str:
    if device != "cuda":
        return "cpu"
    import torch

    return torch.cuda.get_device_name()


def _print_table(records: list[dict[str, Any]], told: Told) -> None:
    """Each case; of those that are unsupported each reason once. Quiet: failures alone; verbose: every case."""
    from suite.cli.results import print_reasons
    from suite.cli.tables import print_table
    from suite.running.progress import is_told

    folded = [record for record in records if record["status"] == "unsupported" and told != "verbose"]
    rows = []
    for record in records:
        if record in folded or (told == "quiet" and not is_told(record, told)):
            continue
        errors = " ".join(f"{name} {_short(error)}" for name, error in record["check"].items())
        first, *more = record["reason"].splitlines() or [""]
        why = f"{first} (and {len(more)} more: --json)" if more else first
        rows.append((record["status"], record["case_id"], why or errors))
    if rows:
        print_table(("status", "case", "errors, or the reason"), rows)
    if told != "quiet":
        print_reasons(folded)


def _short(error: float | None) -> str:
    return "inf" if error is None else f"{error:.1e}"
