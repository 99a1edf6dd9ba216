"""Parameters of tests of which some take long: those run in `make test-all` alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def with_long(names: Iterable[str], *long: str) -> list[Any]:
    """All names, those of `long` marked so. ValueError on a name that is not among them."""
    found = list(names)
    if unknown := set(long) - set(found):
        raise ValueError(f"no case is called {', '.join(sorted(unknown))}")
    return [pytest.param(name, marks=pytest.mark.long) if name in long else name for name in found]
