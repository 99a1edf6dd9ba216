"""What the tests of mLSTM's kernels share: aiming at a regime, inputs by gate, all gradients of one call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from kernels.mlstm.spec import mlstm, recurrence
from suite import Problem
from suite.checks.inputs import each, flat, leaves
from suite.numerics import difference, rms
from suite.targets import REPRESENTATIVES, aim
from tests.kernels.regimes import SMS

GATES = ("exp", "sigmoid")
STATE = {"initial_state": True}


def aimed(regime: str):
    """A context in which every plan chooses this regime."""
    return aim(replace(REPRESENTATIVES["sm_90"], sms=SMS[regime]))


def problem(gate: str, **sizes: Any) -> Problem:
    return mlstm.complete(Problem(**{"H": 2, "K": 32, "V": 32, "dtype": "fp32", **sizes}), {"gate": gate})


def gradients(function: Callable[..., Any], inputs: dict[str, Any], **options: Any) -> dict[str, torch.Tensor]:
    """o, the final state and the gradients of a loss over both, by name."""
    inputs = each(lambda x: x.detach().clone().requires_grad_(), inputs)
    o, end = function(**inputs, output_final_state=True, **options)
    outputs = flat({"o": o, "end": end})
    loss = torch.stack([x.sin().sum() for x in outputs.values() if x.requires_grad]).sum()
    found = leaves(inputs)
    grads = torch.autograd.grad(loss, list(found.values()), allow_unused=True)
    return outputs | {f"d{name}": g for name, g in zip(found, grads, strict=True) if g is not None}


def errors(function: Callable[..., Any], inputs: dict[str, Any], *, gate: str, **options: Any) -> dict[str, float]:
    """How far a function is from the oracle in float64, by name; gradients that cancel count against the largest."""
    found = gradients(function, inputs, gate=gate, **options)
    right = gradients(recurrence, each(lambda x: x.double(), inputs), gate=gate)
    least = 1e-4 * max(rms(x) for name, x in right.items() if name.startswith("d"))
    assert found.keys() == right.keys()
    return {
        name: difference(found[name], x, floor=least if name.startswith("d") else 1e-6).error
        for name, x in right.items()
    }
