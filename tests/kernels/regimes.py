"""The two regimes of kernels that cut long sequences: whole ones stay on chip, or segments of them run side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from unittest.mock import patch

import kernels.channel_decay.plan
import kernels.channel_delta.plan
import kernels.delta.plan
import kernels.mlstm.plan
import kernels.scalar_decay.plan
import kernels.scan.plan
import kernels.scan.s4d.plan
from suite.problem import Problem, Value
from suite.registry import Implementation
from suite.targets import REPRESENTATIVES, aim

# One SM is filled by any call, thousands by none of the tests': the regime follows.
SMS = {"on-chip": 1, "segments": 4096}
# The least segments here, of chunks or, for scans, of tokens: few tokens are two segments then.
LEAST = {
    kernels.channel_delta.plan: ("MIN_CHUNKS", 1),
    kernels.channel_decay.plan: ("MIN_CHUNKS", 1),
    kernels.delta.plan: ("MIN_CHUNKS", 1),
    kernels.scalar_decay.plan: ("MIN_CHUNKS", 1),
    kernels.mlstm.plan: ("MIN_CHUNKS", 1),
    kernels.scan.plan: ("LEAST", 32),
    kernels.scan.s4d.plan: ("LEAST", 32),
}


@contextmanager
def short_segments() -> Iterator[None]:
    """Segments as short as a chunk."""
    with ExitStack() as stack:
        for module, (name, least) in LEAST.items():
            stack.enter_context(patch.object(module, name, least))
        yield


@contextmanager
def aimed(regime: str) -> Iterator[None]:
    """A GPU on which calls run in a regime, with short segments."""
    with short_segments(), aim(replace(REPRESENTATIVES["sm_90"], sms=SMS[regime])):
        yield


def regimes(made: Implementation, problem: Problem, tunables: Mapping[str, Value]) -> set[str]:
    """The regimes of a problem's kernels on the GPU that is aimed at; empty where an implementation has none."""
    if made.configuration is None:
        return set()
    return {each["regime"] for each in made.configuration(problem, tunables).values() if "regime" in each}
