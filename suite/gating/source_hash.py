"""One hash of an implementation's code: its module and everything that it imports from its own checkout.

Without a GPU there is no binary to compare, so the sources stand for it: the file that registers the implementation,
the operator's specification, every module of kernels/ and baselines/ that these import, directly or through others, and
the data files beside them. Comments, formatting and docstrings do not count. What is imported under a computed name is
not seen, and neither are libraries: both revisions run with the same ones, under the same suite.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from suite.discovery import PACKAGES

if TYPE_CHECKING:
    from suite.registry import Implementation, Operator

# Files beside a module that cannot change what it computes.
_NO_DATA = {".py", ".pyc", ".md"}
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


class Sources:
    """The sources of one checkout.

    root: the checkout whose kernels/ and baselines/ are meant
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root).resolve()
        self._files: dict[Path, _File] = {}
        self._imported: dict[Path, set[Path]] = {}

    def code_of(self, operator: Operator, implementation: Implementation) -> str:
        """The hash of an implementation's code; equal hashes are the same code."""
        return self.digest({file_of(operator.place), file_of(implementation.place)})

    def digest(self, starts: Iterable[Path]) -> str:
        """The hash of these files and all that they import from the checkout."""
        found = sorted(self.closure(starts), key=self._name)
        told = hashlib.sha256()
        for path in found:
            told.update(f"{self._name(path)}\0{self._file(path).digest}\0".encode())
        return told.hexdigest()

    def closure(self, starts: Iterable[Path]) -> set[Path]:
        """The files, what they import, what that imports; data files beside them included."""
        waiting, found = list(starts), set[Path]()
        while waiting:
            path = waiting.pop()
            if path in found:
                continue
            found.add(path)
            waiting += self._imports(path)
        return found | {data for path in found if self._own(path) for data in _data_beside(path)}

    def _imports(self, path: Path) -> set[Path]:
        """The files that a file imports itself, found once: closures share most of theirs."""
        if path not in self._imported:
            names = self._file(path).imports(self._package(path))
            self._imported[path] = {each for name in names for each in self._modules(name)}
        return self._imported[path]

    def _file(self, path: Path) -> _File:
        return self._files.setdefault(path, _File(path))

    def _own(self, path: Path) -> bool:
        return any(path.is_relative_to(self.root / package) for package in PACKAGES)

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else path.name

    def _package(self, path: Path) -> list[str]:
        return list(path.parent.relative_to(self.root).parts) if self._own(path) else []

    def _modules(self, name: str) -> Iterator[Path]:
        """The files of a dotted name and of the packages it lies in; the last part may be no module but a value."""
        parts = name.split(".")
        if parts[0] not in PACKAGES:
            return
        for length in range(1, len(parts) + 1):
            place = self.root.joinpath(*parts[:length])
            for path in (place / "__init__.py", place.with_suffix(".py")):
                if path.is_file():
                    yield path


class _File:
    """One file: its hash and what it imports."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def _tree(self) -> ast.Module | None:
        return ast.parse(self.path.read_bytes()) if self.path.suffix == ".py" else None

    @cached_property
    def digest(self) -> str:
        if self._tree is None:
            return hashlib.sha256(self.path.read_bytes()).hexdigest()
        return hashlib.sha256(ast.dump(_without_docstrings(self._tree)).encode()).hexdigest()

    def imports(self, package: list[str]) -> set[str]:
        """Dotted names of everything imported, inside functions too; `package` is what relative ones start from."""
        found: set[str] = set()
        for node in ast.walk(self._tree) if self._tree else ():
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                base = package[: len(package) - node.level + 1] if node.level else []
                start = ".".join([*base, *([node.module] if node.module else [])])
                found |= {f"{start}.{alias.name}" for alias in node.names}
        return found


def file_of(place: str) -> Path:
    """The file of a place `FILE:LINE`, or of a plain file name."""
    name, _, line = place.rpartition(":")
    return Path(name if name and line.isdigit() else place).resolve()


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return tree


def _data_beside(path: Path) -> Iterator[Path]:
    return (each for each in path.parent.iterdir() if each.is_file() and each.suffix not in _NO_DATA)
