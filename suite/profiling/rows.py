"""A profile as rows of text, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from suite.profiling.counters import STALL
from suite.profiling.model import Profile

NAME_LENGTH = 72
MEGA = 1e6
_COUNTED = ("dram_read_bytes", "dram_write_bytes", "l2_bytes")
_TRAFFIC = {
    "compulsory": "compulsory: inputs and outputs once",
    "launch": "launch: arguments of every launch",
    "counted": "counted: DRAM",
    "l2": "counted: last-level cache",
}


def columns(found: Profile) -> tuple[str, ...]:
    """Column names of `kernels`."""
    what = "operator" if found.device == "cpu" else "kernel"
    plain = (what, "calls", "ms", "share")
    return (*plain, "DRAM read MB", "written MB", "L2 MB", "occupancy", "waits for") if found.counters else plain


def kernels(found: Profile, top: int) -> Iterator[tuple[str, ...]]:
    """The longest kernels, then the rest in one row."""
    for kernel in found.kernels[:top]:
        plain = (_short(kernel.name), f"{kernel.calls:.4g}", f"{kernel.ms:.4f}", f"{kernel.share:.1%}")
        yield (*plain, *_counted(kernel.counters)) if found.counters else plain
    if rest := found.kernels[top:]:
        calls, ms, share = (sum(getattr(kernel, name) for kernel in rest) for name in ("calls", "ms", "share"))
        plain = (f"and {len(rest)} more", f"{calls:.4g}", f"{ms:.4f}", f"{share:.1%}")
        yield (*plain, "", "", "", "", "") if found.counters else plain


def _counted(counters: Mapping[str, float]) -> tuple[str, ...]:
    bytes_ = tuple(f"{counters[name] / MEGA:.4g}" if name in counters else "" for name in _COUNTED)
    occupancy = f"{counters['occupancy']:.0%}" if "occupancy" in counters else ""
    return (*bytes_, occupancy, stalls(counters, 1))


def stalls(counters: Mapping[str, float], most: int) -> str:
    """The reasons that warps wait for longest: `long_scoreboard 61%, wait 12%`."""
    known = {name.removeprefix(STALL): value for name, value in counters.items() if name.startswith(STALL)}
    longest = sorted(known, key=lambda name: -known[name])[:most]
    return ", ".join(f"{name} {known[name]:.0%}" for name in longest if known[name] > 0)


def counters(found: Profile) -> Iterator[tuple[str, str]]:
    """The call's counters by name; stall reasons in one row."""
    for name, value in found.counters.items():
        if not name.startswith(STALL):
            yield name, f"{value:.1%}" if name == "occupancy" else f"{value:,.0f}"
    if waits := stalls(found.counters, 4):
        yield "warps wait for", waits


def traffic(bytes_: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The kinds of traffic with their ratio to compulsory bytes."""
    for name, words in _TRAFFIC.items():
        if name in bytes_:
            yield words, f"{bytes_[name]:,.0f}", f"{bytes_[name] / bytes_['compulsory']:.2f}"
    if "issued_ratio" in bytes_:
        yield "issued: loads and stores, at a small shape", "", f"{bytes_['issued_ratio']:.2f}"


PREDICTED = ("kernel", "figure", "predicted", "counted", "counted / predicted")
_UNITS = {"l2_bytes": ("L2 MB", MEGA), "dram_bytes": ("DRAM MB", MEGA), "instructions": ("instructions, million", MEGA)}


def predicted(found: Profile) -> Iterator[tuple[str, ...]]:
    """What the static profile predicts beside what was counted; shares that both have below 1 % are left out."""
    for pair in found.predicted:
        figure, expected, counted = pair["figure"], pair["predicted"], pair["counted"]
        name, unit = _UNITS.get(figure, (figure.replace("_", " "), 1.0))
        share = figure.endswith("_busy") or figure.startswith(STALL)
        if share and max(expected, counted) < 0.01:
            continue
        form = "{:.0%}" if share else "{:.4g}"
        ratio = f"{counted / expected:.2f}" if expected else ""
        yield _short(pair["kernel"]), name, form.format(expected / unit), form.format(counted / unit), ratio


def _short(name: str) -> str:
    return name if len(name) <= NAME_LENGTH else f"{name[: NAME_LENGTH - 1]}…"
