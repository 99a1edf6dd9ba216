"""Operators and implementations: the two concepts of the suite.

An operator is data plus four small functions (inputs, oracle, cost, step); an implementation is a function that an
operator's decorator registered. Nothing here knows any operator by name.

    >>> double = Operator(name="double", equation="o = 2 v", paper="none", inputs=..., oracle=..., cost=...)
    >>> @double.implementation("torch", origin="baseline", devices={"cpu"})
    ... def double_torch(q, k, v): return v + v, None
"""

from __future__ import annotations

import inspect
import json
import math
import numbers
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Literal

from suite import dtypes as known_dtypes
from suite.cost import Cost
from suite.errors import DiscoveryError, UsageError, unknown
from suite.faults import blamed, place_of_code, returned
from suite.problem import PASSES, STANDARD, Axis, Problem, Value
from suite.requirement import Requirement

Origin = Literal["ours", "baseline", "peer"]
Device = Literal["cuda", "cpu", "interpret"]
ORIGINS = ("ours", "baseline", "peer")
DEVICES = ("cuda", "cpu", "interpret")
SEQUENCE_PASSES = frozenset({"fwd", "bwd", "fwdbwd"})

# Dimensions of the inputs that every operator has; see Operator.dims.
STANDARD_DIMS = {
    "q": "B T H K",
    "k": "B T HK K",
    "v": "B T HV V",
    "initial_state": "N HS",
    "state": "N HS",
}
GATE_DIMS = "B T HS"


# Of a name: it stands in case ids and tables.
LONGEST_NAME = 64


def _check_name(kind: str, name: object, place: str) -> None:
    """DiscoveryError unless a name can stand in a case id, a file name and a table."""
    if not isinstance(name, str) or not name.isidentifier():
        raise DiscoveryError(f"{kind} name {str(name)[:LONGEST_NAME]!r} ({place}) is not an identifier; use snake_case")
    if len(name) > LONGEST_NAME:
        raise DiscoveryError(
            f"{kind} name '{name[:16]}...' ({place}) has {len(name)} letters; use at most {LONGEST_NAME}"
        )


def _check_words(kind: str, given: object, where: str) -> None:
    """DiscoveryError on one word where several are taken: its letters would be read."""
    if isinstance(given, str):
        raise DiscoveryError(f"{where}: {kind} is the text {given!r}; write ({given!r},)")


def _check_values(kind: str, name: object, values: object, where: str) -> None:
    """DiscoveryError unless the values of an own axis or tunable can stand in case ids and in a record."""
    if not isinstance(name, str) or not name.isidentifier():
        raise DiscoveryError(f"{where}: {kind} {str(name)[:LONGEST_NAME]!r} is not an identifier; use snake_case")
    if name in STANDARD:
        raise DiscoveryError(f"{where}: {kind} '{name}' is a standard axis; choose another name")
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise DiscoveryError(f"{where}: {kind} '{name}' has {values!r}; write a tuple of values, the default first")
    for value in values:
        if not _storable(value):
            raise DiscoveryError(f"{where}: {kind} '{name}' has the value {value!r}; use finite numbers and text")


def _storable(value: object) -> bool:
    """Whether a value is finite, of at most 64 bits, or Unicode: what a record and a message can hold."""
    if isinstance(value, str):
        return not any("\ud800" <= letter <= "\udfff" for letter in value)
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return isinstance(value, float) and math.isfinite(value)


def _place(depth: int) -> str:
    frame = sys._getframe(depth)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


