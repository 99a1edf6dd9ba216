"""The worker that tries configs: `python -m suite.tuning.worker FD ROOT [PLUGIN...]`, else as suite.running.worker."""

from __future__ import annotations

import sys
from typing import Any

from suite.running.worker import Worker, main


class TuningWorker(Worker):
    """A measuring worker that also tunes."""

    def do_tune(self, request: dict[str, Any]) -> None:
        from suite.measuring.case import Settings
        from suite.problem import Problem
        from suite.tuning.trials import CaseTrials

        operator = self.registry.operator(request["operator"])
        problem = operator.complete(Problem.from_columns(request["problem"]), request["axes"])
        settings = Settings(**{**request["settings"], "modes": tuple(request["settings"]["modes"])})
        trials = CaseTrials(
            operator,
            operator.implementations[request["implementation"]],
            problem,
            request["tunables"],
            settings,
            {(key, index) for key, index in request["skip"]},
            self._result,
            self._begin,
        )
        trials.run(request["search"], request["winners"])

    def _result(self, found: dict[str, Any]) -> None:
        self.channel.send({"event": "key", **found})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], TuningWorker))
