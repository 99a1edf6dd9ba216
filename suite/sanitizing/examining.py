"""Examining a call: sanitized, then as it is, and the two compared, so that the use of masked-off lanes shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from suite.errors import SubquadError
from suite.sanitizing.findings import Finding
from suite.sanitizing.sanitizer import LARGE, Sanitizer

Run = Callable[[], Mapping[str, torch.Tensor]]


@dataclass(frozen=True)
class Examined:
    """What examining a call found.

    launches: of Triton kernels
    outputs:  what it returned; empty where something was found
    """

    findings: list[Finding]
    launches: int
    outputs: Mapping[str, torch.Tensor]


def examine(run: Run) -> Examined:
    """Examine a function that calls kernels and returns what they made, by name.

    It runs once or more and must return the same each time; SubquadError where that matters and it does not. What it
    raises is raised, unless something was found.
    """
    with Sanitizer() as sanitizer:
        try:
            poisoned = run()
        except Exception:
            if not sanitizer.findings:
                raise
            poisoned = {}
    if sanitizer.findings:
        return Examined(sanitizer.findings, sanitizer.launches, {})
    if not sanitizer.poisoned:
        return Examined([], sanitizer.launches, poisoned)
    plain = _poisoned_at(run, None, None)
    # Comparisons and maxima drop NaN, sums of few lanes may hide a number.
    for value, made in ((np.nan, poisoned), (LARGE, None)):
        if not (wrong := _differing(made or _poisoned_at(run, value, None), plain)):
            continue
        if _differing(plain, _poisoned_at(run, None, None)):
            raise SubquadError("two calls differ as they are, so whether masked lanes are used cannot be told")
        found = [
            _leak(kernel, tensor, place, alone)
            for place, (kernel, tensor) in sanitizer.poisoned.items()
            if (alone := _differing(_poisoned_at(run, value, place), plain))
        ]
        # Where none alone shows, two make up for each other.
        every = " or ".join(sanitizer.poisoned)
        return Examined(found or [_leak("", "several tensors", every, wrong)], sanitizer.launches, {})
    return Examined([], sanitizer.launches, plain)


def _poisoned_at(run: Run, value: float | None, place: str | None) -> Mapping[str, torch.Tensor]:
    """What a function returns when masked-off lanes get a value. place: None: wherever there are any."""
    with Sanitizer(look=False, poison=value, only=place):
        return run()


def _leak(kernel: str, tensor: str, place: str, wrong: list[str]) -> Finding:
    who = f"{kernel} uses" if kernel else "the kernels use"
    text = f"{who} lanes that the mask leaves out of a load of {tensor} without `other`: they reach {', '.join(wrong)}"
    return Finding("masked lanes", kernel, tensor, place, text)


def _differing(some: Mapping[str, torch.Tensor], others: Mapping[str, torch.Tensor]) -> list[str]:
    """Which tensors differ, with the number of elements."""
    wrong = []
    for name, x in some.items():
        y = others[name]
        differs = (x != y) & ~(x.isnan() & y.isnan()) if x.is_floating_point() else x != y
        if count := int(differs.sum()):
            wrong.append(f"{name} ({count} of {x.numel()} elements)")
    return wrong
