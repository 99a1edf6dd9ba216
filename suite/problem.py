"""Problem: one point of the sweep, shapes only. Case: a problem, an implementation and its tunables.

>>> problem = Problem(B=4, T=4096, H=16, K=128, dtype="bf16")
>>> Case("retention", "triton_chunk", problem, (("chunk", 64),)).case_id
'retention/triton_chunk/B4_T4096_H16_K128_V128_bf16_fwd_C64'
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from suite import dtypes
from suite.axes import Axis, StandardAxis, Value, standard, standard_axes
from suite.errors import UsageError, unknown

PASSES = ("fwd", "bwd", "fwdbwd", "decode")
# Kernels and boundaries of packed sequences count in 32 bits; no device holds a tensor of more elements than the other.
LARGEST_SIZE = 2**31 - 1
MOST_ELEMENTS = 2**40

# Boundaries of packed sequences for T tokens in all. `ragged` holds a one-token sequence, a short one and a long one;
# `gaps` sequences of one token and empty ones, the first and the last among them. With few tokens others are empty too.
PACKED: dict[str, Callable[[int], tuple[int, ...]]] = {
    "single": lambda T: (0, T),
    "halves": lambda T: (0, T // 2, T),
    "even8": lambda T: tuple(T * i // 8 for i in range(9)),
    "ragged": lambda T: (0, 1, *(max(1, T * end // 2048) for end in (100, 300, 1200)), T),
    "gaps": lambda T: (0, 0, 1, *(max(1, end) for end in (T // 2, T // 2)), min(T, max(1, T // 2) + 1), T, T),
}


def _always(name: str) -> dict[str, Any]:
    return {"token": lambda value, _: f"{name}{value}", "label": lambda value, _: f"{name} {value}"}


def _own_heads(name: str) -> dict[str, Any]:
    """In ids and titles only where it differs from H."""
    return {
        "token": lambda value, axes: "" if value == axes["H"] else f"{name}{value}",
        "label": lambda value, axes: "" if value == axes["H"] else f"{name} {value}",
    }


def _short(dtype: str) -> str:
    return dtypes.SHORT.get(dtype, dtype)


@dataclass(frozen=True)
class Problem:
    """Shapes, dtype, pass, layout and state of one problem. HK and HV default to H, V defaults to K.

    In `decode`, T is the context length and one token is processed. A packed layout has B = 1 and T tokens in all.
    `axes` holds the operator's own axes as (name, value) pairs in registry order; those left out have their default.
    Raises UsageError on a size below 1 or beyond what a tensor may have, an unknown dtype, pass or layout, or heads
    that do not divide.
    """

    B: int = standard(1, kind="size", flag="--batch", help="number of sequences", **_always("B"))
    T: int = standard(
        1024,
        kind="size",
        flag="--seq-len",
        facet="",
        help="tokens per sequence; the context length in decode",
        **_always("T"),
    )
    H: int = standard(1, kind="size", flag="--heads", help="heads of q", **_always("H"))
    HK: int = standard(
        0, kind="size", follows="H", flag="--key-heads", help="heads of k; default: heads of q", **_own_heads("HK")
    )
    HV: int = standard(
        0, kind="size", follows="H", flag="--value-heads", help="heads of v; default: heads of q", **_own_heads("HV")
    )
    K: int = standard(64, kind="size", facet="head dims", help="key dim per head", **_always("K"))
    V: int = standard(
        0,
        kind="size",
        follows="K",
        facet="head dims",
        help="value dim per head; default: the key dim",
        token=lambda value, _: f"V{value}",
        label=lambda value, axes: "" if value == axes["K"] else f"V {value}",
    )
    dtype: str = standard(
        "bfloat16",
        kind="dtype",
        flag="--dtype",
        facet="dtype",
        help="bf16, fp16, fp32 (or their long names)",
        token=lambda value, _: _short(value),
        label=lambda value, _: _short(value),
    )
    pass_: str = standard(
        "fwd",
        kind="name",
        flag="--pass",
        values=PASSES,
        facet="pass",
        help=", ".join(PASSES),
        token=lambda value, _: value,
        label=lambda value, _: value,
    )
    layout: str = standard(
        "dense",
        kind="name",
        flag="--layout",
        help=f"dense, packed:{{{','.join(PACKED)}}}",
        token=lambda value, _: "" if value == "dense" else value.replace(":", "-"),
        label=lambda value, _: "" if value == "dense" else value,
    )
    state_dtype: str = standard(
        "float32",
        kind="dtype",
        flag="--state-dtype",
        help="dtype of recurrent states",
        token=lambda value, _: "" if value == "float32" else f"state-{_short(value)}",
        label=lambda value, _: "" if value == "float32" else f"state {value}",
    )
    initial_state: bool = standard(
        False,
        kind="flag",
        flag="--initial-state",
        help="start from an initial state and return the final state",
        token=lambda value, _: "h0" if value else "",
        label=lambda value, _: "initial state" if value else "",
    )
    axes: tuple[tuple[str, Value], ...] = ()

    def __post_init__(self) -> None:
        for axis in STANDARD.values():
            value = getattr(self, axis.field)
            if axis.follows and value == 0:
                value = getattr(self, axis.follows)
            object.__setattr__(self, axis.field, _checked(axis, value))
        self._check_heads()
        self._check_layout()
        self._check_elements()

    def _check_heads(self) -> None:
        heads = {"H": self.H, "HK": self.HK, "HV": self.HV}
        largest = max(heads.values())
        if self.HK > self.HS:
            raise UsageError(f"HK = {self.HK} is more than H = {self.H} and HV = {self.HV}; choose at most the larger")
        for name, count in heads.items():
            if largest % count:
                raise UsageError(
                    f"{name} = {count} does not divide {largest} heads; choose heads that divide each other"
                )

    def _check_layout(self) -> None:
        if self.layout == "dense":
            return
        kind, _, name = self.layout.partition(":")
        if kind != "packed" or name not in PACKED:
            raise unknown("layout", self.layout, ["dense", *(f"packed:{name}" for name in PACKED)])
        if self.B != 1:
            raise UsageError(
                f"layout {self.layout} has B = 1, not {self.B}: packed sequences lie in one row of T tokens"
            )
        if self.pass_ == "decode":
            raise UsageError(f"pass decode takes no {self.layout}: use layout dense, or --pass fwd,bwd")

    def _check_elements(self) -> None:
        p = self
        if p.pass_ == "decode":
            name, axes = "the state", ("B", "H" if p.H >= p.HV else "HV", "K", "V")
        else:
            name, *axes = max(
                ("q", "B", "T", "H", "K"),
                ("k", "B", "T", "HK", "K"),
                ("v", "B", "T", "HV", "V"),
                key=lambda each: math.prod(getattr(p, axis) for axis in each[1:]),
            )
        found = {axis: getattr(p, axis) for axis in axes}
        if (elements := math.prod(found.values())) > MOST_ELEMENTS:
            largest = max(found, key=lambda axis: found[axis])
            raise UsageError(
                f"{largest} = {found[largest]} is too large: {name} [{', '.join(axes)}] would have {elements:.2g} "
                f"elements, and a tensor may have {MOST_ELEMENTS:.2g}; choose a smaller {largest}"
            )

    @property
    def HS(self) -> int:
        """Heads of gates, state and output: max(H, HV)."""
        return max(self.H, self.HV)

    @property
    def groups(self) -> int:
        """Independent groups of heads: min(H, HK, HV)."""
        return min(self.H, self.HK, self.HV)

    @property
    def cu_seqlens(self) -> tuple[int, ...] | None:
        """Boundaries of packed sequences, or None for a dense layout; 0 first, T last, doubled where one is empty."""
        if self.layout == "dense":
            return None
        return PACKED[self.layout.partition(":")[2]](self.T)

    @property
    def N(self) -> int:
        """Number of sequences, and so of states."""
        bounds = self.cu_seqlens
        return self.B if bounds is None else len(bounds) - 1

    @property
    def lengths(self) -> dict[int, int]:
        """How many sequences there are of each number of tokens; those without any are left out."""
        bounds = self.cu_seqlens
        if bounds is None:
            return {self.T: self.B}
        return dict(Counter(end - first for first, end in pairwise(bounds) if end > first))

    @property
    def empty(self) -> tuple[int, ...]:
        """The packed sequences that have no tokens, by number."""
        return tuple(n for n, (first, end) in enumerate(pairwise(self.cu_seqlens or ())) if first == end)

    @property
    def tokens(self) -> int:
        """Tokens that one call processes: B in decode, B * T elsewhere."""
        return self.B if self.pass_ == "decode" else self.B * self.T

    @property
    def itemsize(self) -> int:
        """Bytes of one element of q, k, v."""
        return dtypes.BYTES[self.dtype]

    @property
    def differentiates(self) -> bool:
        return self.pass_ in ("bwd", "fwdbwd")

    def axis(self, name: str) -> Value:
        """The value of an operator's own axis; KeyError if this problem was not completed by its operator."""
        return dict(self.axes)[name]

    def replace(self, **changes: Any) -> Problem:
        return replace(self, **changes)

    def columns(self) -> dict[str, Value]:
        """The standard axes as a record's columns."""
        return {name: getattr(self, axis.field) for name, axis in STANDARD.items()}

    @classmethod
    def from_columns(cls, columns: dict[str, Any], axes: tuple[tuple[str, Value], ...] = ()) -> Problem:
        """The inverse of `columns`; unknown keys are ignored."""
        return cls(**{axis.field: columns[name] for name, axis in STANDARD.items() if name in columns}, axes=axes)

    def tokens_of_id(self, axes: tuple[Axis, ...]) -> list[str]:
        """The parts of an id, defaults left out."""
        columns = self.columns()
        parts = [text for name, axis in STANDARD.items() if (text := axis.token(columns[name], columns))]
        given = dict(self.axes)
        parts += [axis.token(given[axis.name]) for axis in axes if given.get(axis.name, axis.default) != axis.default]
        return parts


