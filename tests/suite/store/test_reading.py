"""The reader: strict by default, tolerant of a torn last line and of fields it does not know."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

import suite
from suite.errors import StoreError
from suite.store import SCHEMA, Key, done_keys, load, open_for_append, read_environment, read_records
from suite.store.encoding import sealed
from tests.suite.store.runs import change_environment, change_line, environment, failed, record, write_run

# Fields that a hand or another program may leave, and what is said of them.
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"launch": None}, "has no 'launch'"),
    ({"launch": 1.5}, "launch = 1.5, which is not an integer"),
    ({"launch": -1}, "launch = -1, which is not an integer of at least 0"),
    ({"initial_state": 0}, "initial_state = 0"),
    ({"check": {"o": "1"}}, "check"),
    ({"check": {"o": -1.0}}, "check"),
    ({"kind": "guessed"}, "not one of timed, check, static"),
    ({"time_ms": 5e-324}, "time_ms = 5e-324, which is not a number of ms from 1e-06 to 1e+09"),
    ({"time_ms": 1e308}, "time_ms = 1e+308, which is not a number of ms"),
    ({"time_ms": True}, "time_ms = True"),
    ({"time_ms": 0.00101}, "time_ms = 0.00101, but the median of its samples is 1.01"),
    ({"samples": [1.0, 1.01, 5e-324]}, "samples"),
    ({"samples": []}, "its samples are empty"),
    ({"samples": None}, "has no 'samples'"),
    ({"p20_ms": 5e-324}, "p20_ms = 5e-324"),
    ({"p20_ms": 1.5}, "p20_ms = 1.5, above its time_ms of 1.01"),
    ({"p80_ms": 0.5}, "p80_ms = 0.5, below its time_ms of 1.01"),
    ({"ci_low_ms": 1.02}, "ci_low_ms = 1.02, above"),
    (
        {"time_ms": 0.00101, "samples": [0.00101], "ci_low_ms": None, "ci_high_ms": None, "tflops": 1e6 / 1.01e9},
        "tflops = 0.000990099, but flops_alg over time_ms is 0.990099",
    ),
    ({"gbs": 1.0}, "gbs = 1, but bytes_compulsory over time_ms is 0.29703"),
    ({"memory_mib": -1.0}, "memory_mib = -1.0, which is not 0 or a number of MiB from 1e-30 to 1e+09"),
    ({"memory_mib": 5e-324}, "memory_mib = 5e-324, which is not 0 or a number of MiB from 1e-30"),
    ({"flops_alg": -1.0}, "flops_alg = -1.0"),
    ({"telemetry.sm_clock_mhz": -1500}, "telemetry.sm_clock_mhz = -1500, which is not 0 or a number of MHz"),
    ({"telemetry.readings": -1}, "telemetry.readings = -1"),
    ({"telemetry.other_pids": ["1"]}, "telemetry.other_pids"),
    ({"tuning.kernels": {"k": 3}}, "tuning.kernels.k = 3, which is not an object"),
    ({"static.floor_ms": "1"}, "static.floor_ms = '1'"),
    ({"profile.kernels": [{"calls": 1}]}, "profile.kernels[0] without 'name'"),
    ({"profile.stall_wait": "x"}, "profile.stall_wait = 'x'"),
    ({"tunable.chunk": {"of": 3}}, "tunable.chunk"),
    ({"axis.window": [1]}, "axis.window"),
    ({"case_id": "no-slash"}, "case_id = 'no-slash', which is not retention/triton_chunk/ and a problem"),
    ({"operator": "rwkv7"}, "case_id"),
]
WRONG_ENVIRONMENT: list[tuple[dict[str, Any], str]] = [
    ({"device": "cuda"}, "has device = 'cuda', which is not an object"),
    ({"device__arch": ["sm_90"]}, r"has device\.arch = \['sm_90'\], which is not a string"),
    ({"device__llc_bytes": -1}, r"device\.llc_bytes = -1"),
    ({"device__unread": {"power": 3}}, r"device\.unread\.power = 3"),
    ({"fingerprint": []}, "fingerprint = "),
    ({"fingerprint__device": ["a"]}, r"has fingerprint\.device = \['a'\], which is not a string"),
    ({"fingerprint__threads": "2"}, r"fingerprint\.threads"),
    ({"ceilings__copy": 3}, r"has ceilings\.copy = 3, which is not a list"),
    ({"ceilings__copy": [{"gbs": 1.0}]}, r"has ceilings\.copy\[0\] without 'bytes'"),
    (
        {"ceilings__copy": [{"bytes": 1024, "gbs": -1.0}]},
        r"ceilings\.copy\[0\]\.gbs = -1\.0, which is not a number",
    ),
    ({"ceilings__matmul": {"float32": 3}}, r"ceilings\.matmul\.float32 = 3, which is not an object"),
    ({"datasheet": "H200"}, "datasheet = 'H200'"),
    ({"absent": ["x"]}, r"absent\[0\] = 'x'"),
    ({"plan": 3}, "plan = 3"),
    ({"plan__seconds": {"time": "long"}}, r"plan\.seconds\.time = 'long'"),
    ({"versions": {"torch": 2}}, r"versions\.torch = 2"),
    ({"argv": "bench"}, "argv = 'bench'"),
    ({"commit": 7}, "commit = 7"),
]


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run", [record(launch=0), record(launch=1), record(launch=2)])


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"schema":"1.0","launch":NaN}', "NaN is not JSON"),
        (b'{"schema":"1.0","launch":1e999}', "too large"),
        (b'{"schema":"1.0","launch":' + b"9" * 30 + b"}", "too large"),
        (b'{"schema":"1.0","reason":"\xff"}', "not UTF-8"),
        (b'{"schema":"1.0","reason":"\\ud800"}', "not UTF-8"),
        (b"[" * 200_000, "nested too deeply"),
        ({"schema": "one"}, "not 'major.minor'"),
        ({"schema": None}, "has no 'schema'"),
        *WRONG,
    ],
)
def test_a_wrong_line_is_named_and_the_others_are_kept(run, line, wrong):
    change_line(run, 2, **line) if isinstance(line, dict) else change_line(run, 2, line)
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
    change_line(run, 1, schema="1.99", hologram={"depth": 3})
    assert len(read_records(run)) == 3


def test_a_newer_schema_asks_for_an_upgrade_and_for_nothing_to_be_deleted(run):
    change_line(run, 2, schema="2.0")
    newer = re.escape(f"schema 2.0, newer than this reader's {SCHEMA}; upgrade subquad")
    with pytest.raises(StoreError, match=newer) as raised:
        read_records(run)
    change_environment(run, schema="2.0")
    with pytest.raises(StoreError, match=newer) as other:
        read_environment(run)
    for each in (raised, other):
        assert not re.search("delete|restore|again", str(each.value))


def test_a_run_of_before_there_were_checksums_is_read_and_continued(run):
    path = run / "records.jsonl"
    rows = [json.loads(line) | {"schema": "1.0"} for line in path.read_bytes().splitlines()]
    for row in rows:
        del row["crc"]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert [each["schema"] for each in read_records(run)] == ["1.0"] * 3
    with open_for_append(run) as writer:
        writer.append(read_records(run)[0] | {"launch": 7})
    assert [each["schema"] for each in read_records(run)] == ["1.0"] * 3 + [SCHEMA]
    assert b'"crc"' in path.read_bytes().splitlines()[-1]


@pytest.mark.parametrize(
    "edit",
    [
        lambda line: line.replace(b'"launch":1', b'"launch":2'),
        lambda line: line.replace(b',"crc"', b', "crc"'),
        lambda line: json.dumps(json.loads(line)).encode(),
        lambda line: re.sub(rb',"crc":"[0-9a-f]*"', b"", line),
        lambda line: line.replace(f'"schema":"{SCHEMA}"'.encode(), b'"schema":"1.0"'),
        lambda line: line.replace(f'"schema":"{SCHEMA}"'.encode(), b'"schema":"9.1"'),
    ],
)
def test_a_line_that_was_edited_is_named_and_says_how_to_go_on(run, edit):
    line = (run / "records.jsonl").read_bytes().splitlines()[1]
    assert edit(line) != line
    change_line(run, 2, edit(line))
    with pytest.raises(StoreError, match=r"records\.jsonl:2: the line .*changed after it was written.*--resume"):
        read_records(run)


def test_an_environment_that_was_edited_is_named(run):
    path = run / "environment.json"
    path.write_text(path.read_text().replace("Test CPU", "Best CPU"))
    with pytest.raises(StoreError, match=r"environment\.json was changed after it was written.*restore"):
        read_environment(run)


def test_crlf_line_ends_are_read_and_cr_alone_is_refused_and_nothing_cut(run):
    path = run / "records.jsonl"
    original = path.read_bytes()
    path.write_bytes(original.replace(b"\n", b"\r\n"))
    assert len(read_records(run)) == 3
    damaged = original.replace(b"\n", b"\r")
    path.write_bytes(damaged)
    with pytest.raises(StoreError, match=r"records\.jsonl:1: the line ends in CR.*make each CR an LF"):
        read_records(run)
    with pytest.raises(StoreError, match=r"records\.jsonl ends in a line that was changed"):
        open_for_append(run)
    assert path.read_bytes() == damaged


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
    with pytest.raises(StoreError, match="is not a run"):
        read_records(tmp_path)
    with pytest.raises(StoreError, match="cannot be looked at"):
        read_records("x" * 5000)
    (run / "environment.json").unlink()
    with pytest.raises(StoreError, match=r"incomplete run: it has no environment\.json"):
        read_records(run)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"fingerprint": {}}', "has no 'schema'"),
        ('{"schema": "2.0", "fingerprint": {}}', "newer"),
        ('{"schema": "1.0"}', "has no object 'fingerprint'"),
        *WRONG_ENVIRONMENT,
    ],
)
def test_a_wrong_environment_is_named(run, text, wrong):
    if isinstance(text, dict):
        change_environment(run, **text)
    else:
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
    one = {"schema": SCHEMA, **record()}
    copies = [sealed(one | {"launch": launch}) for launch in range(50_000)]
    (run / "records.jsonl").write_bytes(b"".join(copies))
    start = time.process_time()
    assert len(read_records(run)) == 50_000
    assert time.process_time() - start < 10


def test_environment_keeps_what_it_is_given(tmp_path):
    run = write_run(tmp_path / "run", [], power_limit_w=float("nan"))
    assert read_environment(run)["fingerprint"] == {**environment()["fingerprint"], "power_limit_w": None}
