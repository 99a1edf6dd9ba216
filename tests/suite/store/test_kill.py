"""`kill -9` at seeded random points of a sweep: nothing acknowledged is lost, and resume completes it exactly once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from suite.discovery import ROOT
from suite.store import read_records

PLAN = 60
SIZES = (1, 300, 60_000)
# Resumes a run, appends what its plan still lacks, and acknowledges each record on stdout. Large records take the
# kernel several pages to copy, so that a kill can tear one.
SWEEP = f"""
import os, sys
from suite.store import create, done_keys, open_for_append
from tests.suite.store.runs import environment, record
path = sys.argv[1]
fresh = not os.path.exists(os.path.join(path, "environment.json"))
writer = create(path, environment()) if fresh else open_for_append(path)
done = {{key.launch for key in done_keys(path)}}
os.write(1, b"ready\\n")
for launch in range({PLAN}):
    if launch not in done:
        writer.append(record(launch=launch, samples=[0.125] * {SIZES}[launch % {len(SIZES)}]))
        os.write(1, b"%d\\n" % launch)
os.write(1, b"end\\n")
"""


class Sweep:
    """Sweeps of one plan, each killed after a number of acknowledgements and a pause."""

    def __init__(self, run):
        self.run = run
        self.acknowledged: list[int] = []
        self.finished = False

    def kill_after(self, acknowledgements: int, pause_s: float) -> None:
        command = [sys.executable, "-c", SWEEP, self.run]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
            assert process.stdout is not None
            for _ in range(acknowledgements + 1):
                if self._note(process.stdout.readline()):
                    break
            time.sleep(pause_s)
            os.kill(process.pid, signal.SIGKILL)
            for line in process.stdout:
                self._note(line)

    def _note(self, line: bytes) -> bool:
        assert line, "the sweep died by itself"
        self.finished = self.finished or line == b"end\n"
        if line.strip().isdigit():
            self.acknowledged.append(int(line))
        return self.finished


def survive(tmp_path, points: int, seed: int) -> int:
    """Kill sweeps at `points` points; returns how many sweeps were completed."""
    random_ = random.Random(seed)
    completed, sweep = 0, Sweep(tmp_path / "run0")
    for _ in range(points):
        sweep.kill_after(random_.randrange(PLAN // 4), random_.uniform(0, 0.002))
        check(sweep)
        if sweep.finished:
            completed += 1
            sweep = Sweep(tmp_path / f"run{completed}")
    return completed


def check(sweep: Sweep) -> None:
    stored = [row["launch"] for row in read_records(sweep.run)]
    assert set(sweep.acknowledged) <= set(stored)
    lines = (sweep.run / "records.jsonl").read_bytes().split(b"\n")
    whole = [json.loads(line)["launch"] for line in lines[:-1]]
    assert len(whole) == len(set(whole)), "a record was measured twice"
    if sweep.finished:
        assert sorted(stored) == list(range(PLAN))


def test_nothing_acknowledged_is_lost(tmp_path):
    assert survive(tmp_path, points=15, seed=20) >= 1


@pytest.mark.long
def test_nothing_acknowledged_is_lost_at_500_points(tmp_path):
    assert survive(tmp_path, points=500, seed=21) >= 10