@dataclass(frozen=True, eq=False)
class Implementation:
    """Code that computes an operator.

    Sequence passes call `fn(q, k, v, *gates, **own axes, scale=None, initial_state=None, output_final_state=False,
    cu_seqlens=None, cu_seqlens_cpu=None, **tunables) -> (o, final_state or None)`; `decode` calls
    `fn(q, k, v, *gates, state=..., **own axes, **tunables) -> o` and leaves the state updated in place. A keyword that
    the function does not have makes the cases that need it unsupported; nothing is dropped silently.
    """

    name: str
    origin: Origin
    fn: Callable[..., Any]
    operator: str
    place: str
    tunables: Mapping[str, tuple[Value, ...]]
    devices: frozenset[str]
    dtypes: frozenset[str]
    passes: frozenset[str]
    requires: Requirement | None
    supports: Callable[[Problem, Mapping[str, Value]], str | None] | None
    flops_exec: Callable[[Problem, Mapping[str, Value]], float] | None
    configuration: Callable[[Problem, Mapping[str, Value]], Mapping[str, Any]] | None
    search: Callable[[Problem, Mapping[str, Value]], Mapping[str, Sequence[Mapping[str, int]]]] | None
    deterministic: bool
    own_head_constants: bool

    @cached_property
    def parameters(self) -> frozenset[str]:
        """Names of the function's parameters."""
        return frozenset(inspect.signature(self.fn).parameters)

    @property
    def default_tunables(self) -> dict[str, Value]:
        """Each tunable's first value."""
        return {name: values[0] for name, values in self.tunables.items()}

    def runs_elsewhere(self, device: str) -> str | None:
        """Why the implementation never runs on a device, or None if it is registered for it."""
        if device in self.devices:
            return None
        return f"{self.name} does not run on {device}, only on {', '.join(sorted(self.devices))}"

    def unsupported(self, problem: Problem, tunables: Mapping[str, Value], own_axes: tuple[Axis, ...]) -> str | None:
        """Why this implementation cannot serve a problem, whatever the device, or None when it can."""
        if problem.pass_ not in self.passes:
            return f"{self.name} has no {problem.pass_} pass"
        if problem.dtype not in self.dtypes:
            return f"{self.name} does not take {problem.dtype}"
        for needed, wanted in (("initial_state", problem.initial_state), ("cu_seqlens", problem.layout != "dense")):
            if wanted and problem.pass_ != "decode" and needed not in self.parameters:
                return f"{self.name} takes no {needed}"
        for axis in (axis for axis in own_axes if not axis.drawn):
            value = problem.axis(axis.name)
            if value != axis.default and axis.name not in self.parameters:
                return f"{self.name} serves only {axis.token(axis.default)}, not {axis.token(value)}"
        if missing := self.missing():
            return missing
        return _reason(self.supports, self.title, self.place, problem, tunables)

    @property
    def title(self) -> str:
        """OPERATOR/IMPLEMENTATION."""
        return f"{self.operator}/{self.name}"

    def missing(self) -> str | None:
        """Why the library that it needs cannot be used, with the remedy, or None."""
        if self.requires is None:
            return None
        with blamed("requires", self.title, self.place):
            return self.requires.missing()

    def answering(self) -> str:
        """Which code ran in the calls of this process, as its library says; "" where it does not. PluginError unless it
        is a text."""
        if self.requires is None or self.requires.backend is None:
            return ""
        with blamed("requires.backend", self.title, self.place):
            found = self.requires.backend()
        if type(found) is not str:
            place = place_of_code(self.requires.backend, self.place)
            raise returned("requires.backend", self.title, place, found, "a text")
        return found

    def executed(self, problem: Problem, tunables: Mapping[str, Value]) -> float | None:
        """FLOPs by its own `flops_exec`, None where it has none. PluginError unless it is a number of at least 0."""
        if self.flops_exec is None:
            return None
        with blamed("flops_exec", self.title, self.place):
            flops = self.flops_exec(problem, tunables)
        if (number := _amount(flops)) is None:
            place = place_of_code(self.flops_exec, self.place)
            raise returned("flops_exec", self.title, place, flops, "a number of at least 0")
        return number

    def configured(self, problem: Problem, tunables: Mapping[str, Value]) -> dict[str, Any]:
        """What `configuration` says, {} without one. PluginError unless it is a mapping that JSON can hold."""
        if self.configuration is None:
            return {}
        with blamed("configuration", self.title, self.place):
            found = self.configuration(problem, tunables)
        try:
            if isinstance(found, Mapping) and all(isinstance(name, str) for name in found):
                return json.loads(json.dumps(dict(found), allow_nan=False))
        except (TypeError, ValueError, RecursionError):
            pass
        place = place_of_code(self.configuration, self.place)
        raise returned("configuration", self.title, place, found, "a mapping of names to what JSON can hold")

    def searched(self, problem: Problem, tunables: Mapping[str, Value]) -> dict[str, list[Mapping[str, int]]]:
        """What `search` says as lists, {} without one."""
        if self.search is None:
            return {}
        with blamed("search", self.title, self.place):
            return {key: list(configs) for key, configs in self.search(problem, tunables).items()}


