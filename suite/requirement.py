"""Requirement: the library an implementation needs, and the words a user sees where it is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Requirement:
    """A library that an adapter calls.

    module:       the import name
    distribution: the name pip knows it by
    versions:     the versions the adapter was written for, as in ">=0.4,<0.7"; empty for any
    install:      the command that installs it; `pip install DISTRIBUTION` when empty
    """

    module: str
    distribution: str
    versions: str = ""
    install: str = ""

    def missing(self) -> str | None:
        """Why the library can not be used, with the remedy, or None when it can."""
        remedy = self.install or f"pip install '{self.distribution}{self.versions}'"
        version = self.version()
        if not _importable(self.module) or (self.versions and not version):
            return f"{self.distribution} is not installed: {remedy}"
        if version and self.versions and not _satisfies(version, self.versions):
            return f"{self.distribution} {version} is not {self.versions}: {remedy}"
        return None

    def version(self) -> str | None:
        """The installed version, or None when its metadata can not be read."""
        try:
            return importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            return None


def _importable(module: str) -> bool:
    # find_spec of a dotted name would import its parents, which costs seconds for some libraries.
    top, *inner = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or not inner:
        return spec is not None
    roots = [Path(place).joinpath(*inner) for place in spec.submodule_search_locations or []]
    return any(root.is_dir() or root.with_suffix(".py").is_file() for root in roots)


def _satisfies(version: str, versions: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(versions).contains(version, prereleases=True)
