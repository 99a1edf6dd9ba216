"""The worker: a process that takes static profiles, counts issued traffic in the interpreter, or compiles for a run.

Started as `python -m suite.static.worker FD KIND TARGET ROOT [PLUGIN...]`, KIND being `static`, `issued` or `ahead` and
TARGET the device as JSON; answers requests on the socket FD until it closes. Peers decide much when they are imported,
so everything is imported inside `pretending`, and a process has one target.
"""

from __future__ import annotations

import json
import sys
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.errors import CacheError, PluginError, SubquadError
from suite.interpreting import install
from suite.interpreting.host_code import interpreted_on
from suite.running.messages import Disconnected, open_channel
from suite.static.model import Issued, Profile
from suite.static.stub_driver import pretending
from suite.static.tasks import has, problem_of
from suite.targets import Target

if TYPE_CHECKING:
    from suite.problem import Problem, Value
    from suite.registry import Implementation, Operator
    from suite.static.compiling import Compiled


class Worker:
    """Answers `profile`, `issued`, `ahead` and `names`."""

    def __init__(self, target: Target, root: Path, plugins: list[str]) -> None:
        from suite.discovery import discover

        self.target = target
        self.registry = discover(root, plugins)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["do"] == "names":
            return {"names": [f"{o.name}/{i}" for o in self.registry.operators.values() for i in o.implementations]}
        if not has(self.registry, request):
            return {"missing": True}
        operator = self.registry.operator(request["operator"])
        implementation = operator.implementations[request["implementation"]]
        problem, tunables = problem_of(request)
        problem = operator.complete(problem)
        if request["do"] == "ahead":
            return {"ahead": self._ahead(operator, implementation, problem, tunables, request).to_dict()}
        if request["do"] == "issued":
            from suite.static.global_traffic import issued

            try:
                counted = issued(
                    operator, implementation, problem, tunables, self.target, request["T"], request["forks"]
                )
                return {"issued": vars(counted)}
            except PluginError as error:
                return {"issued": vars(Issued("", reason=str(error)))}
        from suite.static.profiling import profile
        from suite.tuning import forcing

        try:
            with forcing(request["forced"]):
                taken = profile(
                    operator,
                    implementation,
                    problem,
                    tunables,
                    self.target.arch,
                    gpu=self.target.name,
                    all_configs=request["all_configs"],
                    counted=request["issued"],
                    explained=request["explained"],
                )
        except PluginError as error:
            taken = Profile(request["case_id"], self.target.arch, "error", str(error))
        return {"profile": taken.to_dict()}

    def _ahead(
        self,
        operator: Operator,
        implementation: Implementation,
        problem: Problem,
        tunables: dict[str, Value],
        request: dict[str, Any],
    ) -> Compiled:
        from suite.static.compiling import Compiled, compile_case
        from suite.tuning import forcing

        try:
            with forcing(request["forced"]):
                return compile_case(
                    operator,
                    implementation,
                    problem,
                    tunables,
                    self.target,
                    request["calls"],
                    all_configs=request["all_configs"],
                    part=request["part"],
                    parts=request["parts"],
                )
        except PluginError as error:
            return Compiled(status="error", reason=str(error))


def answer(worker: Worker, request: dict[str, Any]) -> dict[str, Any]:
    """The worker's answer; that the disk refuses is told to the other end, as it is no fault of a kernel."""
    try:
        return worker.answer(request)
    except CacheError as error:
        return {"event": "failed", "error": str(error), "kind": "usage"}


def _answering(kind: str, target: Target) -> AbstractContextManager[Target]:
    if kind == "issued":
        install()
        return interpreted_on(target)
    return pretending(target, stock=kind == "ahead")


def main(words: list[str]) -> int:
    """Serve on the given socket; a failure to load the operators is told to the other end."""
    channel = open_channel(words[0])
    kind, described, root, *plugins = words[1:]
    target = Target(**json.loads(described))
    with ExitStack() as stack:
        try:
            stack.enter_context(_answering(kind, target))
            worker = Worker(target, Path(root), plugins)
        except SubquadError as error:
            channel.send({"event": "failed", "error": str(error), "kind": "usage"})
            return 1
        channel.send({"event": "ready"})
        try:
            while (request := channel.receive()) is not None:
                channel.send(answer(worker, request))
        except Disconnected:
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
