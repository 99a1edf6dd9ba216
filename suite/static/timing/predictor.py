"""Predicting the launches of one call, in their order, as they are captured."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from suite.static.binary import listing
from suite.static.model import Fork, Launch, Prediction
from suite.static.timing.constants import Bank, bank
from suite.static.timing.explaining import explain
from suite.static.timing.hints import hints_of
from suite.static.timing.launches import Kernel, predict
from suite.static.timing.machines import machine_for
from suite.static.timing.residents import Residents
from suite.static.timing.sass import decode
from suite.targets import Target

# Predictions of the last launches: cases of one worker differ in one of their launches, where configs are chosen.
MOST = 256
_PREDICTED: dict[tuple[object, ...], tuple[Prediction, Fork | None]] = {}


class CallPredictor:
    """Predicts launches on one GPU; it keeps in mind what the call has touched so far."""

    def __init__(self, target: Target) -> None:
        self._machine = machine_for(target)
        self._arch = target.arch
        self._residents = Residents(self._machine.l2_bytes if self._machine else 0)
        self._seen = 0

    def predict(
        self,
        launch: Launch,
        kernel: Any,
        arguments: Mapping[str, Any],
        touched: Mapping[int, int],
        before: Sequence[Mapping[int, int]],
        lines: Callable[[], Mapping[int, str]] = dict,
        explains: bool = False,
        contents: Mapping[str, bytes] | None = None,
        forks: bool = False,
    ) -> Launch:
        """The launch with its predicted time; without one on a GPU that has no machine table.

        kernel:    as Triton compiled it
        arguments: those of the launch, by name
        touched:   bytes that the launch touches, by the number of their storage
        before:    the same of each launch and eager operation before it
        lines:     what gives its source lines by address
        explains:  whether the time is to be explained
        contents:  what arguments hold in memory, by name, where that is known
        forks:     whether to find the ways between which data decide
        """
        if self._machine is None:
            return launch
        for each in before[self._seen :]:
            self._residents.touch(each)
        self._seen = max(self._seen, len(before))
        if (blocks := getattr(kernel.metadata, "num_ctas", 1)) > 1:
            reason = f"blocks in clusters are not followed; launch it with num_ctas=1, not {blocks}"
            return replace(launch, predicted=Prediction(reason=reason))
        try:
            constants = bank(
                self._arch, kernel.asm["ptx"], kernel.src.signature, arguments, launch.grid, kernel.metadata.num_warps
            )
        except ValueError as error:
            return replace(launch, predicted=Prediction(reason=str(error)))
        missing = self._residents.missing(touched)
        contents = contents or {}
        key = *self._key(launch, kernel, constants, missing), tuple(sorted(contents.items())), forks
        if not explains and key in _PREDICTED:
            found, fork = _PREDICTED[key] = _PREDICTED.pop(key)
            return replace(launch, predicted=found, fork=fork)
        code = decode(listing(kernel.asm["cubin"]))
        hints = hints_of(code, kernel.asm.get("ttgir"), launch.dots)
        known = Kernel(code, constants, hints, constants.memory(contents))
        lines = cache(lines)
        predicted, fork = predict(launch, known, self._machine, missing, lines if forks else None)
        explained = None
        if explains and predicted.ms is not None:
            explained = explain(launch, known, self._machine, missing, lines())
        _PREDICTED[key] = predicted, fork
        if len(_PREDICTED) > MOST:
            del _PREDICTED[next(iter(_PREDICTED))]
        return replace(launch, predicted=predicted, explained=explained, fork=fork)

    def _key(self, launch: Launch, kernel: Any, constants: Bank, missing: int) -> tuple[object, ...]:
        """All that a prediction depends on; machine tables are compared by their text."""
        binary = hashlib.sha256(kernel.asm["cubin"]).digest()
        content = tuple(sorted(constants.data.items()))
        about = (launch.grid, launch.warps, launch.residency, launch.dots, self._arch, self._machine)
        return binary, content, repr(about), missing
