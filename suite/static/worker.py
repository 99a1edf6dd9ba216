"""The worker: a process that takes static profiles of one architecture, or counts issued traffic in the interpreter.

Started as `python -m suite.static.worker FD KIND ARCH GPU ROOT [PLUGIN...]`, KIND being `static` or `issued`; answers
requests on the socket FD until it closes. Peers decide much when they are imported, so everything is imported inside
`pretending`, and a process has one architecture.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from suite.errors import CacheError, PluginError, SubquadError
from suite.running.messages import Disconnected, open_channel
from suite.static.model import Issued, Profile
from suite.static.stub_driver import answering, pretending, target_of
from suite.static.tasks import has, problem_of


class Worker:
    """Answers `profile`, `issued` and `names`."""

    def __init__(self, arch: str, gpu: str, root: Path, plugins: list[str]) -> None:
        from suite.discovery import discover

        self.target = target_of(arch, gpu)
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
        if request["do"] == "issued":
            from suite.static.global_traffic import issued

            try:
                return {"issued": vars(issued(operator, implementation, problem, tunables, self.target, request["T"]))}
            except PluginError as error:
                return {"issued": vars(Issued("", reason=str(error)))}
        from suite.static.profiling import profile

        try:
            taken = profile(
                operator,
                implementation,
                problem,
                tunables,
                self.target.arch,
                gpu=self.target.name,
                all_configs=request["all_configs"],
                counted=request["issued"],
            )
        except PluginError as error:
            taken = Profile(request["case_id"], self.target.arch, "error", str(error))
        return {"profile": taken.to_dict()}


def answer(worker: Worker, request: dict[str, Any]) -> dict[str, Any]:
    """The worker's answer; that the disk refuses is told to the other end, as it is no fault of a kernel."""
    try:
        return worker.answer(request)
    except CacheError as error:
        return {"event": "failed", "error": str(error), "kind": "usage"}


def main(words: list[str]) -> int:
    """Serve on the given socket; a failure to load the operators is told to the other end."""
    channel = open_channel(words[0])
    kind, arch, gpu, root, *plugins = words[1:]
    with ExitStack() as stack:
        try:
            stack.enter_context((answering if kind == "issued" else pretending)(target_of(arch, gpu)))
            worker = Worker(arch, gpu, Path(root), plugins)
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
