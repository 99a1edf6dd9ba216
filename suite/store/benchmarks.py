"""A run's timed records in the format of pytest-benchmark, for `pytest-benchmark compare`.

A benchmark is one launch of one case in one mode; its rounds are the record's samples, in seconds. Cases of one problem
are a group. What is not ok has no time and is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from suite.store.reading import Record

# What a reader of the table may want beside the time.
EXTRA = (
    "implementation",
    "origin",
    "commit",
    "timer",
    "l2",
    "stop",
    "tflops",
    "gbs",
    "roof_pct",
    "memory_mib",
    "bound",
)


def benchmarks_of(environment: Mapping[str, Any], records: Iterable[Record]) -> dict[str, Any]:
    """The whole file: machine, commit, and a benchmark for each timed record that is ok."""
    from importlib.metadata import version

    commit = str(environment.get("commit") or "")
    timed = [each for each in records if each["kind"] == "timed" and each["status"] == "ok"]
    several = len({each["mode"] for each in timed}) > 1
    return {
        "machine_info": {"node": environment["fingerprint"].get("device"), **environment["fingerprint"]},
        "commit_info": {"id": commit.removesuffix("-dirty"), "dirty": commit.endswith("-dirty")},
        "benchmarks": [benchmark_of(each, each["mode"] if several else "") for each in timed],
        "datetime": environment.get("created"),
        "version": version("pytest-benchmark"),
    }


def benchmark_of(record: Record, mode: str = "") -> dict[str, Any]:
    """One record as a benchmark; its statistics are pytest-benchmark's own.

    mode: named where a run has several; else the name is the one that tests/benchmarks/test_cases.py gives
    """
    from pytest_benchmark.stats import Stats

    stats = Stats()
    for sample in record["samples"]:
        stats.update(sample / 1e3)
    launch = f"launch{record['launch']}" if record["launch"] else ""
    param = "-".join(part for part in (record["case_id"], mode, launch) if part)
    return {
        "group": record["problem_id"],
        "name": f"test_case[{param}]",
        "fullname": f"tests/benchmarks/test_cases.py::test_case[{param}]",
        "params": {"case_id": record["case_id"], "mode": record["mode"]},
        "param": param,
        "extra_info": {field: record[field] for field in EXTRA if record.get(field) is not None},
        "options": {"timer": record["timer"], "warmup": True},
        "stats": {**stats.as_dict(), "data": stats.data, "iterations": 1},
    }
