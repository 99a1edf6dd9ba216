"""Which tests run where.

Triton's interpreter must be on before Triton is imported, so tests marked `interpret` have a process of their own:
`TRITON_INTERPRET=1 pytest -m interpret`. Tests marked `gpu` are skipped, visibly, without a CUDA device.
"""

from __future__ import annotations

import gc
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

# Tests run side by side, a process a core: threads inside each would only fight. Read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

INTERPRETING = os.environ.get("TRITON_INTERPRET") == "1"

if INTERPRETING:
    from suite import interpreting

    # As checks do, for all tests alike.
    interpreting.install()

if importlib.util.find_spec("hypothesis"):
    from hypothesis import HealthCheck, settings

    # How fast a machine draws examples, and runs them beside other work, is not what these tests are about.
    settings.register_profile("subquad", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("subquad")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen = [item for item in items if (item.get_closest_marker("interpret") is not None) == INTERPRETING]
    left = [item for item in items if (item.get_closest_marker("interpret") is not None) != INTERPRETING]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = chosen
    if any(item.get_closest_marker("gpu") for item in items) and not _cuda():
        skip = pytest.mark.skip(reason="no CUDA device here")
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(skip)


def pytest_collection_finish() -> None:
    # Measuring collects garbage between cases, and the tests themselves are a million objects to look through.
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache of all tests in place of the user's: ceilings that one process measured serve the others too."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SUBQUAD_CACHE", str(folder / "cache"))
        yield folder / "cache"


def pytest_report_header() -> str:
    return f"triton interpreter: {'on: only tests marked interpret run' if INTERPRETING else 'off'}"


def _cuda() -> bool:
    import torch

    return torch.cuda.is_available()
