"""Two runs side by side: how their environments differ, and each case's replicates in both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from suite.dtypes import SHORT
from suite.errors import IncomparableError
from suite.store.reading import Record, read_environment, read_records

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from suite.store.paths import AnyPath


class CaseKey(NamedTuple):
    """A record's key without the replicate; dtypes have their short names."""

    case_id: str
    kind: str
    mode: str
    device: str


@dataclass(frozen=True)
class Pair:
    """One case's records before and after, one record per replicate; either may be empty, not both."""

    key: CaseKey
    before: tuple[Record, ...]
    after: tuple[Record, ...]


@dataclass(frozen=True)
class Mismatch:
    """A field of the fingerprint that the two runs do not share."""

    field: str
    base: Any
    candidate: Any

    def __str__(self) -> str:
        return f"{self.field}: {self.base} against {self.candidate}"


@dataclass(frozen=True)
class Source:
    """Where one side comes from: its folder and the commit it measured, or why that is not known."""

    run: str
    commit: str
    no_commit: str = ""


@dataclass(frozen=True)
class Pairing:
    """Two runs, case by case in the order of the first, then what only the second has."""

    base: Source
    candidate: Source
    mismatches: tuple[Mismatch, ...]
    pairs: tuple[Pair, ...]

    def require_match(self) -> None:
        """Raise IncomparableError, naming the differences, unless the environments match."""
        if self.mismatches:
            differences = "; ".join(str(each) for each in self.mismatches)
            raise IncomparableError(
                f"{self.base.run} and {self.candidate.run} were measured in different environments ({differences}); "
                "measure both on one machine, or pass --allow-env-mismatch"
            )


def pair_runs(base: AnyPath, candidate: AnyPath) -> Pairing:
    """Match two runs' records by case; StoreError when either cannot be read."""
    environments = [read_environment(run) for run in (base, candidate)]
    before, after = (read_records(run) for run in (base, candidate))
    return Pairing(
        base=_source(base, environments[0]),
        candidate=_source(candidate, environments[1]),
        mismatches=_mismatches(*(each["fingerprint"] for each in environments)),
        pairs=_pairs(before, after),
    )


def _source(run: AnyPath, environment: Mapping[str, Any]) -> Source:
    return Source(str(run), *(str(environment.get(name) or "") for name in ("commit", "no_commit")))


def _mismatches(base: Mapping[str, Any], candidate: Mapping[str, Any]) -> tuple[Mismatch, ...]:
    names = dict.fromkeys([*base, *candidate])
    found = [Mismatch(name, base.get(name), candidate.get(name)) for name in names]
    if not base or not candidate:
        return (Mismatch("fingerprint", *("empty" if not side else "known" for side in (base, candidate))),)
    return tuple(each for each in found if each.base != each.candidate)


def _pairs(before: list[Record], after: list[Record]) -> tuple[Pair, ...]:
    alias = _alias(before, after)
    sides = _by_case(before, {}), _by_case(after, alias)
    keys = dict.fromkeys([*sides[0], *sides[1]])
    return tuple(Pair(key, *(tuple(side.get(key, ())) for side in sides)) for key in keys)


def _alias(before: list[Record], after: list[Record]) -> dict[str, str]:
    """The second run's device under the first one's name, when each run measured on one device."""
    names = [{record["device"] for record in side if record["kind"] != "static"} for side in (before, after)]
    if len(names[0]) == len(names[1]) == 1:
        return {names[1].pop(): names[0].pop()}
    return {}


def _by_case(records: Iterable[Record], alias: Mapping[str, str]) -> dict[CaseKey, list[Record]]:
    cases: dict[CaseKey, list[Record]] = {}
    for record in records:
        device = record["device"]
        named = device if record["kind"] == "static" else alias.get(device, device)
        key = CaseKey(_short(record["case_id"]), record["kind"], record["mode"], named)
        cases.setdefault(key, []).append(record)
    return cases


def _short(case_id: str) -> str:
    """A case id with the short names of dtypes: a run may have been written with the long ones."""
    return "_".join(SHORT.get(token, token) for token in case_id.split("_"))
