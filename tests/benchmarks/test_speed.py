"""How fast the suite itself is: `python -m pytest tests/benchmarks --benchmark-only`.

Goals on 2 cores: `--help` 0.3 s, `list` 5 s, the harness under 10 % of a sweep, a report of 5,000 records under 20 s.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from suite.discovery import ROOT

pytestmark = pytest.mark.long


def subquad(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "suite", *words], check=True, capture_output=True, cwd=ROOT)


def test_help(benchmark) -> None:
    benchmark.pedantic(subquad, args=("--help",), rounds=5, warmup_rounds=1)


def test_list(benchmark) -> None:
    benchmark.pedantic(subquad, args=("list",), rounds=3, warmup_rounds=1)


def test_harness_overhead(benchmark, tmp_path: Path) -> None:
    """A short sweep; extra_info says which share of it was neither start, inputs, check, warm-up nor timing."""
    run = tmp_path / "run"
    words = ("bench", "--preset", "cpu", "--seq-len", "512,2048", "--pass", "fwd", "--no-report", "--out", str(run))
    benchmark.pedantic(subquad, args=words, rounds=1)
    seconds = json.loads((run / "environment.json").read_text())["plan"]["seconds"]
    share = seconds["harness"] / sum(seconds.values())
    benchmark.extra_info |= {"seconds": seconds, "harness_share": share}
    assert share < 0.10


def test_report_of_5000_records(benchmark, tmp_path: Path) -> None:
    """5,000 records, as a sweep over many shapes leaves them."""
    from suite.store import create

    run = tmp_path / "run"
    subquad("bench", "--preset", "smoke", "--no-report", "--out", str(tmp_path / "seed"))
    rows = [json.loads(line) for line in (tmp_path / "seed" / "records.jsonl").read_text().splitlines()]
    environment = json.loads((tmp_path / "seed" / "environment.json").read_text())
    with create(run, environment) as writer:
        for i in range(5000):
            row = rows[i % len(rows)]
            T, H = 128 * 2 ** (i // len(rows) % 8), 2 ** (i // len(rows) // 8 % 20)
            writer.append(row | {"T": T, "H": H, "case_id": f"{row['case_id']}_{i}"})
    benchmark.pedantic(subquad, args=("report", str(run), "--out", str(tmp_path / "page")), rounds=1)
    assert benchmark.stats is None or benchmark.stats["max"] < 20