# The standard axes by name, in the order in which ids and records have them.
STANDARD = standard_axes(Problem)
SIZES = tuple(name for name, axis in STANDARD.items() if axis.kind == "size")


def _checked(axis: StandardAxis, value: Any) -> Value:
    """A value as Problem holds it. UsageError where the axis cannot have it."""
    if axis.kind == "size":
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UsageError(f"{axis.name} = {value!r} is not a size; give an integer of at least 1")
        if value > LARGEST_SIZE:
            raise UsageError(f"{axis.name} = {value} is too large; the largest size is {LARGEST_SIZE}")
    elif axis.kind == "dtype":
        return dtypes.canonical(value)
    elif axis.kind == "flag":
        if not isinstance(value, bool):
            raise UsageError(f"{axis.name} = {value!r} is not a flag; give true or false")
    elif axis.values and value not in axis.values:
        raise unknown(axis.name, value, axis.values)
    return value


def split_case_id(case_id: str) -> tuple[str, str, str]:
    """(operator, implementation, problem and tunables) of a case id: no name holds a slash."""
    operator, implementation, problem = case_id.split("/", 2)
    return operator, implementation, problem


def token_of_tunable(name: str, value: Value) -> str:
    """Its part of a case id: `C64` of a chunk, `NAME-VALUE` of another."""
    return f"C{value}" if name == "chunk" else f"{name}-{value}"


@dataclass(frozen=True)
class Case:
    """What is measured: a problem, the implementation that serves it, and that implementation's tunables."""

    operator: str
    implementation: str
    problem: Problem
    tunables: tuple[tuple[str, Value], ...] = ()
    own_axes: tuple[Axis, ...] = ()

    @property
    def case_id(self) -> str:
        parts = self.problem.tokens_of_id(self.own_axes)
        parts += [token_of_tunable(name, value) for name, value in self.tunables]
        return f"{self.operator}/{self.implementation}/{'_'.join(parts)}"

    @property
    def problem_id(self) -> str:
        """The operator and its problem: what cases that are compared have in common."""
        return f"{self.operator}/{'_'.join(self.problem.tokens_of_id(self.own_axes))}"
