"""Configs of peers' autotuners by predicted time, all that they would try being compiled: baselines/tiles/.

An autotuner times its list on the GPU. Without one a profile would have to compile the whole list, or guess.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.dtypes import SHORT
from suite.tuning.chosen import PEERS, Chosen, is_own, read_chosen, tables_for

if TYPE_CHECKING:
    from suite.problem import Case
    from suite.running.budget import Budget
    from suite.static.progress import Progress

# A GPU that is full wants other tiles than one that is not.
NEAR = 4.0
# The parts of a key that count sequences, tokens and heads.
_HEADS = re.compile(r"/(B|T|N|NT|H|HK|HQ|HV)=\d+(?=/)")
_ROOT = Path(__file__).resolve().parent.parent.parent


def key_of(tuner: Any, named: Mapping[str, Any]) -> str:
    """What an autotuner's choice depends on: KERNEL/NAME=VALUE.../DTYPE,.../SIZE.

    Kernel, the arguments that its author's key names, dtypes of tensors; and what the key does not have, though the
    winner depends on it: the number of elements of the largest tensor. `named`: what the call gives by name
    """
    given = {**tuner.nargs, **named}
    arguments = {name: given[name] for name in tuner.arg_names if name in given}
    own = [f"{name}={arguments[name]}" for name in tuner.keys if name in arguments]
    tensors = [x for x in arguments.values() if hasattr(x, "dtype")]
    names = [str(x.dtype).rpartition(".")[2] for x in tensors]
    size = max((math.prod(x.shape) for x in tensors), default=0)
    return "/".join([tuner.base_fn.__name__, *own, ",".join(SHORT.get(name, name) for name in names), str(size)])


def chosen_for(arch: str, key: str) -> tuple[dict[str, int] | None, bool]:
    """The config that a table has for a key, at the nearest size; and whether it can be taken without trying others:
    it is of the installed Triton, and the size is less than NEAR times as large or as small.

    Where it has none at this number of heads, the one at another number: authors' keys have heads, few winners do.
    """
    stem, _, size = key.rpartition("/")
    for path in tables_for(_ROOT, arch, PEERS):
        by_size = _by_size(path)
        if sizes := by_size.get(stem) or by_size.get(_HEADS.sub("", stem)):
            off = {each: abs(math.log(max(each, 1) / max(int(size), 1))) for each in sizes}
            nearest = min(sizes, key=lambda each: off[each])
            return sizes[nearest], is_own(path) and off[nearest] < math.log(NEAR)
    return None, False


@cache
def _by_size(path: Path) -> dict[str, dict[int, dict[str, int]]]:
    found: dict[str, dict[int, dict[str, int]]] = {}
    table = read_chosen(path)
    for key, entry in table.entries.items() if table else ():
        stem, _, size = key.rpartition("/")
        for each in {stem, _HEADS.sub("", stem)}:
            found.setdefault(each, {})[int(size)] = entry.config
    return found


def choose_for_peers(
    cases: Sequence[Case],
    arch: str,
    keep: Callable[[str, Chosen], None],
    *,
    load: Sequence[str] = (),
    jobs: int = 2,
    progress: Progress | None = None,
    budget: Budget | None = None,
    refresh: bool = False,
) -> list[str]:
    """Tell `keep` what the autotuners of each case choose; the cases that have no profile, each with the reason.

    Parameters as in `suite.static.pool.take_profiles`.
    """
    from suite.static.pool import take_profiles
    from suite.static.progress import silent
    from suite.static.tasks import Task

    tasks = [Task(case, arch, all_configs=True, issued=False) for case in cases]
    profiles = take_profiles(tasks, load=load, jobs=jobs, progress=progress or silent, budget=budget, refresh=refresh)
    without, found = list[str](), dict[str, Chosen]()
    for case, profile in zip(cases, profiles, strict=True):
        if profile is None or profile.status != "ok":
            why = f"{profile.status}: {profile.reason}" if profile else "not registered"
            without.append(f"{case.case_id}: {why}")
            continue
        for each in (launch.tuning for launch in profile.launches if launch.tuning):
            entry = found.setdefault(each.key, Chosen(each.config, {}, {}, each.tried))
            # A case with the same key may have another best one, of which the entry does not tell.
            if each.config == entry.config:
                entry.us[case.case_id], entry.own_us[case.case_id] = round(each.us, 1), round(each.first_us, 1)
    for key, entry in found.items():
        keep(key, entry)
    return without
