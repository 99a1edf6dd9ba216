"""The cache of static profiles, issued-traffic counts, and which kernels a case has. The key has all that changes them.

A key is a hash over the case, the architecture and GPU, the code of the implementation (its module, its operator's and
all that they import from the checkout), tuned configs, plug-ins, this suite, libraries, Triton and ptxas. Another
checkout's implementation has the code of that whole checkout for its own: where it is registered there is not known
here.

An entry that does not match its own checksum counts as absent. Of each kind the MOST that were used last are kept.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import sys
import sysconfig
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.cachefolder import VARIABLE, cache_folder
from suite.discovery import ENTRY_POINTS, PACKAGES, ROOT, discover
from suite.gating.source_hash import Sources, file_of
from suite.hardware.assemblers import assemblers
from suite.static.tasks import Task

if TYPE_CHECKING:
    from suite.registry import Implementation, Registry

# Entries of a kind; a profile takes about 5 KB.
MOST = 20_000
# What a compiler or host code said of itself is the same tomorrow. The others may be chance (a crash, a timeout), or
# quote lines of a source that is being edited.
LASTING = ("ok", "unsupported", "over_limit")
# The suite's code that a profile or a count depends on.
_SUITE = (
    "suite",
    "suite/checks",
    "suite/hardware",
    "suite/interpreting",
    "suite/static",
    "suite/static/timing",
    "suite/tuning",
)
# They name a place, or a mode that each worker sets for itself.
_PLACES = ("TRITON_CACHE_DIR", "TRITON_INTERPRET")


@dataclass(frozen=True)
class Key:
    """The key of one answer.

    name:   its hash, the name of its file
    kind:   the folder it lies in
    stamps: time and size of each source file when the key was made
    """

    name: str
    kind: str
    stamps: Mapping[Path, tuple[int, int]]

    @property
    def path(self) -> Path:
        return cache_folder() / "static" / self.kind / f"{self.name}.json"

    @property
    def holds(self) -> bool:
        """Whether the sources are still those of the key: an edit while a worker runs must not be taken for them."""
        return all(_stamp(path) == stamp for path, stamp in self.stamps.items())


class Keys:
    """Makes keys. Sources are read once, when the first key that needs them is made.

    load:  the plug-ins that workers load
    roots: the checkouts that are asked about, "" being this one; plug-ins are loaded here only where it is one of them
    Raises DiscoveryError when the operators of this checkout or a plug-in do not load.
    """

    def __init__(self, load: Sequence[str] = (), roots: Collection[str] = ("",)) -> None:
        self._load = list(load)
        self._here = bool({"", str(ROOT)} & set(roots))
        self._codes: dict[tuple[str, str, str], tuple[str, dict[Path, tuple[int, int]]]] = {}

    def of(self, kind: str, task: Task, T: int = 0, forks: Mapping[str, Sequence[str]] | None = None) -> Key:
        """The key of a task's profile, or of its count at T tokens, with the ways that these forks take."""
        code, stamps = self._code(task)
        words = {**task.to_dict(), "T": T, "forks": forks or {}, "code": code}
        words |= {"target": self._target(task), "common": self._common}
        if kind == "ahead" and not task.cache:
            # Kernels that are in one cache of the user's are not in another.
            words["cache"] = [os.environ.get(name, "") for name in ("TRITON_CACHE_DIR", "TRITON_HOME", "HOME")]
        return Key(_hash(json.dumps(words, sort_keys=True)), kind, stamps)

    def of_names(self, root: str) -> Key:
        """The key of the names that a checkout registers."""
        code, stamps = self._whole(root)
        return Key(_hash(json.dumps([code, self._common])), "names", stamps)

    def _code(self, task: Task) -> tuple[str, dict[Path, tuple[int, int]]]:
        if task.root not in ("", str(ROOT)):
            return self._whole(task.root)
        name = task.root, task.case.operator, task.case.implementation
        if name not in self._codes:
            self._codes[name] = self._closure(*name[1:])
        return self._codes[name]

    def _closure(self, operator: str, name: str) -> tuple[str, dict[Path, tuple[int, int]]]:
        """The code of an implementation of this checkout or a plug-in; nothing where it is not registered."""
        known = self._registry.operators.get(operator)
        made = known.implementations.get(name) if known else None
        if known is None or made is None:
            return "", {}
        files = self._sources.closure({file_of(known.place), file_of(made.place)})
        stamps = {path: _stamp(path) for path in files}
        return _hash(self._sources.digest(files), _requirement(made)), stamps

    def _whole(self, root: str) -> tuple[str, dict[Path, tuple[int, int]]]:
        name = root, "", ""
        if name not in self._codes:
            top = Path(root)
            files = [path for package in PACKAGES for path in sorted((top / package).rglob("*")) if _is_source(path)]
            if any(Path(path).is_relative_to(top) for path in self._load):
                # What a plug-in of that checkout imports is known only where it is loaded.
                files += sorted(set(top.rglob("*.py")) - set(files))
            stamps = {path: _stamp(path) for path in files}
            self._codes[name] = _hash(*(f"{path.relative_to(top)} {_content(path)}" for path in files)), stamps
        return self._codes[name]

    def _target(self, task: Task) -> list[Any]:
        """What is known of the GPU beside its name: its configs, and the ceilings that a floor is computed with."""
        from suite.static.floor import ceilings_of
        from suite.tuning.chosen import PEERS, tables_for
        from suite.tuning.tables import path_of

        name, root = task.target.name, Path(task.root or ROOT)
        if name not in self._ceilings:
            self._ceilings[name] = repr(ceilings_of(name))
        tables = [path_of(root, name), *tables_for(root, task.target.arch)]
        if not task.all_configs:
            tables += tables_for(ROOT, task.target.arch, PEERS)
        return [name, *map(_content, tables), self._ceilings[name]]

    @cached_property
    def _ceilings(self) -> dict[str, str]:
        return {}

    @cached_property
    def _registry(self) -> Registry:
        return discover(load=self._load)

    @cached_property
    def _sources(self) -> Sources:
        return Sources(ROOT)

    @cached_property
    def _common(self) -> str:
        from suite.hardware.environment import library_versions

        own = [path for folder in _SUITE for path in (ROOT / folder).glob("*.py")]
        parts = [
            self._sources.digest(own),
            self._plugins(),
            library_versions(),
            platform.python_version(),
            platform.machine(),
        ]
        return _hash(json.dumps([*parts, _entry_points(), _compiler()], sort_keys=True))

    def _plugins(self) -> list[str]:
        """What --load names, and the modules that it imported or will, inside a function."""
        if not self._load:
            return []
        loaded = list[Path]()
        if self._here:
            # Its own modules are known once it is loaded.
            discover(load=self._load)
            loaded = _loaded_files()
        return [_content(path) for path in _with_imports([*map(Path, self._load), *loaded])]


