"""`subquad check`: the numerics alone, on a GPU, a CPU or in Triton's interpreter."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from suite.cli.selection import add_selection, selected
from suite.cli.sweeping import add_running, device_of, exit_of, run_sweep, summary_of
from suite.errors import Exit


def configure(parser: argparse.ArgumentParser) -> None:
    add_selection(parser)
    add_running(parser, ("cuda", "cpu", "interpret"))


def run(args: argparse.Namespace) -> Exit:
    from suite.discovery import ROOT, discover
    from suite.environment import revision
    from suite.measuring.case import Settings
    from suite.running.process import measuring_worker
    from suite.running.sweep import Options

    registry = discover(load=args.load)
    device = device_of(args)
    _, groups = selected(args, registry, "smoke")
    settings = Settings(
        device=device, device_name=_device_name(device), modes=(), seed=args.seed, commit=revision(ROOT)
    )
    records: list[dict[str, Any]] = []

    def store(record: dict[str, Any]) -> None:
        records.append(record)
        if args.json:
            print(json.dumps(record), flush=True)

    plugins = [str(Path(path).resolve()) for path in args.load]
    sweep = run_sweep(registry, groups, settings, Options("check", timeout_s=args.timeout),
                      start=lambda: measuring_worker(device, plugins), store=store)  # fmt: skip
    if not args.json:
        _print_table(records)
        print(summary_of(sweep.statuses))
    return exit_of(sweep.statuses) if not sweep.left_out else Exit.REGRESSION


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
