"""Static profiles may not share a process with a GPU: where another test has used one, these say so and are skipped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One cache for the session, apart from the user's, and no GPU in use."""
    if torch.cuda.is_initialized():
        pytest.skip("this process uses a GPU; run `pytest tests/suite/static` on its own")
    folder = tmp_path_factory.getbasetemp() / "subquad-cache"
    monkeypatch.setenv("SUBQUAD_CACHE", str(folder))
    return folder
