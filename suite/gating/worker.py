"""The gate's worker: a process with one revision's operators. It measures one case at a time, in turns with the other.

Started as `python -m suite.gating.worker FD ROOT [PLUGIN...]`; answers requests on the socket FD until it closes.
Two of them, one per revision, are alive together and never measure at the same time.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.running import worker
from suite.running.messages import Channel

if TYPE_CHECKING:
    from suite.checks.calling import Call
    from suite.gating.capabilities import Served
    from suite.measuring.timed_inputs import Together
    from suite.measuring.timers import Timer

# Samples by whose wall clock a case's blocks are sized.
TRIED = 3


class Worker(worker.Worker):
    """Answers what every worker answers, and the gate's own requests."""

    def __init__(self, channel: Channel, root: Path, plugins: list[str]) -> None:
        super().__init__(channel, root, plugins)
        self._open: OpenCase | None = None

    def do_survey(self, request: dict[str, Any]) -> dict[str, Any]:
        """What this revision serves of the cases given, and what its own plan has beside them."""
        from suite.gating.capabilities import survey_request

        return survey_request(self.registry, self.root, request)

    def do_codes(self, request: dict[str, Any]) -> dict[str, Any]:
        """The hash of every implementation's code."""
        from suite.gating.capabilities import Surveyor

        return {"codes": Surveyor(self.registry, self.root, "cpu").codes()}

    def do_open(self, request: dict[str, Any]) -> dict[str, Any]:
        """Draw the inputs, check when asked to, compile, warm up. Answers with a record's status and figures."""
        from suite.gating.capabilities import served

        self._close()
        found = served(self.registry, request["case"])
        if found is None:
            return {"status": "unsupported", "reason": "this revision has no such case"}
        self._open = OpenCase(found, request["settings"])
        record = self._open.prepare()
        if record["status"] != "ok":
            self._close()
        return record

    def do_block(self, request: dict[str, Any]) -> dict[str, Any]:
        """Take a block of samples of the open case, ms, after one call that is not counted."""
        assert self._open is not None
        return self._open.block(request["samples"])

    def do_close(self, request: dict[str, Any]) -> dict[str, Any]:
        """Let go of the open case; what was checked before is checked again first, on other inputs."""
        found = self._open.recheck() if self._open and request["recheck"] else {"status": "ok", "reason": ""}
        self._close()
        return found

    def _close(self) -> None:
        if self._open:
            self._open.release()
            self._open = None


