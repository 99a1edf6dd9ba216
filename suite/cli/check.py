"""`subquad check`: the numerics alone, on a GPU, a CPU or in Triton's interpreter."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.cli.runs import add_run, environment_of, open_run, refuse_both
from suite.cli.selection import add_selection, selected
from suite.cli.sweeping import add_running, device_of, exit_of, run_sweep, summary_of
from suite.errors import Exit

if TYPE_CHECKING:
    from suite.plan import Group
    from suite.presets import Preset
    from suite.registry import Registry
    from suite.running.process import WorkerProcess
    from suite.running.sweep import Sweep
    from suite.store import Writer


def configure(parser: argparse.ArgumentParser) -> None:
    add_selection(parser)
    add_running(parser, ("cuda", "cpu", "interpret"))
    add_run(parser.add_argument_group("what to store"), "nothing is stored")


def run(args: argparse.Namespace) -> Exit:
    from suite.discovery import discover

    refuse_both(args)
    registry = discover(load=args.load)
    device = device_of(args)
    preset, groups = selected(args, registry, "smoke")
    return _Check(args, registry, device, preset, groups).run()


class _Check:
    def __init__(self, args: argparse.Namespace, registry: Registry, device: str, preset: Preset,
                 groups: list[Group]) -> None:  # fmt: skip
        from suite.running.budget import Budget

        self.args, self.registry, self.device, self.preset, self.groups = args, registry, device, preset, groups
        self.budget = Budget(args.budget)
        self.records: list[dict[str, Any]] = []
        self.folder: Path | None = args.resume or args.out

    def run(self) -> Exit:
        with ExitStack() as stack:
            writer = stack.enter_context(self._open(self.folder)) if self.folder else None
            sweep = self._sweep(writer)
        if not self.args.json:
            _print_table(self.records)
            print(summary_of(sweep.statuses) or "nothing to do")
        if sweep.left_out:
            again = f"; `subquad check --resume {self.folder}` does them" if self.folder else ""
            print(f"{sweep.left_out} cases left out{again}", file=sys.stderr)
        # What a budget left out was asked for; what an interrupt did was not.
        whole = not sweep.left_out or bool(self.args.budget)
        return exit_of(sweep.statuses) if whole else Exit.REGRESSION

    def _open(self, folder: Path) -> Writer:
        worker = self._start()
        try:
            found = worker.ask(do="describe", device="cuda" if self.device == "cuda" else "cpu")
        finally:
            worker.kill()
        environment = environment_of(found, self.preset, self.groups, self.args.seed)
        return open_run(folder, environment, bool(self.args.resume))

    def _start(self) -> WorkerProcess:
        from suite.running.process import measuring_worker

        return measuring_worker(self.device, [str(Path(path).resolve()) for path in self.args.load])

    def _sweep(self, writer: Writer | None) -> Sweep:
        from suite.discovery import ROOT
        from suite.environment import revision
        from suite.measuring.case import Settings
        from suite.running.sweep import Options
        from suite.store import done_keys

        settings = Settings(
            device=self.device, device_name=_device_name(self.device), modes=(), seed=self.args.seed,
            commit=revision(ROOT),
        )  # fmt: skip
        done = done_keys(self.args.resume) if self.args.resume else set()
        options = Options("check", timeout_s=self.args.timeout, done=done)

        def store(record: dict[str, Any]) -> None:
            if writer:
                writer.append(record)
            self.records.append(record)
            if self.args.json:
                print(json.dumps(record), flush=True)

        return run_sweep(self.registry, self.groups, settings, options, start=self._start, store=store,
                         budget=self.budget)  # fmt: skip


def _device_name(device: str) -> str:
    if device != "cuda":
        return "cpu"
    import torch

    return torch.cuda.get_device_name()


def _print_table(records: list[dict[str, Any]]) -> None:
    from suite.cli.tables import print_table

    rows = []
    for record in records:
        errors = " ".join(f"{name} {_short(error)}" for name, error in record["check"].items())
        rows.append((record["status"], record["case_id"], record["reason"].partition("\n")[0] or errors))
    print_table(("status", "case", "errors, or the reason"), rows)


def _short(error: float | None) -> str:
    return "inf" if error is None else f"{error:.1e}"
