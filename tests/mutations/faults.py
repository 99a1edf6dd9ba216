"""Families of faults: strict TOML beside this file, one a family of kernels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from suite.errors import UsageError, unknown
from suite.presets import tomllib

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent.parent


@dataclass(frozen=True)
class Mutation:
    """One fault: `find` occurs exactly once in `file` and becomes `replace`; `tests` must then fail."""

    name: str
    file: str
    find: str
    replace: str
    tests: tuple[str, ...]

    def applied(self, root: Path = ROOT) -> str:
        """The file's text with the fault in it. UsageError when the text to replace is not there exactly once."""
        text = (root / self.file).read_text()
        count = text.count(self.find)
        if count != 1 or self.find == self.replace:
            raise UsageError(
                f"mutation '{self.name}': its text occurs {count} times in {self.file}; make it occur once"
            )
        return text.replace(self.find, self.replace)


def families() -> list[str]:
    """Names of all families."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(family: str) -> list[Mutation]:
    """The faults of a family. UsageError on an unknown family, key or a missing one."""
    path = FOLDER / f"{family}.toml"
    if not path.is_file():
        raise unknown("family of mutations", family, families())
    return parse(path)


def parse(path: Path) -> list[Mutation]:
    """The faults in a file."""
    found = tomllib.loads(path.read_text())
    common = tuple(found.get("tests", ()))
    try:
        return [Mutation(**{**each, "tests": tuple(each.get("tests", common))}) for each in found["mutation"]]
    except (KeyError, TypeError) as error:
        raise UsageError(f"{path.name}: {error}; a mutation has name, file, find, replace and tests") from error
