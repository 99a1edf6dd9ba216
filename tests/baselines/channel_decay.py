"""What the baseline tests of operators with a decay per channel share: cases, and how one is checked."""

from __future__ import annotations

from typing import Any

import torch

from suite import Operator, Problem
from suite.checks.checker import check_case

SEQUENCES = ("naive", "torch_chunk")
STATE = {"initial_state": True}
# Between them: ragged lengths, blocks and chunks left incomplete, states, unequal heads, packed sequences, bf16.
CASES: dict[str, dict[str, Any]] = {
    "one_token": {"T": 1},
    "state": {"T": 70, "B": 2, **STATE},
    "grouped": {"T": 40, "H": 4, "HK": 2, "HV": 2},
    "value_heads": {"T": 63, "H": 2, "HV": 4, **STATE},
    "packed": {"T": 130, "layout": "packed:ragged", **STATE},
    "half": {"T": 130, "K": 64, "V": 64, "dtype": "bf16"},
}


def checked(operator: Operator, implementation: str, sizes: dict[str, Any], **tunables: Any) -> None:
    """An implementation agrees with the oracle, gradients included."""
    at = operator.complete(Problem(**{"H": 2, "K": 16, "V": 24, "dtype": "fp32", "pass_": "fwdbwd", **sizes}))
    found = check_case(operator, implementation, at, tunables)
    assert found.status == "ok", found.reason
    assert {"o"} < set(found.errors) or at.pass_ == "fwd"


def extreme(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Weak gates, among which some are 0, some -20 and some forget everything."""
    generator = torch.Generator().manual_seed(0)
    g = -0.05 * torch.rand(shape, generator=generator, dtype=torch.float64)
    g[:, 3::7], g[:, 5::17, :, ::2], g[:, 9::23], g[:, 4::11] = -20, -torch.inf, -1e4, 0
    return g.to(dtype)
