"""The witness: a process that judges what timed calls returned, and in which no implementation ever runs.

An implementation shares a process with the code that checks it, and might change that code. So under `--paranoid` the
compared part of what each last timed call returned goes into a file. This process draws the same inputs, runs the
oracle and compares. It loads operators, and plug-ins that define them, but calls none of their implementations.

Started as `python -m suite.running.witness FD ROOT [PLUGIN...]`, as suite.running.worker is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.checks.evidence import evidence_name, load
from suite.errors import StoreError
from suite.problem import STANDARD
from suite.running.judging import without_performance
from suite.running.messages import Disconnected
from suite.running.process import WorkerProcess
from suite.running.worker import Worker, main

if TYPE_CHECKING:
    from suite.checks.checker import Checker
    from suite.measuring.case import Settings


class WitnessWorker(Worker):
    """A worker that judges evidence. It keeps the last problem's oracle for the next case."""

    _problem_key: Any = None
    _checker: Checker | None = None

    def do_judge(self, request: dict[str, Any]) -> dict[str, Any]:
        """Status and reason of one case."""
        from suite.faults import classify

        try:
            parts, shapes = load(Path(request["evidence"]))
            checker = self._checker_of(request)
            found = checker.judge_evidence(parts, shapes, checker.seed)
        except StoreError as error:
            return {"status": "incorrect", "reason": str(error)}
        except Exception as error:
            status, reason = classify(error)
            return {"status": "unchecked", "reason": f"{status}: {reason}"}
        return {"status": found.status, "reason": found.reason}

    def _checker_of(self, request: Mapping[str, Any]) -> Checker:
        from suite.checks.checker import Checker
        from suite.measuring.timed_inputs import TIMED_SEED
        from suite.problem import Problem

        key = {name: request[name] for name in ("operator", "problem", "axes", "device", "seed", "pick")}
        if self._checker is None or key != self._problem_key:
            operator = self.registry.operator(request["operator"])
            problem = operator.complete(Problem.from_columns(request["problem"]), request["axes"])
            self._checker = Checker(
                operator,
                problem,
                device=request["device"],
                seed=request["seed"] + TIMED_SEED,
                pick=request["pick"],
                whole=True,
            )
            self._problem_key = key
        return self._checker


class Witness:
    """The runner's side: asks the process, and starts it when it is first needed.

    start: makes the process
    """

    def __init__(self, settings: Settings, start: Callable[[], WorkerProcess], timeout_s: float) -> None:
        self.settings, self.timeout_s = settings, timeout_s
        self._start = start
        self._process: WorkerProcess | None = None

    def review(self, record: dict[str, Any]) -> dict[str, Any]:
        """The record of a timed case, judged once more: as it is, or with another status and no performance."""
        if record["kind"] != "timed" or record["status"] != "ok":
            return record
        path = Path(self.settings.evidence) / evidence_name(record["case_id"], record["mode"], record["launch"])
        try:
            answer = self._answer(record, path)
        finally:
            path.unlink(missing_ok=True)
        if answer["status"] == "ok":
            return {**record, "witnessed": True}
        reason = f"judged in another process: {answer['reason']}"
        return without_performance(record) | {"status": answer["status"], "reason": reason, "witnessed": False}

    def _answer(self, record: Mapping[str, Any], path: Path) -> dict[str, Any]:
        if not path.is_file():
            return {"status": "unchecked", "reason": "the process that timed it left nothing to judge"}
        try:
            self._process = self._process or self._start()
            return self._process.ask(
                self.timeout_s,
                do="judge",
                evidence=str(path),
                operator=record["operator"],
                problem={name: record[name] for name in STANDARD},
                axes={name.removeprefix("axis."): x for name, x in record.items() if name.startswith("axis.")},
                device=self.settings.device,
                seed=self.settings.seed,
                pick=self.settings.recheck_pick,
            )
        except Disconnected as error:
            process, self._process = self._process, None
            how = process.how_it_ended() if process else str(error)
            if process:
                process.kill()
            return {"status": "unchecked", "reason": f"that process ended by {how}"}

    def end(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process = None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], WitnessWorker))
