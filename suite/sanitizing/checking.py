"""Sanitized checks: an implementation under the sanitizer, then its numerics; or at sizes that do not exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from suite.checks.calling import Call
from suite.checks.checker import Check, Checker, WrongForm
from suite.checks.inputs import flat
from suite.faults import classify
from suite.problem import Problem, Value
from suite.registry import Implementation, Operator
from suite.sanitizing.examining import examine
from suite.sanitizing.findings import Finding
from suite.sanitizing.sanitizer import Sanitizer
from suite.static.profiling import meta_inputs
from suite.targets import REPRESENTATIVES, aim

# Findings that a reason tells in full.
MOST_TOLD = 8
# At sizes that do not exist the largest input has at least so many elements: twice what int32 counts.
MANY_ELEMENTS = 2**32
# Few SMs are filled by long sequences that each stay whole, many only by segments of them.
SMS = (1, 2**16)
READS_PLACES = "its kernels read from tensors where tokens lie, and tensors that do not exist hold zeros"
NO_LAUNCH = "it launches no Triton kernel, and the sanitizer looks at nothing else"


def sanitized(checker: Checker, implementation: Implementation, tunables: Mapping[str, Value]) -> Check:
    """The check of one implementation, `incorrect` with the findings as its reason where there are any."""
    try:
        # Without bounds, a wrong access would end the process. What this raises, the sanitized call raises too.
        with Sanitizer(look=False, poison=None), suppress(Exception):
            checker.draw_flowing_in(implementation, tunables)
        seen = examine(lambda: checker.produce(implementation, tunables))
    except WrongForm as error:
        return Check("incorrect", str(error), check_T=checker.check_T)
    except Exception as error:
        return Check(*classify(error, implementation), check_T=checker.check_T, raised=error)
    if not seen.launches:
        return Check("unsupported", NO_LAUNCH)
    if seen.findings:
        return Check("incorrect", told(seen.findings), check_T=checker.check_T)
    return checker.judge_produced(implementation, dict(seen.outputs))


def at_invented_sizes(
    operator: Operator, implementation: Implementation, problem: Problem, tunables: Mapping[str, Value]
) -> Check:
    """What the addresses and grids of an implementation come to where tensors have 2^32 elements; no numerics."""
    findings, launches = list[Finding](), 0
    try:
        if any(not x.is_floating_point() for x in flat(meta_inputs(operator, problem)).values()):
            return Check("unsupported", READS_PLACES)
        large = enlarged(operator, problem)
        for sms in SMS:
            with aim(replace(REPRESENTATIVES["sm_90"], sms=sms)), Sanitizer(poison=None) as sanitizer:
                Call(operator, implementation, large, tunables, meta_inputs(operator, large)).run()
            launches += sanitizer.launches
            findings += sanitizer.findings
    except Exception as error:
        return Check(*classify(error, implementation), raised=error)
    if not launches:
        return Check("unsupported", NO_LAUNCH)
    return Check("incorrect", told(findings)) if findings else Check("ok")


def enlarged(operator: Operator, problem: Problem) -> Problem:
    """A dense problem with a batch so large that an input has MANY_ELEMENTS."""
    largest = max(x.numel() for x in flat(meta_inputs(operator, problem)).values())
    times = -(-MANY_ELEMENTS // largest)
    return problem.replace(B=problem.B * 2 ** max(0, (times - 1).bit_length()))


def told(findings: Sequence[Finding]) -> str:
    """Findings as a reason: one a line, each once."""
    lines = list(dict.fromkeys(map(str, findings)))
    more = [f"and {len(lines) - MOST_TOLD} more"] if len(lines) > MOST_TOLD else []
    return "\n".join(lines[:MOST_TOLD] + more)
