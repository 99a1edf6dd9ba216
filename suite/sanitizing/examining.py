"""Examining a call: sanitized, then as it is, and the two compared, so that the use of masked-off lanes shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from suite.sanitizing.findings import Finding
from suite.sanitizing.sanitizer import Sanitizer

Run = Callable[[], Mapping[str, torch.Tensor]]


def examine(run: Run) -> tuple[list[Finding], int]:
    """(findings, launches of Triton kernels) of a function that calls kernels and returns what they made, by name.

    It runs several times and must return the same each time. What it raises is raised, unless something was found.
    """
    with Sanitizer() as sanitizer:
        try:
            poisoned = run()
        except Exception:
            if sanitizer.findings:
                return sanitizer.findings, sanitizer.launches
            raise
    if sanitizer.findings or not sanitizer.poisoned:
        return sanitizer.findings, sanitizer.launches
    with Sanitizer(look=False, poison=False):
        plain = run()
    if not (wrong := _differing(poisoned, plain)):
        return [], sanitizer.launches
    found = [
        _leak(kernel, tensor, place, alone)
        for place, (kernel, tensor) in sanitizer.poisoned.items()
        if (alone := _differing(_poisoned_at(run, place), plain))
    ]
    # Where none alone shows, two make up for each other.
    every = " or ".join(sanitizer.poisoned)
    return found or [_leak("", "several tensors", every, wrong)], sanitizer.launches


def _poisoned_at(run: Run, place: str) -> Mapping[str, torch.Tensor]:
    with Sanitizer(look=False, only=place):
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