def recall(key: Key) -> dict[str, Any] | None:
    """The answer that was kept under a key, or None."""
    try:
        checksum, _, text = key.path.read_text(encoding="utf-8").partition(" ")
    except (OSError, ValueError):
        return None
    if checksum != _hash(text):
        return None
    with contextlib.suppress(OSError):
        os.utime(key.path)
    return json.loads(text)


def keep(key: Key, answer: Mapping[str, Any]) -> None:
    """Keep an answer, unless chance may have decided it or its sources were edited meanwhile. A note on stderr says
    where the cache folder does not take it."""
    status = _status(answer)
    if "lost" in answer or "missing" in answer or status not in LASTING or not key.holds:
        return
    text = json.dumps(answer)
    try:
        _write(key.path, f"{_hash(text)} {text}")
    except OSError as error:
        _not_kept(str(key.path.parent), error.strerror or str(error))


def _status(answer: Mapping[str, Any]) -> str:
    """The status of a profile, or of a case's kernels: of those the first that is not ok."""
    found = [answer[kind] for kind in ("profile", "ahead") if kind in answer]
    found += [kernel for each in found for kernel in each.get("kernels", ()) if not kernel["trial"]]
    return next((each["status"] for each in found if each["status"] != "ok"), "ok")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as part:
            part.write(text)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


