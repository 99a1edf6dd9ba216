"""The inputs of timed calls, which change from one call to the next without a trace.

An answer that is kept, by the address and version of an input or by a few of its elements, must not pass for work. So
timed calls never see the inputs on which they are judged. As long as a case is timed, a token of every input in the
compared part has another value. Before each timed call the harness also changes one token of one input anywhere, and
puts it back before the next one. No version counter moves, and no address changes. The gradients that flow into a
backward pass change in the same way. Where that pass is timed alone, its inputs stay: it works on a graph of them.

The last two timed calls of a case are made alike: before the first, another token of every input changes, and before
the second all are put back. What that second call returns is what is compared, copied as it returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch

from suite.checks.calling import Call, Tensors, draw_cotangents
from suite.checks.checker import Check, Checker, copied
from suite.checks.evidence import save
from suite.checks.inputs import PACKING, Inputs, draw_inputs, fill, flat, slicer
from suite.checks.oracle import dims_of_output, slice_of
from suite.checks.outputs import wrong_form
from suite.faults import classify
from suite.measuring.timers import Timer

# Added to the seed of the inputs, for those on which cases are timed.
TIMED_SEED = 1_000_003
# A token is multiplied by a factor from 0.5 up to 1: decays stay below 1, and gates between 0 and 1.
SMALLEST_FACTOR = 0.5
# Parts besides the compared one in which tokens change: a case cannot know which of them are looked at.
PARTS = 63


@dataclass(frozen=True)
class Part:
    """A view of a tensor: one sequence and head group. dim: which dimension counts its tokens, else its last."""

    view: torch.Tensor
    dim: int


class Changing:
    """Changes one token of some tensors at a time, and puts it back.

    compared: of each tensor, the part that is compared with the oracle
    anywhere: parts of all tensors, the compared ones among others
    """

    def __init__(self, compared: Sequence[Part], anywhere: Sequence[Part], seed: int) -> None:
        self._compared = [part for part in compared if part.view.numel()]
        self._anywhere = [part for part in anywhere if part.view.numel()]
        self._draw = Random(seed)
        # Tokens with the values that they had, in the order in which they were changed.
        self._held: list[tuple[torch.Tensor, torch.Tensor]] = []

    def one(self) -> None:
        """Change a token somewhere, instead of the one that was changed before it; also one of each compared part."""
        if not self._held:
            self._change_compared()
        self._put_back_to(len(self._compared))
        if self._anywhere:
            self._change(self._draw.choice(self._anywhere), self._draw.uniform(SMALLEST_FACTOR, 1.0))

    def all(self) -> None:
        """Put back what is changed, and change another token of each compared part."""
        self.put_back()
        self._change_compared()

    def put_back(self) -> None:
        """Have all tensors as they were given."""
        self._put_back_to(0)

    def _put_back_to(self, count: int) -> None:
        # The last change first: it may be of a token that was changed already.
        while len(self._held) > count:
            token, values = self._held.pop()
            token.copy_(values)

    def _change_compared(self) -> None:
        place = self._draw.random()
        for part in self._compared:
            self._change(part, SMALLEST_FACTOR, place)

    def _change(self, part: Part, factor: float, place: float | None = None) -> None:
        at = int((self._draw.random() if place is None else place) * part.view.shape[part.dim])
        token = part.view.select(part.dim, at)
        self._held.append((token, token.clone()))
        token.mul_(factor)


class Together:
    """Several Changing as one: of inputs that several calls share, and of one call's own cotangents."""

    def __init__(self, *parts: Changing) -> None:
        self._parts = parts

    def one(self) -> None:
        for each in self._parts:
            each.one()

    def all(self) -> None:
        for each in self._parts:
            each.all()

    def put_back(self) -> None:
        for each in self._parts:
            each.put_back()


def change_inputs(calls: Sequence[Call], seed: int, pick: int) -> list[Together]:
    """Give inputs and cotangents of calls of one problem the values on which they are timed; what changes them further.

    An answer that was kept from a warm-up is wrong from now on. Graphs that were built are dropped.
    seed, pick: of the case's settings
    """
    first = calls[0]
    device = str(_device(first))
    values = draw_inputs(first.operator, first.problem, seed + TIMED_SEED, device)
    made: dict[int, Changing] = {}
    for call in calls:
        call.release()
        call.seed = seed + TIMED_SEED
        fill(call.cotangents or {}, draw_cotangents(call.cotangents or {}, call.seed))
        if id(call.inputs) not in made:
            fill(call.inputs, values)
            made[id(call.inputs)] = _changing(call, flat(call.inputs), pick)
    return [_together(call, made[id(call.inputs)], pick) for call in calls]


