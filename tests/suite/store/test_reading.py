"""The reader: strict by default, tolerant of a torn last line and of fields it does not know."""

from __future__ import annotations

import json
import time

import pytest

import suite
from suite.errors import StoreError
from suite.store import Key, done_keys, load, open_for_append, read_environment, read_records
from tests.suite.store.runs import environment, failed, record, write_run


def replace_line(run, number, line):
    path = run / "records.jsonl"
    lines = path.read_bytes().split(b"\n")
    lines[number - 1] = line if isinstance(line, bytes) else json.dumps(line).encode()
    path.write_bytes(b"\n".join(lines))


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run", [record(launch=0), record(launch=1), record(launch=2)])


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        (b"{", "not JSON"),
        (b"[]", "no JSON object"),
        (b'{"schema":"1.0","launch":NaN}', "NaN is not JSON"),
        (b'{"schema":"1.0","launch":1e999}', "too large"),
        (b'{"schema":"1.0","launch":' + b"9" * 30 + b"}", "too large"),
        (b'{"schema":"1.0","reason":"\xff"}', "not UTF-8"),
        (b'{"schema":"1.0","reason":"\\ud800"}', "not UTF-8"),
        (b"[" * 200_000, "nested too deeply"),
        (record(schema="2.0"), "schema 2.0, newer than this reader's 1.0; upgrade subquad"),
        (record(schema="one"), "no 'major.minor'"),
        (record(), "has no 'schema'"),
        (record(schema="1.0", launch=None), "has no 'launch'"),
        (record(schema="1.0", launch=1.5), "launch = 1.5, which is not an integer"),
        (record(schema="1.0", initial_state=0), "initial_state = 0"),
        (record(schema="1.0", check={"o": "1"}), "check"),
        (record(schema="1.0", kind="guessed"), "none of timed, check, static"),
    ],
)
def test_a_wrong_line_is_named_and_the_others_are_kept(run, line, wrong):
    replace_line(run, 2, line)
    with pytest.raises(StoreError, match=r"records\.jsonl:2: ") as raised:
        read_records(run)
    assert wrong in str(raised.value)
    assert "\n" not in str(raised.value)
    records, errors = read_records(run, strict=False)
    assert [each["launch"] for each in records] == [0, 2]
    assert [str(error) for error in errors] == [str(raised.value)]


def test_a_torn_last_line_is_no_error(run):
    path = run / "records.jsonl"
    whole = path.read_bytes()
    for cut in (2, 10, 300):
        path.write_bytes(whole[:-cut])
        assert [each["launch"] for each in read_records(run)] == [0, 1]


def test_newer_minor_and_unknown_fields_are_ignored(run):
    replace_line(run, 1, record(schema="1.99", hologram={"depth": 3}, launch=0))
    assert len(read_records(run)) == 3


def test_a_later_record_with_the_same_key_replaces_an_earlier_one(tmp_path):
    first = [record(time_ms=1.0), record("C32"), record(time_ms=2.0), record(launch=1, time_ms=3.0)]
    run = write_run(tmp_path / "run", first)
    assert [(each["case_id"][-3:], each["launch"], each["time_ms"]) for each in read_records(run)] == [
        ("C64", 0, 2.0),
        ("C32", 0, 1.01),
        ("C64", 1, 3.0),
    ]


def test_done_keys_are_what_resume_skips(tmp_path):
    run = write_run(tmp_path / "run", [record(), failed("C32", launch=3, kind="check", mode="cpu")])
    case = "retention/triton_chunk/B1_T64_H2_K8_V8_fp32_fwd_"
    assert done_keys(run) == {
        Key(f"{case}C64", "timed", "warm-cpu", "cpu", 0),
        Key(f"{case}C32", "check", "cpu", "cpu", 3),
    }


def test_paths_that_are_no_run_say_what_to_do(tmp_path, run):
    with pytest.raises(StoreError, match=r"no run at .*nowhere; `subquad bench --out .*nowhere` writes one"):
        read_records(tmp_path / "nowhere")
    with pytest.raises(StoreError, match="is a file, not a run"):
        read_records(run / "records.jsonl")
    with pytest.raises(StoreError, match="is no run"):
        read_records(tmp_path)
    with pytest.raises(StoreError, match="can not be looked at"):
        read_records("x" * 5000)
    (run / "environment.json").unlink()
    with pytest.raises(StoreError, match=r"incomplete run: it has no environment\.json"):
        read_records(run)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("{", "not JSON"),
        ("[]", "no JSON object"),
        ('{"fingerprint": {}}', "has no 'schema'"),
        ('{"schema": "2.0", "fingerprint": {}}', "newer"),
        ('{"schema": "1.0"}', "has no object 'fingerprint'"),
    ],
)
def test_a_wrong_environment_is_named(run, text, wrong):
    (run / "environment.json").write_text(text)
    with pytest.raises(StoreError, match=rf"environment\.json .*{wrong}"):
        read_environment(run)
    with pytest.raises(StoreError, match=r"environment\.json"):
        open_for_append(run)


def test_load_is_a_frame_with_a_row_a_record(tmp_path):
    run = write_run(tmp_path / "run", [record(), failed("C32", **{"tunable.chunk": None, "axis.window": 8})])
    frame = load(run)
    assert list(frame.columns[:5]) == ["case_id", "kind", "mode", "device", "launch"]
    assert list(frame["status"]) == ["ok", "crashed"]
    assert frame["tunable.chunk"].dtype == "Int64"
    assert frame["axis.window"].isna().tolist() == [True, False]
    assert frame["check"][0] == {"o": 1e-6, "dq": 2e-6}
    assert frame["time_ms"].isna().tolist() == [False, True]
    assert suite.load is load


def test_load_of_an_empty_run_has_the_key_columns(tmp_path):
    frame = load(write_run(tmp_path / "run", []))
    assert frame.empty
    assert "case_id" in frame.columns


def test_fifty_thousand_records_are_read_in_seconds(run):
    line = (run / "records.jsonl").read_bytes().split(b"\n")[0]
    copies = [line.replace(b'"launch":0', b'"launch":%d' % launch) for launch in range(50_000)]
    (run / "records.jsonl").write_bytes(b"\n".join(copies) + b"\n")
    start = time.process_time()
    assert len(read_records(run)) == 50_000
    assert time.process_time() - start < 10


def test_environment_keeps_what_it_is_given(tmp_path):
    run = write_run(tmp_path / "run", [], power_limit_w=float("nan"))
    assert read_environment(run)["fingerprint"] == {**environment()["fingerprint"], "power_limit_w": None}
