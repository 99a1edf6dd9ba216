"""Permutations: what an operator computes for one sequence and one group of heads does not depend on where they stand.

A check compares one sequence and head group with the oracle. A fault by position (the last block of a grid, a wrong
stride, heads that were left out) may lie in all the others. So an implementation is called once more on inputs whose
sequences and head groups have changed places, and its outputs must have changed places with them.

- Every tensor moves along its dimensions B or N, H, HK, HV and HS; a group of heads stays whole.
- Of a packed batch whole sequences move, with their boundaries.
- What an operator mixes (`couples`) stays in its place. Heads also stay where an implementation makes a constant of
  each head by itself (`own_head_constants`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from suite.checks.calling import Tensors
from suite.checks.inputs import PACKING, Inputs
from suite.checks.oracle import dims_of_output
from suite.problem import Problem
from suite.registry import Implementation, Operator

HEADS = ("H", "HK", "HV", "HS")


@dataclass(frozen=True)
class Permutation:
    """New places of a problem's sequences and head groups.

    sequences, groups: number i of the permuted problem is sequences[i], groups[i] of the problem itself
    """

    operator: Operator
    problem: Problem
    sequences: Sequence[int]
    groups: Sequence[int]

    def inputs(self, inputs: Mapping[str, Any]) -> Inputs:
        """The inputs, moved. Those that no dimension of theirs moves are the same tensors."""
        moved = {name: self._move_input(name, value) for name, value in inputs.items() if name not in PACKING}
        if self.problem.cu_seqlens is not None:
            lengths = [end - first for first, end in pairwise(self.problem.cu_seqlens)]
            bounds = torch.tensor([0, *(lengths[n] for n in self.sequences)], dtype=torch.int32).cumsum(0).int()
            moved |= {"cu_seqlens": bounds.to(inputs["cu_seqlens"].device), "cu_seqlens_cpu": bounds}
        return moved

    def outputs(self, outputs: Tensors) -> Tensors:
        """Outputs, cotangents or gradients of the problem, moved as its inputs are."""
        return {name: self._moved(x, self._dims_out(name), _indexed) for name, x in outputs.items()}

    def restored(self, outputs: Tensors) -> Tensors:
        """What came of moved inputs, back in the places of the problem."""
        return {name: self._moved(x, self._dims_out(name), _scattered) for name, x in outputs.items()}

    def _move_input(self, name: str, value: Any) -> Any:
        dims = self._own.get(name) or self.operator.dims_of(name)
        if not isinstance(value, tuple):
            return None if value is None else self._moved(value, _part(dims, 0), _indexed)
        return tuple(self._moved(x, _part(dims, i), _indexed) for i, x in enumerate(value))

    @property
    def _own(self) -> Mapping[str, str | tuple[str, ...]]:
        return self.operator.moves(self.problem) if self.operator.moves else {}

    def _dims_out(self, name: str) -> str:
        return dims_of_output(self.operator, name, self._own)

    def _moved(self, x: torch.Tensor, dims: str, place: Callable[..., torch.Tensor]) -> torch.Tensor:
        for dim, word in enumerate(dims.split()[: x.ndim]):
            order = self._order(word)
            if order is not None:
                x = place(x, dim, torch.tensor(order, device=x.device))
        return x

    def _order(self, word: str) -> list[int] | None:
        """Where each index along a dimension comes from; None where none moves."""
        packed = self.problem.cu_seqlens is not None and self.problem.pass_ != "decode"
        if word in HEADS:
            width = getattr(self.problem, word) // self.problem.groups
            return [group * width + i for group in self.groups for i in range(width)]
        if word == "N" or (word == "B" and not packed):
            return list(self.sequences)
        if word == "T" and packed:
            assert self.problem.cu_seqlens is not None
            spans = list(pairwise(self.problem.cu_seqlens))
            return [t for n in self.sequences for t in range(*spans[n])]
        return None


def _indexed(x: torch.Tensor, dim: int, order: torch.Tensor) -> torch.Tensor:
    return x.index_select(dim, order)


def _scattered(x: torch.Tensor, dim: int, order: torch.Tensor) -> torch.Tensor:
    return x.index_select(dim, order.argsort())


def _part(dims: str | tuple[str, ...], index: int) -> str:
    return dims if isinstance(dims, str) else dims[index]


def permutation(
    operator: Operator, implementation: Implementation, problem: Problem, seed: int, packed: bool = True
) -> Permutation | None:
    """A permutation in which as much moves as may; None where nothing may.

    packed: whether packed sequences move
    """
    generator = torch.Generator().manual_seed(seed)
    stay = "B" in operator.couples or (problem.cu_seqlens is not None and not packed)
    sequences = 1 if stay else problem.N
    groups = 1 if "H" in operator.couples or implementation.own_head_constants else problem.groups
    if max(sequences, groups) == 1:
        return None
    return Permutation(
        operator,
        problem,
        _order_of(problem.N, sequences > 1, generator),
        _order_of(problem.groups, groups > 1, generator),
    )


def _order_of(count: int, moves: bool, generator: torch.Generator) -> list[int]:
    """A drawn order in which nothing keeps its place: a cycle over all, in a drawn order."""
    if not moves or count == 1:
        return list(range(count))
    cycle = torch.randperm(count, generator=generator).tolist()
    order = [0] * count
    for at, to in zip(cycle, cycle[1:] + cycle[:1], strict=True):
        order[at] = to
    return order
