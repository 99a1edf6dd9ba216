"""`subquad device`: what this machine is, and what it can do, measured."""

from __future__ import annotations

import argparse
import json
from typing import Any

from suite.cli.sweeping import device_of
from suite.errors import Exit


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=("cuda", "cpu"), help="default: cuda where there is one, else cpu")
    parser.add_argument("--refresh", action="store_true", help="measure the ceilings again")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> Exit:
    from suite.gpus import known
    from suite.running.process import measuring_worker

    device = device_of(args)
    worker = measuring_worker(device)
    try:
        found = worker.ask(do="describe", device=device)
        identity = {**found["fingerprint"], "arch": found["device"]["arch"]}
        answer = worker.ask(do="ceilings", device=device, identity=identity, refresh=args.refresh)
    finally:
        worker.kill()
    facts = {key: found[key] for key in ("device", "fingerprint", "versions", "commit")}
    gpu = known(found["device"]["name"])
    facts |= {"ceilings": answer["ceilings"], "datasheet": gpu.datasheet() if gpu else None}
    if args.json:
        print(json.dumps(facts, indent=1))
    else:
        _print(facts)
    return Exit.PASS


def _print(facts: dict[str, Any]) -> None:
    from suite.cli.tables import print_table

    rows = [(name, "" if value is None else str(value)) for name, value in facts["fingerprint"].items()]
    print_table(("device", facts["device"]["name"]), rows)
    sheet = facts["datasheet"] or {}
    print()
    rates = facts["ceilings"]["matmul"]
    print_table(
        ("matrix product", "measured TFLOP/s", "datasheet"),
        [(d, f"{r['tflops']:.4g}", str(sheet.get("tflops", {}).get(d, "unknown"))) for d, r in rates.items()],
    )
    print()
    print_table(
        ("copy, working set", "measured GB/s", "datasheet"),
        [(_size(c["bytes"]), f"{c['gbs']:.4g}", str(sheet.get("gbs", "unknown"))) for c in facts["ceilings"]["copy"]],
    )


def _size(size: int) -> str:
    return f"{size // 2**20} MiB" if size >= 2**20 else f"{size // 2**10} KiB"
