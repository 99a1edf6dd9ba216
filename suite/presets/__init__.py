"""Presets: the cases of a sweep, as strict TOML read into frozen dataclasses.

    description = "what it is for"
    tags = ["linear", "quadratic"]        # operators that have any of these; or operators = ["retention"]
    skip = ["softmax_attention/flex"]     # OPERATOR, OPERATOR/IMPLEMENTATION or IMPLEMENTATION
    warmup_ms = 25
    rep_ms = 500                          # the longest that one case is timed
    static = false                        # without a GPU `bench` compiles no Triton kernel; true unless given

    [[sweep]]                             # the product of its lists; several sweeps are joined
    T = [1024, 4096]
    K = [64, 128]                         # V follows K unless V is given
    pass = ["fwd", "fwdbwd"]
    shapes = [{B = 1, H = 16}, {B = 8, H = 32}]   # axes that vary together
    tags = ["linear"]                     # only for operators that have any of these
    axes = {causal = [true]}              # own axes, for the operators that have them
    tunables = {chunk = [64, 128]}        # "all" for every admissible value

An unknown key is an error that names the key and the file.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from suite.errors import UsageError, unknown
from suite.problem import STANDARD, Value

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

FOLDER = Path(__file__).parent
Values = tuple[Value, ...]
# As long as a flag may say: beyond it the functions that wait until then fail.
LONGEST_MS = 1e9


@dataclass(frozen=True)
class Sweep:
    """A product of axes, with `shapes` for axes that vary together.

    values:   axis -> values, for the standard axes that are given
    shapes:   sets of axis values that go together; each is combined with the product of the rest
    axes:     own axes of operators -> values
    tunables: tunables of implementations -> values, or ("all",)
    tags:     only operators that have any of these are swept; empty for all that the preset selects
    """

    values: Mapping[str, Values] = field(default_factory=dict)
    shapes: tuple[Mapping[str, Value], ...] = ({},)
    axes: Mapping[str, Values] = field(default_factory=dict)
    tunables: Mapping[str, Values] = field(default_factory=dict)
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preset:
    """A named set of sweeps, the operators they serve, and how long a case may take.

    static: whether `bench` without a GPU compiles the plan's Triton kernels, and keeps their static profiles
    """

    name: str
    description: str = ""
    tags: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    warmup_ms: float = 25.0
    rep_ms: float = 500.0
    static: bool = True
    sweeps: tuple[Sweep, ...] = ()


def names() -> list[str]:
    """Names of the presets that come with the suite."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_preset(name: str) -> Preset:
    """A preset by name, or by the path of a TOML file. UsageError on an unknown name, key, axis or type."""
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        raise (
            UsageError(f"preset file {path} does not exist")
            if name.endswith(".toml")
            else unknown("preset", name, names())
        )
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"preset {path}: {error}") from error
    return _Reader(path).preset(table)


@dataclass(frozen=True)
class _Reader:
    path: Path

    def preset(self, table: dict[str, Any]) -> Preset:
        known = {f.name for f in fields(Preset)} - {"name", "sweeps"} | {"sweep"}
        self._refuse_unknown(table, known, "preset key")
        values: dict[str, Any] = {}
        for key in ("tags", "operators", "skip"):
            values[key] = self._list(key, table.get(key, []), str)
        for key in ("warmup_ms", "rep_ms"):
            if key in table:
                values[key] = self._time(key, table[key])
        if "static" in table:
            values["static"] = self._one("static", table["static"], bool)
        sweeps = self._tables("sweep", table.get("sweep"))
        description = self._one("description", table.get("description", ""), str)
        return Preset(self.path.stem, description, sweeps=tuple(self._sweep(s) for s in sweeps), **values)

    def _sweep(self, table: dict[str, Any]) -> Sweep:
        self._refuse_unknown(table, {*STANDARD, "shapes", "axes", "tunables", "tags"}, "sweep key")
        shapes = self._tables("shapes", table.get("shapes", [{}]))
        for shape in shapes:
            self._refuse_unknown(shape, set(STANDARD), "axis in shapes")
            for axis, value in shape.items():
                self._one(axis, value, _type_of(axis))
        return Sweep(
            values={axis: self._list(axis, table[axis], _type_of(axis)) for axis in STANDARD if axis in table},
            shapes=tuple(shapes),
            axes={
                name: self._list(name, value, (bool, int, str, float)) for name, value in table.get("axes", {}).items()
            },
            tunables={name: self._list(name, value, (int, str)) for name, value in table.get("tunables", {}).items()},
            tags=self._list("tags", table.get("tags", []), str),
        )

    def _refuse_unknown(self, table: Mapping[str, Any], known: set[str], kind: str) -> None:
        for key in table:
            if key not in known:
                raise UsageError(f"{self.path.name}: {unknown(kind, key, known)}")

    def _tables(self, key: str, value: Any) -> list[dict[str, Any]]:
        if not isinstance(value, list) or not value or not all(isinstance(each, dict) for each in value):
            raise UsageError(f"{self.path.name}: '{key}' must be a list of at least one table")
        return value

    def _list(self, key: str, value: Any, kind: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise UsageError(f"{self.path.name}: '{key}' must be a list, not {value!r}")
        return tuple(self._one(key, each, kind) for each in value)

    def _time(self, key: str, value: Any) -> float:
        if not 0 <= self._one(key, value, (int, float)) <= LONGEST_MS:
            raise UsageError(f"{self.path.name}: '{key}' must be from 0 to {LONGEST_MS:g} ms, got {value}")
        return value

    def _one(self, key: str, value: Any, kind: Any) -> Any:
        if not isinstance(value, kind) or (isinstance(value, bool) and kind in (int, (int, float))):
            raise UsageError(f"{self.path.name}: '{key}' has {value!r}, which is of the wrong type")
        return value


def _type_of(axis: str) -> type:
    return {"size": int, "flag": bool}.get(STANDARD[axis].kind, str)
