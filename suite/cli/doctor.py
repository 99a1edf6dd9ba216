"""`subquad doctor`: what this machine is, what is known to be wrong with it, and what to do."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from suite.errors import Exit

if TYPE_CHECKING:
    from suite.hardware.known_faults import Fault

# What a fault's kind means for the user.
MEANING = {
    "wrong": "results may be wrong",
    "stops": "nothing can be measured",
    "limits": "a part does not work",
}
FAILING = ("wrong", "stops")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.epilog = (
        "Exit code 1: results may be wrong, or nothing can be measured. 0: neither is known. Faults are looked up in "
        "suite/hardware/known_faults.toml."
    )


def run(args: argparse.Namespace) -> Exit:
    from suite.hardware.known_faults import faults_of
    from suite.hardware.machine import facts

    found = facts()
    faults = faults_of(found)
    if args.json:
        print(json.dumps({"facts": found, "faults": [_entry(each, found) for each in faults]}, indent=1))
    else:
        _print(found, faults)
    return Exit.REGRESSION if any(each.kind in FAILING for each in faults) else Exit.PASS


def _print(found: Mapping[str, Any], faults: Sequence[Fault]) -> None:
    from suite.cli.tables import print_table

    print_table(("this machine", ""), list(rows(found)))
    print()
    if not faults:
        print("nothing is known to be wrong with this machine")
    for i, fault in enumerate(faults):
        print(end="\n" if i else "")
        _print_fault(_entry(fault, found))


def _print_fault(entry: Mapping[str, Any]) -> None:
    of = f" ({', '.join(entry['gpus'])})" if entry["gpus"] else ""
    print(f"{entry['name']}: {MEANING[entry['kind']]}{of}\n  what: {entry['what']}")
    if entry["found"]:
        print(f"  here: {entry['found']}")
    print(f"  do:   {entry['remedy']}")
    for source in entry["sources"]:
        print(f"  see:  {source}")


def _entry(fault: Fault, found: Mapping[str, Any]) -> dict[str, Any]:
    """A fault as JSON has it. found: what was seen here, where the machine itself refused something."""
    from suite.hardware.known_faults import gpus_of

    return {
        "name": fault.name,
        "kind": fault.kind,
        "gpus": gpus_of(fault, found),
        "what": fault.what,
        "found": found["states"].get(fault.when.get("state"), ""),
        "remedy": fault.remedy,
        "sources": list(fault.sources),
    }


def rows(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is known of the machine, a line each: name, and version, path, or why there is none."""
    for name in ("python", "torch", "triton", "numpy"):
        yield name, found.get(name, "not installed")
    for name, each in found["assemblers"].items():
        yield name, f"{each['version']} at {each['path']}{' (named by a variable)' if each['given'] else ''}"
    yield "CUDA of torch", found.get("cuda") or "none"
    nvml = found["states"].get("nvml_refused")
    yield "driver", f"{found['driver']}, CUDA {found['driver_cuda']}" if "driver" in found else f"unknown: {nvml}"
    for i, gpu in enumerate(found["gpus"]):
        yield f"GPU {i}", f"{gpu['name']}, {gpu['arch']}, compiled for by ptxas {gpu['ptxas'] or 'unknown'}"
    if not found["gpus"]:
        yield "GPU", found["states"].get("cuda_fails") or "none"
    yield "NVML", nvml or "answers"
    for name, path in found["folders"].items():
        refused = found["states"].get("cache_refused" if name == "cache" else "triton_cache_refused")
        yield name, f"{path}: {refused}" if refused else path
    for name, version in found["tools"].items():
        yield name, version or "not on PATH"
    yield from _packages(found["packages"])


def _packages(installed: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    from suite.hardware.machine import OPTIONAL

    for name, use in OPTIONAL.items():
        yield name, installed.get(name) or f"not installed; needed for {use}"