@cache
def _not_kept(folder: str, why: str) -> None:
    """Say once that answers are not kept: what was compiled is no less good for that."""
    print(
        f"note: static profiles are not kept in {folder}: {why}; set {VARIABLE} to a folder that can be written "
        "and has room",
        file=sys.stderr,
    )


def prune(kind: str, most: int = MOST) -> None:
    """Of a kind's entries leave those that were used last."""
    entries = list((cache_folder() / "static" / kind).glob("*"))
    for path in sorted(entries, key=lambda path: -_stamp(path)[0])[most:]:
        with contextlib.suppress(OSError):
            path.unlink()


def _requirement(made: Implementation) -> str:
    """The library that an implementation needs, as it is installed here."""
    return f"{made.requires.version()} {made.requires.missing()}" if made.requires else ""


def _compiler() -> list[str]:
    """Triton, the tools that it calls, and the variables that change what they do."""
    import triton
    from triton import knobs
    from triton._C.libtriton import get_cache_invalidating_env_vars  # pyright: ignore[reportMissingImports]

    found = [triton.__version__]
    found += [f"{each.name} {each.path} {each.version}" for each in assemblers().values()]
    try:
        found.append(f"cuobjdump {knobs.nvidia.cuobjdump.path} {knobs.nvidia.cuobjdump.version}")
    except RuntimeError:
        found.append("no cuobjdump")
    asked = {name: value for name, value in os.environ.items() if name.startswith(("TRITON_", "FLA_"))}
    asked |= get_cache_invalidating_env_vars()
    return [*found, *(f"{name}={value}" for name, value in sorted(asked.items()) if name not in _PLACES)]


def _entry_points() -> list[str]:
    return [
        f"{entry.name} {entry.value} {entry.dist.version if entry.dist else ''}"
        for entry in importlib.metadata.entry_points(group=ENTRY_POINTS)
    ]


def _with_imports(paths: Sequence[Path]) -> list[Path]:
    """The files and all that they import, of what belongs neither to this checkout nor to an installed library."""
    places = sysconfig.get_paths()
    known = [Path(places[name]).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    known += [ROOT / package for package in (*PACKAGES, "suite")]
    waiting, found = [path.resolve() for path in paths], set[Path]()
    while waiting:
        path = waiting.pop()
        if path not in found and not any(path.is_relative_to(folder) for folder in known):
            found.add(path)
            waiting += _imported_by(path)
    return sorted(found)


def _loaded_files() -> list[Path]:
    return [Path(file) for module in list(sys.modules.values()) if (file := _file(module)).endswith(".py")]


def _imported_by(path: Path) -> Iterator[Path]:
    """The modules that a file names, found without being imported; of a package all modules."""
    try:
        nodes = list(ast.walk(ast.parse(path.read_bytes())))
    except (OSError, SyntaxError, ValueError):
        return
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    for name in {name.partition(".")[0] for name in names} - {*PACKAGES, "suite", *sys.stdlib_module_names}:
        found = PathFinder.find_spec(name)
        if found and found.origin and found.origin.endswith(".py"):
            yield Path(found.origin).resolve()
        for folder in (found and found.submodule_search_locations) or ():
            if not _installed(folder):
                yield from (each.resolve() for each in Path(folder).rglob("*.py"))


def _installed(folder: str) -> bool:
    return any(Path(folder).is_relative_to(sysconfig.get_path(name)) for name in ("purelib", "platlib"))


def _file(module: object) -> str:
    return getattr(module, "__file__", None) or ""


def _is_source(path: Path) -> bool:
    return path.is_file() and path.suffix not in (".pyc", ".md")


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def _content(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
