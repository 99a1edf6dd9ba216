"""`subquad device`: describe this machine and its measured ceilings."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

from suite.cli.sweeping import device_of
from suite.errors import Exit, UsageError

# Which entries of `launch` mean what; see suite/ceilings/units.py.
LAUNCHES = {
    "torch": "a PyTorch operator on one element, one after another",
    "triton": "an empty Triton kernel, one after another",
    "graph": "an empty kernel as a node of a CUDA graph",
    "roundtrip": "an empty kernel, until the host knows",
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=("cuda", "cpu"), help="default: cuda if there is a GPU, else cpu")
    parser.add_argument("--refresh", action="store_true", help="measure the ceilings again")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> Exit:
    from suite.hardware.gpus import known
    from suite.running.messages import Disconnected
    from suite.running.process import measuring_worker

    device = device_of(args)
    worker = measuring_worker(device)
    try:
        found = worker.ask(do="describe", device=device)
        identity = {**found["fingerprint"], "arch": found["device"]["arch"]}
        answer = worker.ask(do="ceilings", device=device, identity=identity, refresh=args.refresh)
    except Disconnected as error:
        last = worker.tail().splitlines()[-1:] or [str(error)]
        raise UsageError(f"the worker that measures {device} ended by {worker.how_it_ended()}: {last[0]}") from error
    finally:
        worker.kill()
    facts = {key: found[key] for key in ("device", "fingerprint", "versions", "commit", "no_commit")}
    gpu = known(found["device"]["name"])
    facts |= {"ceilings": answer["ceilings"], "datasheet": gpu.datasheet() if gpu else None}
    if args.json:
        print(json.dumps(facts, indent=1))
    else:
        _print(facts)
    return Exit.PASS


def _print(facts: Mapping[str, Any]) -> None:
    from suite.ceilings import warning
    from suite.cli.tables import print_table

    ceilings = facts["ceilings"]
    clocks = {f"clock: {name}": value for name, value in (ceilings.get("clocks") or {}).items()}
    rows = [(name, "" if value is None else str(value)) for name, value in {**facts["fingerprint"], **clocks}.items()]
    print_table(("device", facts["device"]["name"]), rows)
    print()
    columns = ("ceiling", "measured", "from", "to", "samples", "unit", "datasheet")
    print_table(columns, ceiling_rows(ceilings, facts["datasheet"] or {}))
    if said := warning(ceilings):
        print(f"note: {said}", file=sys.stderr)


def ceiling_rows(ceilings: Mapping[str, Any], sheet: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Every ceiling that was measured as a row: what, rate, its interval, samples, unit, datasheet."""
    rates, gbs = sheet.get("tflops") or {}, sheet.get("gbs")
    rows = [
        _row(f"matrix product, {d}", each, "tflops", "TFLOP/s", rates.get(d)) for d, each in _named(ceilings, "matmul")
    ]
    copies = ceilings.get("copy") or []
    rows += [
        _row(f"copy of {_size(each['bytes'])}", each, "gbs", "GB/s", gbs if each is copies[-1] else None)
        for each in copies
    ]
    rows += [
        _row(f"copy of {_size(each['bytes'])}, {dtype}", each, "gbs", "GB/s", gbs)
        for dtype, each in _named(ceilings, "copy_by_dtype")
        if each not in copies
    ]
    if memory := ceilings.get("read"):
        rows.append(_row(f"reads of {_size(memory['bytes'])}", memory, "gbs", "GB/s", gbs))
    if cache := ceilings.get("l2"):
        rows.append(_row(f"reads of {_size(cache['bytes'])} in L2", cache, "gbs", "GB/s"))
    if special := ceilings.get("special"):
        rows.append(
            _row(f"special function, {special['function']}", special, "gops", "10^9/s", sheet.get("special_gops"))
        )
    return rows + [_row(LAUNCHES.get(how, how), each, "us", "us") for how, each in _named(ceilings, "launch")]


def _named(ceilings: Mapping[str, Any], kind: str) -> list[tuple[str, Mapping[str, Any]]]:
    return list((ceilings.get(kind) or {}).items())


def _row(what: str, each: Mapping[str, Any], name: str, unit: str, sheet: float | None = None) -> tuple[str, ...]:
    low, high = (f"{each[end]:.4g}" if each.get(end) else "" for end in ("low", "high"))
    return (
        what,
        f"{each[name]:.4g}",
        low,
        high,
        str(each.get("samples", "")),
        unit,
        "" if sheet is None else f"{sheet:g}",
    )


def _size(size: int) -> str:
    return f"{size // 2**20} MiB" if size >= 2**20 else f"{size // 2**10} KiB"
