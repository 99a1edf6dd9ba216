"""Joining a profile to a run: the records of its case are stored again, with `profile.*` added.

A record's key stays what it was, and of two records with one key the later one counts, so every reader finds the
counters on the row that has the time. A case that is measured again loses them: they were of the earlier code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from suite.errors import IncomparableError, UsageError
from suite.hardware.environment import cpu_name
from suite.problem import split_case_id
from suite.profiling.model import Profile
from suite.roof import IMPLAUSIBLE, memory_gbs
from suite.store import open_for_append, read_environment, read_records
from suite.store.paths import AnyPath
from suite.store.reading import Record

MOST_NAMED = 3


def join(run: AnyPath, profile: Profile) -> list[Record]:
    """Store the profile's columns with the run's timed records of its case, and return those records.

    Raises IncomparableError when the run was measured on another device, UsageError when it has no record of the case
    with a time, StoreError when it cannot be read or written.
    """
    measured = (read_environment(run).get("device") or {}).get("name") or "an unknown device"
    here = cpu_name() if profile.device == "cpu" else profile.device
    if here != measured:
        raise IncomparableError(f"{run} was measured on {measured}, this is {here}: profile where the times were taken")
    with open_for_append(run) as writer:
        found = _of_case(run, profile)
        rows = [record | profile.columns(record.get("bytes_compulsory") or 0.0) for record in found]
        for row in rows:
            writer.append(row)
    return rows


def _of_case(run: AnyPath, profile: Profile) -> list[Record]:
    """The timed records of the case on this device, of every mode and launch, that have a time."""
    timed = [record for record in read_records(run) if record["kind"] == "timed"]
    mine = [each for each in timed if each["case_id"] == profile.case_id and each["device"] == profile.device]
    found = [record for record in mine if record["status"] == "ok"]
    if found:
        return found
    if mine:
        raise UsageError(
            f"{profile.case_id} is {mine[-1]['status']} in {run}: only a case with a time has a place for its profile"
        )
    name = "/".join(split_case_id(profile.case_id)[:2])
    others = [record["case_id"] for record in timed if record["case_id"].startswith(f"{name}/")]
    near = ", ".join(dict.fromkeys(others[:MOST_NAMED])) or "no case of this implementation"
    raise UsageError(f"{run} has no record of {profile.case_id} on {profile.device}; it has {near}")


def doubts(run: AnyPath, rows: Iterable[Record], profile: Profile) -> Iterator[str]:
    """Why the joined columns may not be of what was timed: another commit, or more bytes than the time has room for."""
    rows = list(rows)
    others = {row["commit"] for row in rows} - {profile.commit}
    if others:
        yield f"{run} measured commit {min(others) or 'none'}, this profile is of {profile.commit or 'none'}"
    moved = profile.counters.get("dram_bytes")
    environment = read_environment(run)
    llc = (environment.get("device") or {}).get("llc_bytes") or 0
    ceiling = memory_gbs(environment.get("ceilings") or {}, float("inf"), llc)
    if moved and ceiling:
        fastest = moved / min(row["time_ms"] for row in rows) / 1e6
        if fastest > IMPLAUSIBLE * ceiling:
            yield (
                f"the counted bytes in the measured time are {fastest:.4g} GB/s, more than the {ceiling:.4g} GB/s that "
                "a copy reaches: the profiled call did not do what the timed one did"
            )
