"""The inputs of timed calls, which change from one call to the next without a trace.

An answer that is kept, by the address and version of an input or by a few of its elements, must not pass for work. So
before each timed call the harness writes one token of one input, in the part that is compared with the oracle: no
version counter moves, and no address changes. It puts the token back before the next one. A backward pass works on a
graph of its inputs, so a gradient that flows into it changes instead.

The last two timed calls of a case are made alike: before the first, a token of every input changes, and before the
second all are put back. What that second call returns is what is compared, copied as it returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch

from suite.checks.calling import Call, Tensors
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


class Changing:
    """Changes one token of some tensors at a time, and puts it back.

    tokens: views of the compared part, each with the dimension that counts its tokens
    """

    def __init__(self, tokens: list[tuple[torch.Tensor, int]], seed: int) -> None:
        self._tokens = [(view, dim) for view, dim in tokens if view.numel()]
        self._draw = Random(seed)
        self._count = 0
        self._held: list[tuple[torch.Tensor, torch.Tensor]] = []

    def one(self) -> None:
        """Put back what is changed, and change a token of the next tensor."""
        self.put_back()
        if self._tokens:
            self._count += 1
            self._change(*self._tokens[self._count % len(self._tokens)], self._draw.uniform(SMALLEST_FACTOR, 1.0))

    def all(self) -> None:
        """Put back what is changed, and change a token of every tensor: the same one, where they have as many."""
        self.put_back()
        place = self._draw.random()
        for view, dim in self._tokens:
            self._change(view, dim, SMALLEST_FACTOR, place)

    def put_back(self) -> None:
        """Have all tensors as they were given."""
        for token, values in self._held:
            token.copy_(values)
        self._held.clear()

    def _change(self, view: torch.Tensor, dim: int, factor: float, place: float | None = None) -> None:
        at = int((self._draw.random() if place is None else place) * view.shape[dim])
        token = view.select(dim, at)
        self._held.append((token, token.clone()))
        token.mul_(factor)


def change_inputs(calls: Sequence[Call], seed: int, pick: int) -> list[Changing]:
    """Give the inputs of calls of one problem the values on which they are timed; what changes each of them further.

    An answer that was kept from a warm-up is wrong from now on. Graphs that were built are dropped.
    seed, pick: of the case's settings
    """
    first = calls[0]
    device = str(_device(first))
    values = draw_inputs(first.operator, first.problem, seed + TIMED_SEED, device)
    made: dict[int, Changing] = {}
    for call in calls:
        call.release()
        if id(call.inputs) not in made:
            fill(call.inputs, values)
            made[id(call.inputs)] = _of_inputs(call, pick)
    return [_of_cotangents(call, pick) if call.problem.pass_ == "bwd" else made[id(call.inputs)] for call in calls]


def judge_of(call: Call, seed: int, pick: int) -> Checker:
    """What checks calls on timed inputs, with the oracle run once."""
    return Checker(
        call.operator, call.problem, device=str(_device(call)), seed=seed + TIMED_SEED, pick=pick, whole=True
    )


def _device(call: Call) -> torch.device:
    return next(iter(flat(call.inputs).values())).device


def _of_inputs(call: Call, pick: int) -> Changing:
    cut = slicer(call.problem, *slice_of(call.operator, call.problem, call.inputs, pick))
    tokens = []
    for name, x in flat(call.inputs).items():
        dims = [] if name in PACKING else dims_of_output(call.operator, name).split()
        # A state is not a token's: a step changes it, and a sequence begins with it.
        if "T" in dims[: x.ndim] and x.is_floating_point() and "state" not in name:
            tokens.append((cut(x.data, " ".join(dims)), dims.index("T")))
    return Changing(tokens, pick)


def _of_cotangents(call: Call, pick: int) -> Changing:
    """What changes the gradient of `o` that flows into a backward pass."""
    assert call.cotangents is not None
    cut = slicer(call.problem, *slice_of(call.operator, call.problem, call.inputs, pick))
    dims = dims_of_output(call.operator, "o")
    return Changing([(cut(call.cotangents["o"].data, dims), dims.split().index("T"))], pick)


def recheck(
    timer: Timer, call: Call, changes: Changing, judge: Checker, moved: bool, evidence: Path | None = None
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


def _last_call(timer: Timer, call: Call, changes: Changing, values: Inputs) -> _Last:
    """Two more timed calls: the second is made on `values`, the first on other tokens."""
    found = _Last({})
    turns = iter((changes.all, lambda: _restored(changes, call, values)))
    timer.samples(call.run, 2, before=lambda: next(turns)(), after=lambda result: _keep(found, call, result))
    if not found.wrong:
        found.outputs |= copied(call.built) if call.problem.pass_ == "bwd" else {}
        found.outputs |= copied(flat({"state": call.inputs["state"]})) if call.problem.pass_ == "decode" else {}
    return found


def _restored(changes: Changing, call: Call, values: Inputs) -> None:
    changes.put_back()
    if call.problem.pass_ == "decode":
        fill(call.inputs, values)


def _keep(found: _Last, call: Call, result: Tensors) -> None:
    found.outputs.clear()
    found.wrong = found.wrong or wrong_form(call.problem, result, _device(call))
    if not found.wrong:
        found.outputs |= copied(result)