def _together(call: Call, of_inputs: Changing, pick: int) -> Together:
    if not call.problem.differentiates:
        return Together(of_inputs)
    of_cotangents = _changing(call, call.cotangents or {}, pick)
    return Together(of_cotangents) if call.problem.pass_ == "bwd" else Together(of_inputs, of_cotangents)


def judge_of(call: Call, seed: int, pick: int) -> Checker:
    """What checks calls on timed inputs, with the oracle run once."""
    return Checker(
        call.operator, call.problem, device=str(_device(call)), seed=seed + TIMED_SEED, pick=pick, whole=True
    )


def _device(call: Call) -> torch.device:
    return next(iter(flat(call.inputs).values())).device


def _changing(call: Call, tensors: Tensors, pick: int) -> Changing:
    """What changes tensors of a call: its inputs, but for the state that a step changes itself, or its cotangents."""
    stepped = "state" if call.problem.pass_ == "decode" else ""
    free = {
        name: x
        for name, x in tensors.items()
        if name not in PACKING and x.is_floating_point() and name.partition("[")[0] != stepped
    }
    pick_of = Random(pick)
    picks = [pick, *(pick_of.randrange(2**31) for _ in range(PARTS))]
    parts = [[_part(call, name, x, each) for name, x in free.items()] for each in picks]
    return Changing(parts[0], [part for each in parts for part in each], pick)


def _part(call: Call, name: str, x: torch.Tensor, pick: int) -> Part:
    dims = dims_of_output(call.operator, name).split()
    cut = slicer(call.problem, *slice_of(call.operator, call.problem, call.inputs, pick))
    view = cut(x.data, " ".join(dims)) if x.ndim else x.data[None]
    return Part(view, dims.index("T") if "T" in dims[: x.ndim] else view.ndim - 1)


def recheck(
    timer: Timer, call: Call, changes: Together, judge: Checker, moved: bool, evidence: Path | None = None
) -> Check:
    """Make two more timed calls, and judge what the second returned.

    judge: has the inputs on which the call was timed
    moved: whether to call it once more with its sequences and heads in other places
    evidence: a file for what another process is to judge
    """
    try:
        wrong = judge.changed(call)
        last = _Last({}, wrong) if wrong else _last_call(timer, call, changes, judge.inputs)
        if wrong := last.wrong or judge.changed(call):
            fill(call.inputs, judge.inputs)
            return Check("incorrect", f"while it is timed, {wrong}")
    except Exception as error:
        return Check(*classify(error, call.implementation), raised=error)
    found = judge.judge(call, last.outputs)
    # The graph of a backward pass may belong to another stream.
    call.release()
    if moved and found.ok:
        judge.judge_moved(found, call, last.outputs)
    if evidence is not None and found.ok:
        save(evidence, *judge.evidence(last.outputs))
    if found.status == "incorrect":
        found.reason = f"in its last timed call: {found.reason}"
    return found


@dataclass
class _Last:
    """What the last timed call of a case returned, copied as it returned; or what is wrong with its form."""

    outputs: Tensors
    wrong: str = ""


def _last_call(timer: Timer, call: Call, changes: Together, values: Inputs) -> _Last:
    """Two more timed calls: the second is made on `values`, the first on other tokens."""
    found = _Last({})
    turns = iter((changes.all, lambda: _restored(changes, call, values)))
    timer.samples(call.run, 2, before=lambda: next(turns)(), after=lambda result: _keep(found, call, result))
    if not found.wrong:
        found.outputs |= copied(call.built) if call.problem.pass_ == "bwd" else {}
    return found


def _restored(changes: Together, call: Call, values: Inputs) -> None:
    changes.put_back()
    if call.problem.pass_ == "decode":
        fill(call.inputs, values)


def _keep(found: _Last, call: Call, result: Tensors) -> None:
    found.outputs.clear()
    found.wrong = found.wrong or wrong_form(call.problem, result, _device(call))
    if not found.wrong:
        found.outputs |= copied(result)
        # While the result is alive: a step that changes its state when its result is freed has not changed it.
        found.outputs |= copied(flat({"state": call.inputs["state"]})) if call.problem.pass_ == "decode" else {}
