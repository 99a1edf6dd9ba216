"""subquad: benchmarks and profiles of sequence operators.

What the command line does can be done from Python::

    import suite
    run = suite.bench(op="retention", seq_len=[1024, 4096])    # the flags of `subquad bench` by name
    frame = suite.load(run.folder)                             # a pandas DataFrame, one row per record
    record = suite.measure(fn, {"q": q, "k": k, "v": v})
    suite.report([run.folder], "reports/local")
    suite.check(op="retention"), suite.gate(base="main"), suite.static_profile(arch="sm_90")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from suite.cost import Cost
from suite.errors import Unsupported
from suite.problem import Axis, Case, Problem
from suite.registry import Implementation, Operator
from suite.requirement import Requirement
from suite.targets import Target, target

if TYPE_CHECKING:
    from suite.api import bench, check, gate, static_profile
    from suite.measuring import measure
    from suite.reporting import report
    from suite.store import load

__version__ = "0.1.0"
__all__ = [
    "Axis",
    "Case",
    "Cost",
    "Implementation",
    "Operator",
    "Problem",
    "Requirement",
    "Target",
    "Unsupported",
    "bench",
    "check",
    "gate",
    "load",
    "measure",
    "report",
    "static_profile",
    "target",
]

_LAZY = {
    "load": "suite.store",
    "measure": "suite.measuring",
    "report": "suite.reporting",
    **dict.fromkeys(("bench", "check", "gate", "static_profile"), "suite.api"),
}


def __getattr__(name: str) -> Any:
    # pandas, scipy and the renderers load only when they are used.
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'suite' has no attribute {name!r}")