class OpenCase:
    """One case that is ready to be measured.

    settings: {device, mode, warmup_ms, seed, recheck_pick, check, time}
    """

    def __init__(self, served: Served, settings: dict[str, Any]) -> None:
        from suite.measuring.leftovers import Leftovers

        self.operator, self.implementation, self.case = served.operator, served.implementation, served.case
        self.settings = settings
        self._stack = ExitStack()
        # What one case changes for the whole process is put back before the next block, of whichever case.
        self._left = Leftovers(settings["device"])
        self._torch_device = "cpu"
        self._call: Call | None = None
        self._changes: Together | None = None
        self._timer: Timer | None = None

    def prepare(self) -> dict[str, Any]:
        """Status and reason, with the check's errors, its seconds and the memory when a check was asked for."""
        from suite.checks.checker import device_context, refusal

        tunables, device = dict(self.case.tunables), self.settings["device"]
        try:
            if reason := refusal(self.operator, self.implementation, self.case.problem, tunables, device):
                return {"status": "unsupported", "reason": reason}
            self._torch_device = self._stack.enter_context(device_context(device))
            with self._left.put_back():
                record = self._check() if self.settings["check"] else {"status": "ok", "reason": ""}
                if record["status"] == "ok" and self.settings["time"]:
                    record |= self._warm_up()
        except Exception as error:
            return self._failure(error)
        return record

    def _check(self) -> dict[str, Any]:
        from suite.checks.checker import Checker
        from suite.measuring.records import with_check

        start = time.perf_counter()
        checker = Checker(self.operator, self.case.problem, device=self._torch_device, seed=self.settings["seed"])
        check = checker.check(self.implementation, dict(self.case.tunables))
        if check.raised is not None:
            return self._failure(check.raised)
        return with_check({}, check) | {"check_s": time.perf_counter() - start}

    def _failure(self, error: Exception) -> dict[str, Any]:
        """Status and reason of what was raised; `spoiled` where this process can measure nothing any more."""
        from suite.faults import classify
        from suite.measuring.context import spoiled

        status, reason = classify(error, self.implementation)
        return {"status": status, "reason": reason, "spoiled": bool(spoiled(error, self.settings["device"]))}

    def _warm_up(self) -> dict[str, Any]:
        from statistics import median

        from suite.checks.calling import make_call
        from suite.measuring.memory import peak_rise
        from suite.measuring.preparing import ready
        from suite.measuring.timed_inputs import change_inputs
        from suite.measuring.timers import make_timer

        device = self.settings["device"]
        call = make_call(
            self.operator,
            self.implementation,
            self.case.problem,
            dict(self.case.tunables),
            seed=self.settings["seed"],
            device=self._torch_device,
        )
        call.prepare()
        call.run()
        self._synchronize()
        start = time.perf_counter()
        while (time.perf_counter() - start) * 1e3 < self.settings["warmup_ms"]:
            call.run()
            self._synchronize()
        found: dict[str, Any] = {}
        if self.settings["check"]:
            found["memory_mib"], found["memory_method"] = peak_rise(call.run, device)
        self._call, self._timer = call, make_timer(self.settings["mode"], device)
        self._changes = change_inputs([call], self.settings["seed"], self.settings["recheck_pick"])[0]
        ready(self._timer, call)
        return found | {"typical_ms": median(self._wall_ms() for _ in range(TRIED))}

    def _wall_ms(self) -> float:
        """Wall clock of one sample: the flush and the lead before it, and a host slower than the device, are in it."""
        assert self._call is not None
        assert self._timer is not None
        start = time.perf_counter()
        assert self._changes is not None
        self._timer.samples(self._call.run, 1, self._changes.one)
        return (time.perf_counter() - start) * 1e3

    def block(self, samples: int) -> dict[str, Any]:
        """`samples` in ms, or the status and reason of a failure."""
        assert self._call is not None
        assert self._timer is not None
        assert self._changes is not None
        try:
            with self._left.put_back(samples=True):
                # The other revision has had the caches: the first call finds its way back.
                self._call.run()
                self._synchronize()
                taken = self._timer.samples(self._call.run, samples, self._changes.one)
        except Exception as error:
            return self._failure(error)
        return {"status": "ok", "samples": taken, "mhz": clock_mhz(self.settings["device"])}

    def recheck(self) -> dict[str, Any]:
        """Judge what the last timed call returned."""
        from suite.measuring.timed_inputs import judge_of, recheck

        assert self._call is not None
        assert self._timer is not None
        assert self._changes is not None
        self._changes.put_back()
        try:
            judge = judge_of(self._call, self.settings["seed"], self.settings["recheck_pick"])
            with self._left.put_back():
                found = recheck(self._timer, self._call, self._changes, judge, moved=True)
        except Exception as error:
            return self._failure(error)
        if found.raised is not None:
            return self._failure(found.raised)
        return {"status": found.status, "reason": found.reason}

    def release(self) -> None:
        """Let go of tensors and device."""
        self._call = self._timer = None
        self._stack.close()

    def _synchronize(self) -> None:
        if self.settings["device"] == "cuda":
            import torch

            torch.cuda.synchronize()


def clock_mhz(device: str) -> float | None:
    """The SM clock right after a block, MHz; None where no clock can be read."""
    if device != "cuda":
        return None
    from suite.telemetry import source

    gpu = source(device)
    return gpu.read().get("sm_clock_mhz") if gpu else None


if __name__ == "__main__":
    sys.exit(worker.main(sys.argv[1:], Worker))
