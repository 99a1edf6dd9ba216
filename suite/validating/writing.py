"""What `subquad validate --write` writes: the tables of docs/predicted-time.md, and how far predictions may be off.

Only timings that may be looked at decide the latter; held-out ones are shown beside.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from suite.discovery import ROOT
from suite.errors import UsageError
from suite.hardware.gpus import known
from suite.static.timing.uncertainty import FILE
from suite.validating.judging import Compared, Validation, spread
from suite.validating.published import gpu_of

PAGE = ROOT / "docs" / "predicted-time.md"
_PLACE = re.compile(r"(<!-- validation -->\n).*?(<!-- end of validation -->)", re.DOTALL)


def write(validation: Validation, tables: str, compiler: str, page: Path = PAGE, spreads: Path = FILE) -> None:
    """Write both files. Raises UsageError where the page lacks the place for the tables."""
    text = page.read_text(encoding="utf-8")
    if not _PLACE.search(text):
        raise UsageError(f"{page} has no place for the tables: put back `<!-- validation -->` and its end")
    found = {"compiler": compiler, "families": list(families(validation.compared))}
    page.write_text(_PLACE.sub(lambda place: f"{place[1]}{tables}{place[2]}", text), encoding="utf-8")
    spreads.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def families(compared: Sequence[Compared]) -> Iterable[dict[str, object]]:
    """Count, median and spread of measured over predicted: by implementation, architecture and pass, and of all."""
    by: dict[tuple[str, str, str], list[float]] = {}
    for each in compared:
        gpu = known(gpu_of(each.point))
        if not each.predicted or each.point.held_out or gpu is None:
            continue
        name, pass_ = each.point.name, each.point.pass_
        arch = gpu.arch
        for key in ((name, arch, pass_), (name, arch, ""), ("", arch, pass_), ("", arch, ""), ("", "", "")):
            by.setdefault(key, []).append(each.ratio)
    for key in sorted(by):
        name, arch, pass_ = key
        ratios = by[key]
        yield {
            "name": name,
            "arch": arch,
            "pass": pass_,
            "count": len(ratios),
            "median": round(statistics.median(ratios), 3),
            "spread": round(spread(ratios), 3),
        }
