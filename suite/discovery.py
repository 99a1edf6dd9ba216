"""Discovery: imports kernels/, baselines/, plug-in files and entry points, and collects their operators.

Nothing else in suite/ imports those packages. `root` names the checkout whose packages are taken, so that a worker can
load another revision's kernels under this suite.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import pkgutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from suite.errors import DiscoveryError
from suite.faults import place_of, said, staying
from suite.registry import Absent, Operator, Registry
from suite.tuning import use_root

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("kernels", "baselines")
ENTRY_POINTS = "subquad.operators"
# What kernels of older revisions import from suite, by module: what it was called -> what it is called now.
FORMER = {"suite.tuning": {"Launch": "Config"}}


def discover(root: Path = ROOT, load: Iterable[str | Path] = ()) -> Registry:
    """Import everything that registers operators.

    root: the checkout whose kernels/ and baselines/ are imported
    load: plug-in files, imported after them
    Raises DiscoveryError when a package resolves elsewhere than under root, a module raises on import, or two things
    have one name. A module that needs something not installed is listed in `Registry.absent`.
    """
    registry = Registry()
    use_root(Path(root).resolve())
    if Path(root).resolve() != ROOT:
        _restore_former_names()
    for name in PACKAGES:
        for module in _modules(_package(name, Path(root).resolve()), registry):
            _collect(module, registry)
    for path in load:
        _collect(_plugin(Path(path)), registry)
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        _collect(_entry(entry), registry)
    return registry


def _restore_former_names() -> None:
    """Let another revision's kernels import what was renamed since; this checkout's must use today's names."""
    for name, former in FORMER.items():
        module = importlib.import_module(name)
        for old, new in former.items():
            setattr(module, old, getattr(module, new))


def _package(name: str, root: Path) -> ModuleType:
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    try:
        with _told(f"package {name}/"):
            package = importlib.import_module(name)
    except ImportError as error:
        raise DiscoveryError(f"cannot import {name}/ under {root}: {error}; is this a checkout of subquad?") from error
    found = Path(package.__file__ or "").resolve()
    if not found.is_relative_to(root):
        raise DiscoveryError(
            f"'{name}' was imported from {found.parent}, not from {root}: another package shadows it; "
            f"run in a fresh Python with {root} first on PYTHONPATH"
        )
    return package


def _modules(package: ModuleType, registry: Registry) -> Iterator[ModuleType]:
    yield package
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.", onerror=lambda _: None):
        try:
            with _told(f"module {found.name}"):
                module = importlib.import_module(found.name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] in (*PACKAGES, "suite", ""):
                raise DiscoveryError(f"module {found.name} does not import: {error}") from error
            registry.absent.append(Absent(found.name, f"{error.name} is not installed"))
        except ImportError as error:
            raise DiscoveryError(_raises(f"module {found.name}", error)) from error
        else:
            yield module


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Import something inside: whatever it raises becomes a DiscoveryError that names it, but for an ImportError.

    A module that ends Python would end a gate with an exit code of its own. Ctrl-C stays Ctrl-C, and is told.
    """
    try:
        with staying():
            yield
    except (DiscoveryError, ImportError):
        raise
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"while {what} was imported") from error
    except SystemExit as error:
        place = place_of(error)
        raise DiscoveryError(f"{what} ends Python on import: exit code {error.code!r}, {place}; remove that") from error
    except BaseException as error:
        raise DiscoveryError(_raises(what, error)) from error


def _raises(what: str, error: BaseException) -> str:
    place = place_of(error)
    return f"{what} raises on import: {said(error)}" + (f" ({place})" if place else "")


def _plugin(path: Path) -> ModuleType:
    path = path.resolve()
    if not path.is_file():
        why = "is a folder; name a Python file" if path.is_dir() else "no such file"
        raise DiscoveryError(f"--load {path}: {why}")
    name = f"subquad_plugin_{path.stem}"
    loaded = sys.modules.get(name)
    if loaded is not None and loaded.__file__ == str(path):
        return loaded
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise DiscoveryError(f"--load {path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _told(f"--load {path}"):
            spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, ImportError):
            raise DiscoveryError(_raises(f"--load {path}", error)) from error
        raise
    return module


def _entry(entry: importlib.metadata.EntryPoint) -> ModuleType:
    what = f"entry point {entry.name} = {entry.value}"
    try:
        with _told(what):
            loaded = entry.load()
    except (ImportError, AttributeError) as error:
        raise DiscoveryError(_raises(what, error)) from error
    if not isinstance(loaded, ModuleType):
        raise DiscoveryError(f"{what} is not a module; point it at the module that registers")
    return loaded


def _collect(module: ModuleType, registry: Registry) -> None:
    for value in list(vars(module).values()):
        if isinstance(value, Operator):
            registry.add(value)
