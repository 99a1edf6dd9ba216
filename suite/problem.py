"""Problem: one point of the sweep, shapes only. Case: a problem, an implementation and its tunables.

>>> problem = Problem(B=4, T=4096, H=16, K=128, dtype="bf16")
>>> Case("retention", "triton_chunk", problem, (("chunk", 64),)).case_id
'retention/triton_chunk/B4_T4096_H16_K128_V128_bf16_fwd_C64'
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from typing import Any

from suite import dtypes
from suite.errors import UsageError, unknown

PASSES = ("fwd", "bwd", "fwdbwd", "decode")
SIZES = ("B", "T", "H", "HK", "HV", "K", "V")
STANDARD_AXES = (*SIZES, "dtype", "pass", "layout", "state_dtype", "initial_state")
Value = bool | int | float | str
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


@dataclass(frozen=True)
class Axis:
    """An operator's own axis, such as `causal`: its name and admissible values, the default first.

    drawn: whether it only says how inputs are drawn: then neither oracle nor implementations are told of it
    """

    name: str
    values: Sequence[Value]
    help: str = ""
    drawn: bool = False

    @property
    def default(self) -> Value:
        return self.values[0]

    def token(self, value: Value) -> str:
        """How a value stands in a case id: `causal`, `no-causal`, `feature_map-relu`."""
        if isinstance(value, bool):
            return self.name if value else f"no-{self.name}"
        return f"{self.name}-{value}"


@dataclass(frozen=True)
class Problem:
    """Shapes, dtype, pass, layout and state of one problem. HK and HV default to H, V defaults to K.

    In `decode`, T is the context length and one token is processed. A packed layout has B = 1 and T tokens in all.
    `axes` holds the operator's own axes as (name, value) pairs in registry order; those left out have their default.
    Raises UsageError on a size below 1 or beyond what a tensor may have, an unknown dtype, pass or layout, or heads
    that do not divide.
    """

    B: int = 1
    T: int = 1024
    H: int = 1
    HK: int = 0
    HV: int = 0
    K: int = 64
    V: int = 0
    dtype: str = "bfloat16"
    pass_: str = "fwd"
    layout: str = "dense"
    state_dtype: str = "float32"
    initial_state: bool = False
    axes: tuple[tuple[str, Value], ...] = ()

    def __post_init__(self) -> None:
        for name, default in (("HK", self.H), ("HV", self.H), ("V", self.K)):
            if getattr(self, name) == 0:
                object.__setattr__(self, name, default)
        for name in SIZES:
            size = getattr(self, name)
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise UsageError(f"{name} = {size!r} is no size; give an integer of at least 1")
            if size > LARGEST_SIZE:
                raise UsageError(f"{name} = {size} is too large; the largest size is {LARGEST_SIZE}")
        object.__setattr__(self, "dtype", dtypes.canonical(self.dtype))
        object.__setattr__(self, "state_dtype", dtypes.canonical(self.state_dtype))
        if self.pass_ not in PASSES:
            raise unknown("pass", self.pass_, PASSES)
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
            raise UsageError(f"layout {self.layout} has no decode pass; use dense")

    def _check_elements(self) -> None:
        p = self
        if p.pass_ == "decode":
            name, axes = "the state", ("B", "H" if p.H >= p.HV else "HV", "K", "V")
        else:
            name, *axes = max(
                ("q", "B", "T", "H", "K"), ("k", "B", "T", "HK", "K"), ("v", "B", "T", "HV", "V"),
                key=lambda each: math.prod(getattr(p, axis) for axis in each[1:]),
            )  # fmt: skip
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
        values = asdict(self)
        values["pass"] = values.pop("pass_")
        return {name: values[name] for name in STANDARD_AXES}

    @classmethod
    def from_columns(cls, columns: dict[str, Any], axes: tuple[tuple[str, Value], ...] = ()) -> Problem:
        """The inverse of `columns`; unknown keys are ignored."""
        known = {field.name for field in fields(cls)} - {"axes"}
        values = {("pass_" if key == "pass" else key): value for key, value in columns.items()}
        return cls(**{key: value for key, value in values.items() if key in known}, axes=axes)

    def tokens_of_id(self, axes: tuple[Axis, ...]) -> list[str]:
        """The parts of an id, defaults left out."""
        parts = [f"B{self.B}", f"T{self.T}", f"H{self.H}"]
        parts += [f"{name}{getattr(self, name)}" for name in ("HK", "HV") if getattr(self, name) != self.H]
        parts += [f"K{self.K}", f"V{self.V}", dtypes.SHORT[self.dtype], self.pass_]
        if self.layout != "dense":
            parts.append(self.layout.replace(":", "-"))
        if self.state_dtype != "float32":
            parts.append(f"state-{dtypes.SHORT[self.state_dtype]}")
        if self.initial_state:
            parts.append("h0")
        given = dict(self.axes)
        parts += [axis.token(given[axis.name]) for axis in axes if given.get(axis.name, axis.default) != axis.default]
        return parts


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
        parts += [f"C{value}" if name == "chunk" else f"{name}-{value}" for name, value in self.tunables]
        return f"{self.operator}/{self.implementation}/{'_'.join(parts)}"

    @property
    def problem_id(self) -> str:
        """The operator and its problem: what cases that are compared have in common."""
        return f"{self.operator}/{'_'.join(self.problem.tokens_of_id(self.own_axes))}"
