"""The plan: problems in the order in which they are measured, each with the cases that are measured together.

Problems of one shape are adjacent whatever their operator, and shapes go from short to long: a sweep that a budget cuts
off has compared every operator up to some length.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from suite.errors import UsageError, unknown
from suite.presets import Preset, Sweep
from suite.problem import PASSES, STANDARD, Case, Problem, Value
from suite.registry import ORIGINS, Implementation, Operator, Registry

SMALLEST_CHUNK = 16
# Dtypes in the order in which `check` takes them: what models run comes first.
PROOF = ("bfloat16", "float16", "float32", "float64")


@dataclass(frozen=True)
class Selection:
    """What flags say about a preset: which operators and implementations, and axes that replace the preset's.

    operators, implementations: names; empty means all that the preset selects
    skip:                       OPERATOR, OPERATOR/IMPLEMENTATION or IMPLEMENTATION
    values, axes, tunables:     as in Sweep; each replaces the same axis of every sweep
    shapes:                     axes that vary together, instead of the sweeps' own shapes and values of those axes;
                                head dims alone go with the sweeps' own shapes
    origins:                    ours, baseline, peer; empty means all
    """

    operators: tuple[str, ...] = ()
    implementations: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    values: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    axes: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    tunables: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    shapes: tuple[Mapping[str, Value], ...] = ()
    origins: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    """One problem and its cases: the unit of scheduling."""

    operator: str
    problem: Problem
    cases: tuple[Case, ...]

    @property
    def problem_id(self) -> str:
        return self.cases[0].problem_id


def make_plan(registry: Registry, preset: Preset, selection: Selection) -> list[Group]:
    """All groups of a preset under a selection, ordered. UsageError on unknown names or an empty plan."""
    operators = _operators(registry, preset, selection)
    _check_implementations(operators, selection)
    sweeps = [_overridden(sweep, selection) for sweep in preset.sweeps]
    _check_names(operators, selection)
    for sweep in preset.sweeps:
        # A preset's axes are those of the operators that it holds, of which flags may name others.
        _check_names(list(registry.operators.values()), sweep)
    groups: dict[str, Group] = {}
    for operator in operators:
        for sweep in _sweeps_of(operator, sweeps, named=bool(selection.operators), preset=preset.name):
            for problem in _problems(operator, sweep):
                cases = tuple(_cases(operator, problem, sweep, preset.skip, selection))
                if cases:
                    groups.setdefault(cases[0].problem_id, Group(operator.name, problem, cases))
    if not groups:
        for name in selection.implementations:
            owner, slash, _ = name.partition("/")
            if slash and owner not in {each.name for each in operators}:
                raise UsageError(
                    f"--impl {name} is not an implementation of the operators that --op or the preset selects"
                )
        tags = f" (operators tagged {', '.join(preset.tags)})" if preset.tags else ""
        raise UsageError(
            f"nothing to do: preset {preset.name}{tags} and the flags have no case in common; see `subquad list`"
        )
    return sorted(groups.values(), key=_order)


def shuffled(groups: Sequence[Group], seed: int) -> list[Group]:
    """The plan with problems of one length in random order, and the cases within each: the same for one seed.

    Lengths stay in order, so that a sweep that is cut off has compared every operator up to some length.
    """
    draw = random.Random(seed)
    mixed = [replace(group, cases=tuple(draw.sample(group.cases, len(group.cases)))) for group in groups]
    draw.shuffle(mixed)
    return sorted(mixed, key=lambda group: group.problem.T)


def by_proof(groups: Sequence[Group]) -> list[Group]:
    """The plan of a check: problems that prove most first, so that a budget or Ctrl-C cuts off those that prove least.

    bf16 before the other dtypes, packed sequences before dense ones, long before short, and a single token last: at
    T = 1 there is no second chunk, no state that is carried on, and no mask that matters.
    """

    def rank(group: Group) -> tuple[bool, int, bool, int]:
        problem = group.problem
        return problem.T == 1, PROOF.index(problem.dtype), problem.cu_seqlens is None, -problem.T

    return sorted(groups, key=rank)


def _operators(registry: Registry, preset: Preset, selection: Selection) -> list[Operator]:
    if selection.operators:
        return [registry.operator(name) for name in selection.operators]
    if preset.operators:
        return [registry.operator(name) for name in preset.operators]
    return [op for op in registry.operators.values() if not preset.tags or set(preset.tags) & set(op.tags)]


def _sweeps_of(operator: Operator, sweeps: Sequence[Sweep], named: bool, preset: str) -> list[Sweep]:
    """The sweeps that an operator is put through: those that are for all or for one of its tags.

    An operator that is named and that no sweep is for goes through all of them: a preset's tags say what it measures
    unasked. UsageError when a named operator has none of the passes that are left.
    """
    found = [sweep for sweep in sweeps if not sweep.tags or set(sweep.tags) & set(operator.tags)]
    found = list(sweeps) if named and not found else found
    swept = {str(pass_) for sweep in found for pass_ in _passes(sweep)}
    if named and not swept & set(operator.passes):
        raise UsageError(
            f"{operator.name} has no pass {', '.join(sorted(swept))}, as preset {preset} and the flags ask, only "
            f"{', '.join(operator.passes)}; choose one with --pass, or another preset"
        )
    return found


def _passes(sweep: Sweep) -> Iterable[Value]:
    """The passes of a sweep, of its shapes too."""
    for shape in sweep.shapes:
        yield from (shape["pass"],) if "pass" in shape else sweep.values.get("pass", (STANDARD["pass"].default,))


def _check_implementations(operators: Sequence[Operator], selection: Selection) -> None:
    known = {name for op in operators for name in op.implementations}
    for name in selection.implementations:
        if name.rpartition("/")[2] not in known:
            raise unknown("implementation", name, known)
    for name in selection.origins:
        if name not in ORIGINS:
            raise unknown("origin", name, ORIGINS)
    for name in selection.skip:
        if name.rpartition("/")[2] not in known | {op.name for op in operators}:
            raise unknown("implementation or operator to skip", name, known)


def _check_names(operators: Sequence[Operator], asked: Sweep | Selection) -> None:
    """UsageError where no operator has an own axis or a tunable that is asked for."""
    axes = {axis.name for op in operators for axis in op.axes}
    tunables = {name for op in operators for made in op.implementations.values() for name in made.tunables}
    for kind, given, known in (("own axis", asked.axes, axes), ("tunable", asked.tunables, tunables)):
        for name in given:
            if name not in known and operators:
                raise unknown(kind, name, known)
    for chunk in asked.tunables.get("chunk", ()):
        _check_chunk(chunk)


def _check_chunk(chunk: Value) -> None:
    if chunk == "all":
        return
    if not isinstance(chunk, int) or chunk < SMALLEST_CHUNK or chunk & (chunk - 1):
        raise UsageError(f"chunk must be a power of two >= {SMALLEST_CHUNK}, got {chunk}; try 32, 64 or 128")


def _overridden(sweep: Sweep, selection: Selection) -> Sweep:
    given = {axis for shape in selection.shapes for axis in shape} | set(selection.values)
    # A flag for K means V too, as in a preset, unless V has a flag of its own.
    dropped = given | ({"V"} if "K" in given else set())
    shapes = tuple({axis: v for axis, v in shape.items() if axis not in dropped} for shape in sweep.shapes)
    if selection.shapes:
        # Head dims alone leave the sweep's other axes that vary together as they are.
        alone = all(set(shape) <= {"K", "V"} for shape in selection.shapes)
        shapes = tuple({**rest, **shape} for rest in (shapes if alone else ({},)) for shape in selection.shapes)
    distinct = [shape for i, shape in enumerate(shapes) if shape not in shapes[:i]]
    kept = {axis: v for axis, v in sweep.values.items() if axis not in dropped}
    return replace(
        sweep,
        values=kept | dict(selection.values),
        shapes=tuple(distinct),
        axes={**sweep.axes, **selection.axes},
        tunables={**sweep.tunables, **selection.tunables},
    )


def _problems(operator: Operator, sweep: Sweep) -> Iterator[Problem]:
    own = {axis.name: sweep.axes[axis.name] for axis in operator.axes if axis.name in sweep.axes}
    for shape in sweep.shapes:
        varied = {name: sweep.values.get(name, (axis.default,)) for name, axis in STANDARD.items() if name not in shape}
        for values in itertools.product(*varied.values()):
            columns = {**shape, **dict(zip(varied, values, strict=True))}
            for chosen in itertools.product(*own.values()):
                problem = Problem.from_columns(columns)
                yield operator.complete(problem, dict(zip(own, chosen, strict=True)))


def _cases(
    operator: Operator, problem: Problem, sweep: Sweep, skip: tuple[str, ...], selection: Selection
) -> Iterator[Case]:
    if problem.pass_ not in operator.passes:
        return
    only, skipped = set(selection.implementations), {*skip, *selection.skip}
    for made in operator.implementations.values():
        names = {made.name, f"{operator.name}/{made.name}"}
        if (only and not names & only) or (names | {operator.name}) & skipped:
            continue
        if selection.origins and made.origin not in selection.origins:
            continue
        # A step beside sequence functions is another way of working, not a case that is missing.
        if problem.pass_ not in made.passes:
            continue
        for tunables in _tunables(made, sweep):
            yield Case(operator.name, made.name, problem, tunables, operator.axes)


def _tunables(made: Implementation, sweep: Sweep) -> Iterator[tuple[tuple[str, Value], ...]]:
    chosen = {}
    for name, admissible in made.tunables.items():
        given = sweep.tunables.get(name, (admissible[0],))
        chosen[name] = admissible if given == ("all",) else given
    for values in itertools.product(*chosen.values()):
        yield tuple(zip(chosen, values, strict=True))


def _order(group: Group) -> tuple[object, ...]:
    p = group.problem
    work = p.B if p.pass_ == "decode" else p.B * p.T
    return (p.T, work * p.HS, p.K, p.V, p.dtype, PASSES.index(p.pass_), p.layout, p.initial_state, group.operator)
