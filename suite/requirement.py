"""Requirement: the library that an implementation needs, and the message if it cannot be used."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PAGE = "docs/peers.md"


@dataclass(frozen=True)
class Requirement:
    """A library that an adapter calls.

    module:       the import name
    distribution: the name for pip
    versions:     the versions the adapter was written for, as in ">=0.4,<0.7"; empty for any
    install:      the command that installs it; `pip install DISTRIBUTION` when empty
    extra:        the set of pyproject.toml that contains it, for a separate environment; empty for none
    triton:       the versions of Triton that its kernels compile under, as in "<3.9"; empty for any
    conflict:     () -> why rows of this process would not measure the library's own code, with the remedy, or None
    backend:      () -> which code ran in the calls of this process, as the library reports it; "" if it does not
    pretend:      () -> None, before calls in a process that tells host code of a GPU that is not there: has the library
                  ask device 0 where it would ask a tensor's own device, which has no index there
    """

    module: str
    distribution: str
    versions: str = ""
    install: str = ""
    extra: str = ""
    triton: str = ""
    conflict: Callable[[], str | None] | None = None
    backend: Callable[[], str] | None = None
    pretend: Callable[[], None] | None = None

    def missing(self) -> str | None:
        """Why the library cannot be used, with the remedy, or None when it can."""
        version = self.version()
        if not _importable(self.module) or (self.versions and not version):
            return f"{self.distribution} is not installed: {self.remedy()}"
        if version and self.versions and not satisfies(version, self.versions):
            return f"{self.distribution} {version} is not {self.versions}: {self.remedy()}"
        if self.triton and (found := outside("triton", self.triton)):
            return (
                f"{self.distribution} needs triton{self.triton}, here it is {found}: take an environment whose torch "
                f"brings triton{self.triton}{self._set()}"
            )
        return self.conflict() if self.conflict else None

    def remedy(self) -> str:
        """The command that installs the library, and the set it belongs to."""
        return (self.install or f"pip install '{self.distribution}{self.versions}'") + self._set()

    def version(self) -> str | None:
        """The installed version, or None when its metadata cannot be read."""
        return installed(self.distribution)

    def _set(self) -> str:
        return f" (set {self.extra} of {PAGE})" if self.extra else ""


def installed(distribution: str) -> str | None:
    """The installed version of a distribution, or None when its metadata cannot be read."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def outside(distribution: str, versions: str) -> str | None:
    """The installed version where it is not among the versions; None where it is, and where none is installed."""
    version = installed(distribution)
    return version if version and not satisfies(version, versions) else None


def satisfies(version: str, versions: str) -> bool:
    """Whether a version is among versions such as ">=0.4,<0.7"."""
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(versions).contains(version, prereleases=True)


def _importable(module: str) -> bool:
    # find_spec of a dotted name would import its parents, which costs seconds for some libraries.
    top, *inner = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or not inner:
        return spec is not None
    roots = [Path(place).joinpath(*inner) for place in spec.submodule_search_locations or []]
    return any(root.is_dir() or root.with_suffix(".py").is_file() for root in roots)
