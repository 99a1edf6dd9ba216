"""The steps of a campaign, read from strict TOML."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from suite.errors import UsageError, unknown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

FOLDER = Path(__file__).parent
# Commands that store a run, and end within a budget.
STORING = frozenset({"bench", "check"})
# Commands that take a device.
ON_DEVICE = STORING | {"profile", "tune", "device"}
PROGRAMS = ON_DEVICE | {"analyse", "pytest", "static"}
NEEDS = ("", "ptxas")
# Flags that the campaign gives itself.
GIVEN = {"--device", "--budget", "--out", "--resume"}
# A name is that of files; a year is longer than any campaign.
LONGEST_NAME, LONGEST_S = 40, 3.2e7


@dataclass(frozen=True)
class Step:
    """One command of a campaign.

    name:        of its log, and of the run that it stores
    proves:      what is known after it
    run:         a command of subquad without --device, --budget, --out and --resume; or pytest and its words
    seconds:     the most that it may take
    needs:       what the campaign must be given for it, one of NEEDS
    of_failures: name of an earlier step that stores a run: only implementations that failed in it are run
    rehearsal:   words that are added in a rehearsal; of a flag that is given twice the last one holds
    """

    name: str
    proves: str
    run: str
    seconds: float
    needs: str = ""
    of_failures: str = ""
    rehearsal: str = ""

    @property
    def words(self) -> list[str]:
        return shlex.split(self.run)

    @property
    def program(self) -> str:
        """`pytest`, or the command of subquad."""
        return self.words[0]

    @property
    def stores(self) -> bool:
        return self.program in STORING


@dataclass(frozen=True)
class Plan:
    """A campaign as it is written."""

    name: str
    description: str
    steps: tuple[Step, ...]

    @property
    def seconds(self) -> float:
        """The most that all steps take together."""
        return sum(step.seconds for step in self.steps)


def names() -> list[str]:
    """The campaigns that come with the suite."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read(name: str) -> Plan:
    """A campaign by its name, or the path of a TOML file. Raises UsageError, which names the file and what is wrong."""
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        if path.is_dir():
            raise UsageError(f"{name} is a folder; name a campaign ({', '.join(names())}) or its TOML file")
        if name.endswith(".toml"):
            raise UsageError(f"there is no file {name}; name a campaign ({', '.join(names())}) or its TOML file")
        raise UsageError(unknown("campaign", name, names()))
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} cannot be read as TOML: {error}") from error
    _known(found, {"description", "step"}, str(path))
    if not isinstance(found.get("description", ""), str):
        raise UsageError(f"{path}: description must be a text, got {found['description']!r}")
    made = tuple(_step(each, f"{path}: step {at}") for at, each in enumerate(_list(found, path), 1))
    _check(made, path)
    return Plan(path.stem, str(found.get("description", "")), made)


def _list(found: Mapping[str, Any], path: Path) -> list[Any]:
    steps = found.get("step")
    if not isinstance(steps, list) or not steps:
        raise UsageError(f"{path} has no [[step]]; a campaign has one at least")
    return steps


def _step(found: Any, where: str) -> Step:
    if not isinstance(found, dict):
        raise UsageError(f"{where} must be a table: write [[step]]")
    _known(found, {each.name for each in fields(Step)}, where)
    for each in fields(Step):
        value = found.get(each.name)
        if value is None:
            if each.name in ("name", "proves", "run", "seconds"):
                raise UsageError(f"{where} has no {each.name}")
            continue
        numeric = each.name == "seconds"
        if isinstance(value, bool) or not isinstance(value, (int, float) if numeric else str):
            raise UsageError(f"{where}: {each.name} must be {'a number' if numeric else 'a text'}, got {value!r}")
    step = Step(**found)
    if not 0 < step.seconds <= LONGEST_S:
        raise UsageError(f"{where}: seconds must be above 0 and at most {LONGEST_S:.0f}, got {step.seconds:g}")
    if not step.name.replace("-", "").isalnum() or len(step.name) > LONGEST_NAME:
        shown = step.name[:LONGEST_NAME]
        raise UsageError(f"{where}: name must be of at most {LONGEST_NAME} letters, digits and '-', got {shown!r}")
    if step.needs not in NEEDS:
        raise UsageError(f"{where}: {unknown('need', step.needs, [each for each in NEEDS if each])}")
    try:
        words = step.words
        shlex.split(step.rehearsal)
    except ValueError as error:
        raise UsageError(f"{where}: its words cannot be split: {error}") from error
    if not words or words[0] not in PROGRAMS:
        raise UsageError(f"{where}: {unknown('program', words[0] if words else '', sorted(PROGRAMS))}")
    for kind, given in (("run", words), ("rehearsal", shlex.split(step.rehearsal))):
        flags = {word.partition("=")[0] for word in given} & (GIVEN - ({"--device"} if kind == "rehearsal" else set()))
        if flags and words[0] != "pytest":
            raise UsageError(f"{where}: the campaign gives {min(flags)} itself; remove it from {kind}")
    return step


def _check(steps: tuple[Step, ...], path: Path) -> None:
    storing: set[str] = set()
    seen: set[str] = set()
    for step in steps:
        if step.name in seen:
            raise UsageError(f"{path} has two steps {step.name}; each name must be its own")
        if step.of_failures and step.of_failures not in storing:
            raise UsageError(
                f"{path}: step {step.name}: of_failures = {step.of_failures!r} is no earlier bench or check"
            )
        seen.add(step.name)
        if step.stores:
            storing.add(step.name)


def _known(found: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in found:
        if key not in known:
            raise UsageError(f"{where}: {unknown('key', key, sorted(known))}")
