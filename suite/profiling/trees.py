"""Reading proton's trees: the JSON that Triton's profiler writes for hatchet.

A file is a list: the tree's root, and the devices. A node has `frame: {name}`, `children`, and `metrics`: of a kernel
`count`, `time (ns)`, `device_id`, and those that its launch or a scope was given, such as `flops32` and `bytes`. What
computes the metadata of a launch lies below a frame of its own and is none of the call's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.errors import SubquadError
from suite.profiling.model import Kernel, ranked

METADATA = "__proton_launch_metadata"
_TIME = re.compile(r"time \((\w+)\)")
_MS = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True)
class Leaf:
    """A kernel at one place of the tree: the names of the frames around it, and its sums over all calls."""

    path: tuple[str, ...]
    name: str
    count: int
    ms: float
    metrics: Mapping[str, float]


def read_tree(path: Path, calls: int) -> tuple[Kernel, ...]:
    """The kernels of one call, out of a profile of `calls` calls. SubquadError when the file is no proton profile."""
    return kernels_of(leaves(_load(path)), calls)


def scope_metrics(path: Path, name: str) -> dict[str, float]:
    """The metrics that a scope directly below the root was given, such as flops and bytes, summed over its calls."""
    for node in _load(path).get("children", ()):
        if node["frame"]["name"] == name:
            return _plain(node["metrics"])
    return {}


def kernels_of(found: Iterator[Leaf], calls: int) -> tuple[Kernel, ...]:
    """Leaves of one name as one kernel, a call's part."""
    by_name: dict[str, list[Leaf]] = {}
    for leaf in found:
        by_name.setdefault(leaf.name, []).append(leaf)
    return ranked(
        Kernel(
            name,
            sum(leaf.count for leaf in each) / calls,
            sum(leaf.ms for leaf in each) / calls,
            0.0,
            _summed(each, calls),
        )
        for name, each in by_name.items()
    )


def leaves(node: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """Every kernel below a node."""
    name = node["frame"]["name"]
    if name == METADATA:
        return
    metrics = node["metrics"]
    if metrics.get("count") and (ms := _time(metrics)) is not None:
        yield Leaf(path, name, int(metrics["count"]), ms, _plain(metrics))
    for child in node.get("children", ()):
        yield from leaves(child, (*path, name))


def _load(path: Path) -> Mapping[str, Any]:
    try:
        root = json.loads(path.read_text(encoding="utf-8"))[0]
        known = isinstance(root["frame"]["name"], str) and isinstance(root["metrics"], dict)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise SubquadError(f"{path} is not a profile of proton ({what}); take it again") from error
    if not known:
        raise SubquadError(f"{path} is not a profile of proton (its root has no name or no metrics); take it again")
    return root


def _time(metrics: Mapping[str, Any]) -> float | None:
    for name, value in metrics.items():
        matched = _TIME.fullmatch(name)
        if matched and matched[1] in _MS:
            return float(value) * _MS[matched[1]]
    return None


def _plain(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Metrics that a launch or a scope was given: numbers that are neither count nor time."""
    return {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, int | float) and name != "count" and not _TIME.fullmatch(name)
    }


def _summed(found: list[Leaf], calls: int) -> dict[str, float]:
    names = dict.fromkeys(name for leaf in found for name in leaf.metrics)
    return {name: sum(leaf.metrics.get(name, 0.0) for leaf in found) / calls for name in names}
