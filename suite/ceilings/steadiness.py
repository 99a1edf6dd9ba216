"""Ceilings that other work on the machine disturbed: find them, and keep the better of two measurements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# An undisturbed ceiling's interval spans 1.2 at most of its low end on machines that were looked at; one that was taken
# beside other work spans 2 to 200.
SPREAD = 1.5

Path = tuple[str, ...]


def disturbed(found: Mapping[str, Any]) -> list[str]:
    """The ceilings whose interval spans more than SPREAD times its low end, as "matmul bfloat16", "copy 64 MiB".

    A copy that both a smaller and a larger one pass by SPREAD is one too, however narrow its interval: bandwidth rises
    until a launch is paid for, and then falls from cache to cache. Work that lasts slows all samples of a size alike.
    """
    dips = _dips(found.get("copy") or [])
    return [" ".join(path).replace("_", " ") for path, each in _points(found) if _wide(each) or path in dips]


def better(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """`after` with each ceiling that `before` has higher: a device has shown that it can do that.

    Both are of the same device under the same settings. A launch's time is better when it is shorter. A narrow interval
    is kept rather than a wide one that holds it.
    """
    earlier = dict(_points(before))
    chosen = {path: _better(each, earlier.get(path, each)) for path, each in _points(after)}
    return _put(after, chosen, ())


def warning(found: Mapping[str, Any]) -> str:
    """One line that names the disturbed ceilings and the remedy, or ""."""
    names = disturbed(found)
    if not names:
        return ""
    return (
        f"other work ran while these ceilings were measured, and they may be off by {SPREAD:g}x or more: "
        f"{', '.join(names)}; run `subquad device --refresh` on an idle machine"
    )


def _points(tree: Any, path: Path = ()) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Every measured ceiling by its place; those of a list by their bytes."""
    if isinstance(tree, Mapping):
        if all(isinstance(tree.get(end), int | float) for end in ("low", "high")):
            yield path, tree
            return
        for key, value in tree.items():
            yield from _points(value, (*path, key))
    elif isinstance(tree, list):
        for each in tree:
            yield from _points(each, (*path, _size(each)))


def _put(tree: Any, chosen: Mapping[Path, Mapping[str, Any]], path: Path) -> Any:
    if path in chosen:
        return chosen[path]
    if isinstance(tree, Mapping):
        return {key: _put(value, chosen, (*path, key)) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_put(each, chosen, (*path, _size(each))) for each in tree]
    return tree


def _size(each: Any) -> str:
    size = each.get("bytes") if isinstance(each, Mapping) else None
    if not isinstance(size, int):
        return "of unknown size"
    return f"{size // 2**20} MiB" if size >= 2**20 else f"{size // 2**10} KiB"


def _dips(copy: Sequence[Mapping[str, Any]]) -> set[Path]:
    """The copies between two faster ones."""
    points = sorted((each for each in copy if isinstance(each.get("bytes"), int)), key=lambda each: each["bytes"])
    rates = [_rate(each) for each in points]
    return {
        ("copy", _size(each))
        for i, each in enumerate(points)
        if 0 < i < len(points) - 1 and rates[i] * SPREAD < min(max(rates[:i]), max(rates[i + 1 :]))
    }


def _wide(each: Mapping[str, Any]) -> bool:
    return each["low"] * SPREAD < each["high"]


def _better(one: Mapping[str, Any], other: Mapping[str, Any]) -> Mapping[str, Any]:
    worse, best = sorted((one, other), key=lambda each: -each["us"] if "us" in each else _rate(each))
    held = best["low"] <= _rate(worse) <= best["high"]
    return worse if _wide(best) and not _wide(worse) and held else best


def _rate(each: Mapping[str, Any]) -> float:
    return next(each[name] for name in ("gbs", "tflops", "gops", "us") if name in each)
