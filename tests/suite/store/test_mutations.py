"""A damaged results file: one error type, file and line named, every intact row kept, every flipped bit seen."""

from __future__ import annotations

import json
import random
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from suite.errors import StoreError
from suite.store import load, open_for_append, read_environment, read_records, record_key
from suite.store.reading import scan
from tests.suite.store.runs import failed, record, write_run

RELAXED = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}
ROWS = [
    *(record(launch=launch) for launch in range(3)),
    failed("C32", reason='CUDA error: naïve \t "quoted" \\ path'),
    record("C16", samples=[0.5], **{"telemetry.power_w": 301.5, "profile.note": {"deep": [1, {"er": None}]}}),
    record("C8", kind="check", mode="cpu"),
]
place = st.floats(0, 1, exclude_max=True)
byte = st.one_of(st.sampled_from(b'\n\r"\\{}[],:0e-N'), st.integers(0, 255))
mutation = st.one_of(
    st.tuples(st.just("flip"), place, st.integers(1, 255)),
    st.tuples(st.just("insert"), place, byte),
    st.tuples(st.just("delete"), place, st.integers(1, 400)),
    st.tuples(st.just("truncate"), place, st.just(0)),
    st.tuples(st.just("duplicate"), place, place),
    st.tuples(st.just("swap"), place, place),
)


def without_checksum(line: bytes) -> dict:
    return {name: value for name, value in json.loads(line).items() if name != "crc"}


def mutate(data: bytes, kind: str, where: float, what) -> bytes:
    at = int(where * len(data))
    if kind in ("duplicate", "swap"):
        lines = data.splitlines(keepends=True)
        if not lines:
            return data
        one, other = int(where * len(lines)), int(what * len(lines))
        if kind == "duplicate":
            lines.insert(other, lines[one])
        else:
            lines[one], lines[other] = lines[other], lines[one]
        return b"".join(lines)
    if kind == "flip":
        return data[:at] + bytes([data[at] ^ what]) + data[at + 1 :] if data else data
    if kind == "insert":
        return data[:at] + bytes([what]) + data[at:]
    return data[:at] + data[at + what :] if kind == "delete" else data[:at]


def hold(run, mutations) -> None:
    """Every promise about a damaged file, for one damage."""
    path = run / "records.jsonl"
    original = path.read_bytes()
    intact = {line: without_checksum(line) for line in original.split(b"\n") if line}
    data = original
    for each in mutations:
        data = mutate(data, *each)
    path.write_bytes(data)
    try:
        check_rows(path, data, intact)
        check_readers(run)
    finally:
        path.write_bytes(original)


def check_rows(path, data, intact) -> None:
    seen = list(scan(path))
    rows = [row for row in seen if not isinstance(row, StoreError)]
    for line in data.split(b"\n"):
        if line in intact:
            assert intact[line] in rows
    numbers = [re.match(rf"{re.escape(str(path))}:(\d+): ", str(row)) for row in seen if isinstance(row, StoreError)]
    lines = data.split(b"\n")
    for matched in numbers:
        assert matched, "an error that names no file and line"
        assert lines[int(matched[1]) - 1] not in intact


def check_readers(run) -> None:
    records, errors = read_records(run, strict=False)
    keys = [record_key(row) for row in records]
    assert len(set(keys)) == len(keys)
    load_or_named(run, errors)


def load_or_named(run, errors) -> None:
    if errors:
        with pytest.raises(StoreError, match=re.escape(str(errors[0]))):
            load(run)
    else:
        assert len(load(run)) == len(read_records(run))


@settings(max_examples=300, **RELAXED)
@given(st.lists(mutation, min_size=1, max_size=3))
def test_mutations(tmp_path, mutations):
    hold(existing(tmp_path), mutations)


@pytest.mark.long
@settings(max_examples=10_000, **RELAXED)
@given(st.lists(mutation, min_size=1, max_size=5))
def test_ten_thousand_mutations(tmp_path, mutations):
    hold(existing(tmp_path), mutations)


def existing(tmp_path):
    run = tmp_path / "run"
    return run if run.exists() else write_run(run, ROWS)


def flipped(data: bytes, bit: int) -> bytes:
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


@pytest.mark.parametrize(("name", "read"), [("records.jsonl", read_records), ("environment.json", read_environment)])
def test_a_flipped_bit_is_seen_or_changes_nothing(tmp_path, name, read):
    run = write_run(tmp_path / "run", ROWS)
    path = run / name
    original, before = path.read_bytes(), read(run)
    bits = 8 * len(original)
    # The last bytes hold the checksum and the line's end, where a flip could pass for a torn line.
    draws = [*random.Random(7).sample(range(bits), 400), *range(bits - 8 * 24, bits)]
    for bit in draws:
        path.write_bytes(flipped(original, bit))
        try:
            told = read(run)
        except StoreError as error:
            told = str(error)
        seen = isinstance(told, str) and told.startswith(str(path))
        assert seen or told == before, f"bit {bit} changed the content unseen"


def test_a_flipped_bit_of_the_last_line_is_not_taken_for_a_torn_one_and_cut(tmp_path):
    run = write_run(tmp_path / "run", ROWS)
    path = run / "records.jsonl"
    original = path.read_bytes()
    path.write_bytes(flipped(original, 8 * len(original) - 2))
    with pytest.raises(StoreError, match="ends in a line that was changed after it was written"):
        open_for_append(run)
    assert len(path.read_bytes()) == len(original)
