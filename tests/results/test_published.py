"""Published timings in results/published: names are ours, numbers are sane, and the held-out rows follow the rule."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import pytest

from suite.discovery import ROOT, discover
from suite.dtypes import SHORT
from suite.hardware.gpus import known
from suite.registry import Registry

FOLDER = ROOT / "results" / "published"
FILES = sorted(FOLDER.glob("*.csv"))
COLUMNS = [
    *("source", "gpu", "library", "library_version", "implementation", "operator", "pass"),
    *("B", "T", "H", "HV", "K", "V", "dtype", "lengths", "options", "ms", "held_out", "url", "note"),
]
SIZES = ("B", "T", "H", "HV", "K", "V")
# What sources name and suite/hardware/gpus.py has no figures for, or what names no one GPU.
OTHER_GPUS = {
    "unknown",
    "A100",
    "NVIDIA GB300",
    "NVIDIA H20",
    "NVIDIA H20-3e",
    "NVIDIA H800",
    "NVIDIA RTX PRO 6000 Blackwell Server Edition",
}

Row = dict[str, str]
Shape = tuple[tuple[int, ...], str, tuple[int, ...]]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return discover()


def rows(path: Path) -> list[Row]:
    with path.open(newline="", encoding="ascii") as opened:
        return list(csv.DictReader(opened))


def lengths(row: Row) -> tuple[int, ...]:
    return tuple(int(each) for each in row["lengths"].split("+") if each)


def shape(row: Row) -> Shape:
    return tuple(int(row[size]) for size in SIZES), row["dtype"], lengths(row)


def held_out(found: list[Row]) -> list[bool]:
    """By the rule of the folder's README: of each family's sorted shapes the second, fifth, eighth, ..."""
    families: dict[tuple[str, ...], set[Shape]] = defaultdict(set)
    for row in found:
        families[row["source"], row["operator"], row["pass"]].add(shape(row))
    chosen = {family: set(sorted(shapes)[1::3]) for family, shapes in families.items()}
    return [shape(row) in chosen[row["source"], row["operator"], row["pass"]] for row in found]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
class TestFile:
    def test_columns(self, path: Path) -> None:
        with path.open(newline="", encoding="ascii") as opened:
            assert next(csv.reader(opened)) == COLUMNS
        assert all(None not in row and None not in row.values() for row in rows(path))

    def test_gpus_are_ours_or_listed(self, path: Path) -> None:
        for name in {row["gpu"] for row in rows(path)} - OTHER_GPUS:
            gpu = known(name)
            assert gpu is not None
            assert gpu.name == name

    def test_operators_passes_and_implementations_are_ours(self, path: Path, registry: Registry) -> None:
        for name, entry, step in {(row["operator"], row["implementation"], row["pass"]) for row in rows(path)}:
            assert step in registry.operator(name).passes
            if entry:
                assert step in registry.implementation(name, entry).passes

    def test_numbers(self, path: Path) -> None:
        for row in rows(path):
            assert float(row["ms"]) > 0
            assert all(int(row[size]) > 0 for size in SIZES)
            assert int(row["HV"]) % int(row["H"]) == 0
            assert row["dtype"] in {"unknown", *SHORT.values()}
            assert (int(row["T"]) == 1) == (row["pass"] == "decode")
            if packed := lengths(row):
                assert row["B"] == "1"
                assert len(packed) > 1
                assert min(packed) > 0
                assert sum(packed) == int(row["T"])

    def test_no_row_twice(self, path: Path) -> None:
        found = [tuple(row[name] for name in COLUMNS if name not in ("ms", "held_out", "note")) for row in rows(path)]
        assert len(set(found)) == len(found)

    def test_says_where_it_is_from(self, path: Path) -> None:
        assert all(row["source"] and row["url"] and row["library"] and row["library_version"] for row in rows(path))
        assert f"`{path.name}`" in (FOLDER / "README.md").read_text(encoding="ascii")

    def test_held_out_follows_the_rule(self, path: Path) -> None:
        found = rows(path)
        assert [row["held_out"] == "1" for row in found] == held_out(found)
        assert {row["held_out"] for row in found} <= {"0", "1"}


def test_a_third_is_held_out() -> None:
    found = [row for path in FILES for row in rows(path)]
    assert len(found) > 3000
    assert 0.3 < sum(row["held_out"] == "1" for row in found) / len(found) < 0.36


def test_no_source_has_two_files() -> None:
    """A family would be cut in two, each with its own held-out rows."""
    sources = [source for path in FILES for source in {row["source"] for row in rows(path)}]
    assert len(set(sources)) == len(sources)


def row_of(T: int, *, source: str = "s", ms: str = "1") -> Row:
    sizes = {"B": "1", "T": str(T), "H": "2", "HV": "2", "K": "64", "V": "64"}
    return {**sizes, "source": source, "operator": "o", "pass": "fwd", "dtype": "bf16", "lengths": "", "ms": ms}


def test_held_out_looks_at_shapes_alone() -> None:
    found = [row_of(T) for T in (4096, 1024, 16384, 2048, 8192)]
    assert held_out(found) == [False, False, True, True, False]
    assert held_out([{**row, "ms": "9"} for row in found]) == held_out(found)
    assert held_out([row_of(1024), row_of(2048, source="t")]) == [False, False]