@dataclass(frozen=True, eq=False)
class Operator:
    """A mathematical function on sequences, independent of any code.

    name:     the name that the field uses, in snake_case
    equation: the recurrence or formula, as text
    paper:    authors, year and arXiv number
    inputs:   (problem, generator) -> dict of tensors on the generator's device, drawn as a real model would draw them:
              q, k, v, gates; for decode one token's and `state`. The suite adds initial_state's tensors only when the
              problem asks (`initial_state` in the dict) and cu_seqlens by itself.
    oracle:   the specification: it has the operator's signature, gets float64 tensors, computes one token at a time
    cost:     (problem, tunables) -> Cost for the passes fwd, bwd and decode (fwdbwd is their sum)
    step:     decode's specification with the signature `step(q, k, v, *gates, state=...) -> o`; None where the oracle
              on one token with the state as its initial state says the same
    tags:     words with which presets select operators, such as "linear" or "quadratic"
    axes:     the operator's own axes
    dims:     dimensions of inputs that differ from the standard: name -> "B T HS K", or a tuple of such for a state of
              several tensors. Gates default to "B T HS"; names among B, N, T, H, HK, HV, HS are sliced in checks, and
              trailing dimensions may be left out. `o` and `final_state` may be named too, "B T HS V" and "N HS" else
    constants: float inputs that are never differentiated, such as a decay that follows from the number of heads
    passes:   the passes that the operator has
    stateful: whether it takes an initial state and returns a final one
    limits:   error limits by dtype that differ from the suite's
    supports: (problem) -> the reason why the operator is not defined on a problem, or None
    segmented: (problem) -> whether the oracle may be run in segments that carry a state; None: wherever it has a state
    approximates: (problem) -> the operator that this one stands for on the same q, k, v, as feature maps do for softmax
              attention, or None; the record then has how far the two oracles' outputs are apart
    couples:  of "B" and "H", over which the operator mixes, as a norm over all heads does: a check moves neither
              sequences nor heads along it
    moves:    (problem) -> dimensions of inputs by which a check moves them, where those of `dims` do not say it: the
              rows of a cache belong to one sequence in some problems, and to a pool in others
    io_bound: (problem, bytes of on-chip memory) -> bytes that any algorithm with that memory must move, where a lower
              bound is known; with its source and its constant's convention in the function's docstring
    """

    name: str
    equation: str
    paper: str
    inputs: Callable[[Problem, Any], dict[str, Any]]
    oracle: Callable[..., Any]
    cost: Callable[[Problem, Mapping[str, Value]], Cost]
    step: Callable[..., Any] | None = None
    tags: tuple[str, ...] = ()
    axes: tuple[Axis, ...] = ()
    dims: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    constants: tuple[str, ...] = ()
    passes: tuple[str, ...] = ("fwd", "bwd", "fwdbwd", "decode")
    stateful: bool = True
    limits: Mapping[str, float] = field(default_factory=dict)
    supports: Callable[[Problem], str | None] | None = None
    segmented: Callable[[Problem], bool] | None = None
    approximates: Callable[[Problem], Operator | None] | None = None
    io_bound: Callable[[Problem, float], float] | None = None
    couples: frozenset[str] = frozenset()
    moves: Callable[[Problem], Mapping[str, str | tuple[str, ...]]] | None = None
    implementations: dict[str, Implementation] = field(default_factory=dict, init=False)
    place: str = field(default="", init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "place", _place(3))
        _check_name("operator", self.name, self.place)
        where = f"{self.name} ({self.place})"
        for axis in self.axes:
            _check_values("axis", axis.name, axis.values, where)
        _check_words("passes", self.passes, where)
        if not self.passes:
            raise DiscoveryError(f"{where}: it has no passes; name at least one of {', '.join(PASSES)}")
        for pass_ in self.passes:
            if pass_ not in PASSES:
                raise unknown("pass", pass_, PASSES)

    def implementation(
        self,
        name: str,
        *,
        origin: Origin,
        devices: Iterable[str] = ("cuda", "cpu"),
        dtypes: Iterable[str] = ("bfloat16", "float16", "float32"),
        passes: Iterable[str] = SEQUENCE_PASSES,
        tunables: Mapping[str, tuple[Value, ...]] | None = None,
        requires: Requirement | None = None,
        supports: Callable[[Problem, Mapping[str, Value]], str | None] | None = None,
        flops_exec: Callable[[Problem, Mapping[str, Value]], float] | None = None,
        configuration: Callable[[Problem, Mapping[str, Value]], Mapping[str, Any]] | None = None,
        search: Callable[[Problem, Mapping[str, Value]], Mapping[str, Sequence[Mapping[str, int]]]] | None = None,
        deterministic: bool = True,
        own_head_constants: bool = False,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register the decorated function as an implementation of this operator, and return it unchanged.

        tunables:      name -> admissible values, the default first
        requires:      the library it needs; where it is missing, its cases are unsupported with the install command
        supports:      (problem, tunables) -> a reason why it cannot serve this problem, or None
        flops_exec:    (problem, tunables) -> executed FLOPs, where they differ from the operator's cost
        configuration: (problem, tunables) -> what it would choose there (regime, warps, stages): kept with the record
        search:        (problem, tunables) -> for each kernel of the pass, by the key under which its plan asks
                       `suite.tuning.choice`, the configs worth trying, its own table's first
        deterministic: whether two runs should agree bit for bit; `repeatable` of a record says whether they did
        own_head_constants: whether it makes a constant of each head by itself, such as retention's decays: a check then
                       exchanges no heads
        Raises DiscoveryError when the name is taken, naming both places.
        """
        place = _place(2)

        def register(fn: Callable[..., Any]) -> Callable[..., Any]:
            _check_name(f"{self.name}'s implementation", name, place)
            if name in self.implementations:
                first = self.implementations[name].place
                raise DiscoveryError(f"{self.name}/{name} is registered twice, at {first} and at {place}; rename one")
            where = f"{self.name}/{name} ({place})"
            for kind, given in (("devices", devices), ("dtypes", dtypes), ("passes", passes)):
                _check_words(kind, given, where)
            _check_callable(fn, where)
            made = Implementation(
                name=name,
                origin=origin,
                fn=fn,
                operator=self.name,
                place=place,
                tunables=dict(tunables or {}),
                devices=frozenset(devices),
                dtypes=frozenset(dtypes),
                passes=frozenset(passes),
                requires=requires,
                supports=supports,
                flops_exec=flops_exec,
                configuration=configuration,
                search=search,
                deterministic=deterministic,
                own_head_constants=own_head_constants,
            )
            _validate(made, where)
            self.implementations[name] = made
            return fn

        return register

    def complete(self, problem: Problem, own: Mapping[str, Value] | None = None) -> Problem:
        """The problem with every own axis set, in registry order; UsageError on an unknown axis or value."""
        given = {**dict(problem.axes), **(own or {})}
        for name in given:
            if name not in {axis.name for axis in self.axes}:
                raise unknown(f"axis of {self.name}", name, [axis.name for axis in self.axes])
        for axis in self.axes:
            value = given.get(axis.name, axis.default)
            if value not in axis.values:
                known = ", ".join(str(each) for each in axis.values)
                raise UsageError(f"{self.name} has no {axis.name} = {value!r}; it takes {known}")
        return problem.replace(axes=tuple((axis.name, given.get(axis.name, axis.default)) for axis in self.axes))

    def kwargs_of(self, problem: Problem) -> dict[str, Value]:
        """The operator's own axes that oracle and implementations get as arguments, by name."""
        return {axis.name: problem.axis(axis.name) for axis in self.axes if not axis.drawn}

    def cost_of(
        self,
        problem: Problem,
        implementation: Implementation | None = None,
        tunables: Mapping[str, Value] | None = None,
    ) -> Cost:
        """Cost of one call of the problem's pass, with an implementation's executed FLOPs where it serves it."""
        tunables = tunables or {}
        if problem.pass_ == "fwdbwd":
            parts = [self._cost(problem.replace(pass_=each), tunables) for each in ("fwd", "bwd")]
            cost = Cost(**{f.name: sum(getattr(part, f.name) for part in parts) for f in fields(Cost)})
        else:
            cost = self._cost(problem, tunables)
        # What it does not serve, it has no plan for: to ask would raise.
        made = implementation
        if made and made.flops_exec and not made.unsupported(problem, tunables, self.axes):
            flops = made.executed(problem, tunables)
            cost = cost if flops is None else cost.executing(flops)
        return cost

    def _cost(self, problem: Problem, tunables: Mapping[str, Value]) -> Cost:
        """What `cost` says; PluginError unless it is a Cost of numbers of at least 0, with bytes above 0."""
        with blamed("cost", self.name, self.place):
            cost = self.cost(problem, tunables)
        place = place_of_code(self.cost, self.place)
        if not isinstance(cost, Cost):
            raise returned("cost", self.name, place, cost, "a suite.Cost")
        found = {f.name: _amount(getattr(cost, f.name)) for f in fields(Cost)}
        for name, number in found.items():
            if number is None or (name == "bytes_compulsory" and number == 0):
                wanted = f"a Cost whose {name} is a number {'above' if name == 'bytes_compulsory' else 'of at least'} 0"
                raise returned("cost", self.name, place, cost, wanted)
        return Cost(**found)  # type: ignore[arg-type]  # none is None

    def refused(self, problem: Problem) -> str | None:
        """Why the operator is not defined on a problem, or None."""
        return _reason(self.supports, self.name, self.place, problem)

    def bound_of(self, problem: Problem, on_chip: float) -> float:
        """Bytes that any algorithm must move with that memory on chip; 0 if no bound is known."""
        if self.io_bound is None:
            return 0.0
        with blamed("io_bound", self.name, self.place):
            found = self.io_bound(problem, on_chip)
        if (number := _amount(found)) is None:
            place = place_of_code(self.io_bound, self.place)
            raise returned("io_bound", self.name, place, found, "a number of at least 0")
        return number

    def dims_of(self, name: str) -> str | tuple[str, ...]:
        """Dimensions of an input, as `dims` or the standard says."""
        return self.dims.get(name) or STANDARD_DIMS.get(name) or GATE_DIMS


def _reason(supports: Callable[..., Any] | None, owner: str, place: str, *given: Any) -> str | None:
    """What a `supports` says: a reason, or None. PluginError when it raises or says anything else."""
    if supports is None:
        return None
    with blamed("supports", owner, place):
        reason = supports(*given)
    if reason is not None and not isinstance(reason, str):
        raise returned("supports", owner, place_of_code(supports, place), reason, "a reason as text, or None")
    return reason or None


def _amount(value: Any) -> float | None:
    """A finite number of at least 0 as Python's int or float; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    try:
        number = value if type(value) is int else float(value)
        return number if math.isfinite(float(number)) and number >= 0 else None
    except OverflowError:
        return None


def _check_callable(fn: object, where: str) -> None:
    """DiscoveryError unless fn can be called, and by keywords that Python can name."""
    try:
        inspect.signature(fn)  # type: ignore[arg-type]  # that is what is asked
    except (TypeError, ValueError) as error:
        raise DiscoveryError(f"{where}: {error}; register a function of Python") from error


def _validate(made: Implementation, where: str) -> None:
    if made.origin not in ORIGINS:
        raise DiscoveryError(f"{where}: origin {made.origin!r} is none of {', '.join(ORIGINS)}")
    for kind, given, known in (
        ("device", made.devices, DEVICES),
        ("dtype", made.dtypes, tuple(known_dtypes.BYTES)),
        ("pass", made.passes, PASSES),
    ):
        if extra := set(given) - set(known):
            raise DiscoveryError(f"{where}: {kind} {sorted(extra)[0]!r} is none of {', '.join(known)}")
    for name, values in made.tunables.items():
        _check_values("tunable", name, values, where)


@dataclass(frozen=True)
class Absent:
    """A module that could not be imported because something it needs is not installed."""

    module: str
    reason: str


@dataclass
class Registry:
    """All operators that discovery found, and the modules it could not import."""

    operators: dict[str, Operator] = field(default_factory=dict)
    absent: list[Absent] = field(default_factory=list)

    def add(self, operator: Operator) -> None:
        """Add an operator; DiscoveryError naming both places when another one has its name."""
        known = self.operators.setdefault(operator.name, operator)
        if known is not operator:
            raise DiscoveryError(
                f"operator '{operator.name}' is registered twice, at {known.place} and at {operator.place}; rename one"
            )

    def operator(self, name: str) -> Operator:
        if name not in self.operators:
            raise unknown("operator", name, self.operators)
        return self.operators[name]

    def implementation(self, operator: str, name: str) -> Implementation:
        implementations = self.operator(operator).implementations
        if name not in implementations:
            raise unknown(f"implementation of {operator}", name, implementations)
        return implementations[name]
