"""The writer: one writer, whole records, and errors that name the file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from suite.discovery import ROOT
from suite.errors import StoreError
from suite.store import create, open_for_append, read_environment, read_records
from tests.suite.store.runs import environment, failed, record, write_run

# Appends 1 kB records with files limited to 4 kB, then says what happened.
LIMITED = """
import resource, sys
from suite.errors import StoreError
from suite.store import create
from tests.suite.store.runs import environment, record
writer = create(sys.argv[1], environment())
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
try:
    for launch in range(100):
        writer.append(record(launch=launch))
except StoreError as error:
    print(launch, error)
"""

FORKING = """
import os, sys, time
from suite.store import create
from tests.suite.store.runs import environment
writer = create(sys.argv[1], environment())
if os.fork() == 0:
    print("forked", flush=True)
    time.sleep(60)
os._exit(0)
"""


def test_what_is_appended_is_read_back_in_order(tmp_path):
    rows = [record(launch=2), failed("C32"), record("C16", reason="naïve\n\u2028 'quoted'\x00")]
    run = write_run(tmp_path / "run", rows)
    assert [{**row, "schema": None} for row in read_records(run)] == [{**row, "schema": None} for row in rows]
    assert read_environment(run)["fingerprint"]["device"] == "Test CPU"


def test_nan_and_infinity_become_null_and_numpy_scalars_numbers(tmp_path):
    odd = record(
        gbs=float("nan"), **{"telemetry.power_w": np.float32("inf"), "seed": np.int64(7)}, extra=[float("-inf")]
    )
    run = write_run(tmp_path / "run", [odd])
    line = json.loads((run / "records.jsonl").read_text(), parse_constant=pytest.fail)
    assert (line["gbs"], line["telemetry.power_w"], line["seed"], line["extra"]) == (None, None, 7, [None])


def test_undecodable_stderr_is_stored_as_readable_text(tmp_path):
    run = write_run(tmp_path / "run", [failed(reason=b"abort \xff\xfe".decode(errors="surrogateescape"))])
    assert read_records(run)[0]["reason"] == "abort ??"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"case_id": None}, "case_id"),
        ({"launch": "0"}, "launch"),
        ({"launch": True}, "launch"),
        ({"T": 0}, "T = 0"),
        ({"status": "fine"}, "fine"),
        ({"time_ms": None}, "time_ms"),
        ({"time_ms": 0.0}, "time_ms"),
        ({"samples": [1.0, "2"], "time_ms": 1.0}, "samples"),
        ({"configuration": {"at": object()}}, "record.configuration.at"),
        ({"schema": "2.0"}, "newer"),
        ({"memory_mib": -1.0}, "memory_mib"),
        ({"samples": [2.0], "time_ms": 1.0}, "the median of its samples is 2"),
    ],
)
def test_a_record_that_no_reader_would_take_is_not_written(tmp_path, changes, named):
    with create(tmp_path / "run", environment()) as writer:
        with pytest.raises(StoreError, match=named):
            writer.append(record(**changes))
        writer.append(record())
    assert len(read_records(tmp_path / "run")) == 1


def test_each_record_is_one_write(tmp_path, monkeypatch):
    written = []
    real = os.write
    with create(tmp_path / "run", environment()) as writer:
        monkeypatch.setattr(os, "write", lambda file, data: written.append(data) or real(file, data))
        writer.append(record(samples=[0.1] * 100_000))
    assert len(written) == 1
    assert written[0].endswith(b"\n")


def test_a_short_write_is_taken_back_and_named(tmp_path):
    run = tmp_path / "run"
    command = [sys.executable, "-c", LIMITED, run]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    appended, _, message = done.stdout.partition(" ")
    assert "disk full?" in message
    assert str(run / "records.jsonl") in message
    assert "bytes were taken" in message
    assert (run / "records.jsonl").read_bytes().endswith(b"\n")
    assert [row["launch"] for row in read_records(run)] == list(range(int(appended)))
    assert int(appended) > 1


def test_a_full_disk_is_one_clear_line(tmp_path):
    run = write_run(tmp_path / "run", [])
    (run / "records.jsonl").unlink()
    (run / "records.jsonl").symlink_to("/dev/full")
    with (
        Unbroken(run) as writer,
        pytest.raises(StoreError, match=r"records\.jsonl: No space left on device; disk full\?"),
    ):
        writer.append(record())


class Unbroken:
    """A writer on a run whose records.jsonl is a device, which `open_for_append` rightly refuses."""

    def __init__(self, run):
        from suite.store.writing import Writer, _locked

        self.writer = Writer(run, _locked(run))
        self.writer._start()

    def __enter__(self):
        return self.writer

    def __exit__(self, *_):
        self.writer.close()


def test_a_folder_that_can_not_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "run", tmp_path / "file", "/proc/subquad/run"):
        with pytest.raises(StoreError, match=r"cannot write .*(file|/proc/subquad).*--out"):
            create(place, environment())


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes read-only folders")
def test_a_read_only_folder_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match=r"cannot write .*Permission denied"):
        create(tmp_path, environment())


def test_a_second_writer_is_refused_until_the_first_closes(tmp_path):
    with create(tmp_path / "run", environment()), pytest.raises(StoreError, match="being written by another process"):
        open_for_append(tmp_path / "run")
    open_for_append(tmp_path / "run").close()


def test_the_lock_dies_with_the_process_even_when_its_forked_child_lives(tmp_path):
    run = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", FORKING, run], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "forked\n"
        assert owner.wait(timeout=20) == 0
        try:
            open_for_append(run).close()
        finally:
            os.killpg(owner.pid, 9)


def test_a_run_is_not_overwritten(tmp_path):
    run = write_run(tmp_path / "run", [record()])
    with pytest.raises(StoreError, match="already holds a run; continue it with --resume"):
        create(run, environment())
    assert len(read_records(run)) == 1


def test_a_folder_whose_creation_was_killed_can_be_used(tmp_path):
    (tmp_path / "records.jsonl").touch()
    (tmp_path / ".environment.json.new").write_text('{"sch')
    create(tmp_path, environment()).close()
    assert read_records(tmp_path) == []


@pytest.mark.parametrize("length", [1, 100, 200_000])
def test_resume_cuts_a_torn_last_line_and_nothing_else(tmp_path, length):
    run = write_run(tmp_path / "run", [record(), record("C32")])
    whole = (run / "records.jsonl").read_bytes()
    torn = ('{"reason":"' + "x" * length).encode()
    (run / "records.jsonl").write_bytes(whole + torn)
    with open_for_append(run) as writer:
        assert (run / "records.jsonl").read_bytes() == whole
        writer.append(record("C16"))
    assert len(read_records(run)) == 3


def test_resume_keeps_a_whole_last_record_that_lacks_its_newline(tmp_path):
    run = write_run(tmp_path / "run", [record(), record("C32")])
    whole = (run / "records.jsonl").read_bytes()
    (run / "records.jsonl").write_bytes(whole[:-1])
    assert len(read_records(run)) == 2
    with open_for_append(run) as writer:
        writer.append(record("C16"))
    assert len(read_records(run)) == 3


def test_environment_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        create(tmp_path / "run", environment())
    assert not (tmp_path / "run" / "environment.json").exists()


def test_appending_is_fast(tmp_path):
    rows = [record(launch=launch) for launch in range(2000)]
    start = time.process_time()
    write_run(tmp_path / "run", rows)
    assert time.process_time() - start < 5
