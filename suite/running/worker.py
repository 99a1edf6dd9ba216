"""The worker: a process that loads operators and measures problems, so that a crash costs one record.

Started as `python -m suite.running.worker FD ROOT [PLUGIN...]`; answers requests on the socket FD until it closes.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.errors import PluginError, StoreError, SubquadError
from suite.running.answers import TIMED
from suite.running.messages import Channel, Disconnected, open_channel
from suite.store.encoding import plain

if TYPE_CHECKING:
    from suite.measuring.case import ProblemRun

# Part of the free memory that a CPU worker may take before an allocation fails, instead of the kernel killing it.
MEMORY_SHARE = 0.85


class Worker:
    """Answers requests until the channel closes."""

    def __init__(self, channel: Channel, root: Path, plugins: list[str]) -> None:
        from suite.discovery import discover

        self.channel = channel
        self.registry = discover(root, plugins)
        self.root = root

    def serve(self) -> None:
        from suite.measuring.context import Spoiled

        while (request := self.channel.receive()) is not None:
            try:
                answer = getattr(self, f"do_{request['do']}")(request)
            except SubquadError as error:
                self.channel.send({"event": "failed", "error": str(error), "kind": "usage"})
            except Spoiled as error:
                self.channel.send({"event": "spoiled", "reason": str(error)})
                return
            else:
                self.channel.send({"event": "done", **(answer or {})})

    def do_describe(self, request: dict[str, Any]) -> dict[str, Any]:
        from suite.hardware.environment import answered

        return answered(request["device"], self.root, self.registry.absent)

    def do_target(self, request: dict[str, Any]) -> dict[str, Any]:
        from suite.targets import target

        return {"target": vars(target())}

    def do_ceilings(self, request: dict[str, Any]) -> dict[str, Any]:
        from suite.ceilings import ceilings

        return {"ceilings": ceilings(request["device"], request["identity"], refresh=request["refresh"])}

    def do_measure(self, request: dict[str, Any]) -> None:
        self._whole(self._problem(request, "timed").measure)

    def do_check(self, request: dict[str, Any]) -> None:
        self._whole(self._problem(request, "check").check)

    def _whole(self, run: Callable[[], None]) -> None:
        """Run a problem. What somebody's code raises where nothing may raise is told as the case's at hand."""
        from suite.faults import classify
        from suite.measuring.context import Spoiled

        try:
            run()
        except (Disconnected, Spoiled):
            raise
        except Exception as error:
            if isinstance(error, SubquadError) and not isinstance(error, PluginError):
                raise
            status, reason = classify(error)
            self.channel.send({"event": "raised", "status": status, "reason": reason})
            raise Disconnected("what it raised was told") from error

    def _problem(self, request: dict[str, Any], kind: str) -> ProblemRun:
        from suite.measuring.case import ProblemRun, Settings
        from suite.problem import Case, Problem

        operator = self.registry.operator(request["operator"])
        problem = operator.complete(Problem.from_columns(request["problem"]), request["axes"])
        cases = [
            Case(operator.name, each["implementation"], problem, tuple(each["tunables"].items()), operator.axes)
            for each in request["cases"]
        ]
        left = request.pop("left_s", None)
        deadline = None if left is None else time.monotonic() + left
        settings = Settings(**{**request["settings"], "modes": tuple(request["settings"]["modes"])}, deadline=deadline)
        modes = [tuple(each["modes"]) for each in request["cases"]]
        return ProblemRun(operator, problem, cases, settings, kind, self._emit, self._begin_case, self._raised, modes)

    def _emit(self, record: dict[str, Any]) -> None:
        try:
            self.channel.send({"event": "record", "record": plain(record, "record")})
        except (StoreError, ValueError, RecursionError) as error:
            told = {"mode": record["mode"], "status": "error", "reason": f"its record cannot be stored: {error}"}
            self.channel.send({"event": "record", "record": told})

    def _raised(self, ceilings: Mapping[str, Any]) -> None:
        self.channel.send({"event": "ceilings", "ceilings": dict(ceilings)})

    def _begin(self, index: int, phase: str) -> None:
        self.channel.send({"event": "begin", "case": index, "phase": phase})

    def _begin_case(self, index: int, phase: str) -> None:
        """Tell what begins. Samples wait until the runner has looked at its own clock."""
        self._begin(index, phase)
        if phase == TIMED:
            self.channel.receive()


def limit_memory() -> None:
    """Let an allocation that is too large fail as an error: the case is `oom`, and the sweep goes on."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (int(free * MEMORY_SHARE), hard))


def main(words: list[str], kind: type[Worker] = Worker) -> int:
    """Serve on the given socket; a failure to load the operators is told to the runner."""
    channel = open_channel(words[0])
    # A crash says where it came from.
    faulthandler.enable()
    device = os.environ.get("SUBQUAD_WORKER_DEVICE", "cpu")
    if device != "cuda":
        limit_memory()
    try:
        import torch

        from suite.hardware.environment import physical_cores
        from suite.measuring.case import ProblemRun  # noqa: F401  loaded now: no case's first sample pays for it

        torch.set_num_threads(physical_cores())
        worker = kind(channel, Path(words[1]), words[2:])
    except SubquadError as error:
        channel.send({"event": "failed", "error": str(error), "kind": "usage"})
        return 1
    except Exception as error:
        channel.send({"event": "failed", "error": f"{type(error).__name__}: {error}", "kind": "load"})
        return 1
    # What is loaded by now stays: to collect garbage, or to look for tensors, is then a matter of what is new.
    gc.freeze()
    channel.send({"event": "ready"})
    try:
        worker.serve()
    except Disconnected:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
