"""The run that `bench` and `check` write: its flags, the plan that is stored with it, and starting or continuing it.

A new run gets its folder before anything is measured. A run that is resumed takes every flag from its plan; a flag that
says otherwise is refused.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite import dtypes
from suite.cli import values
from suite.errors import UsageError
from suite.problem import STANDARD

if TYPE_CHECKING:
    from suite.plan import Group
    from suite.running.resuming import StoredPlan
    from suite.store import Writer

# Flags that choose cases, by the name of their value: those of a stored plan stand.
CHOOSING = {
    "preset": "--preset",
    "op": "--op",
    "impl": "--impl",
    "skip": "--skip",
    "origin": "--origin",
    **{axis.field: axis.flag for axis in STANDARD.values() if axis.flag},
    "head_dim": "--head-dim",
    "shape": "--shape",
    "axis": "--axis",
    "chunk": "--chunk",
    "tunable": "--tunable",
    "load": "--load",
    "launches": "--launches",
    "shard": "--shard",
    "no_static": "--no-static",
}
# Flags that say how a case is measured: others go on only in a run that is marked.
MEASURING = {
    "device": "--device",
    "seed": "--seed",
    "mode": "--mode",
    "warmup": "--warmup",
    "rep": "--rep",
    "cool_down": "--cool-down",
    "energy": "--energy",
    "lock_clocks": "--lock-clocks",
}
# Flags that change no number: those of the plan are the default of a resumed run.
FREE = ("timeout", "gpu", "recheck_pick", "paranoid")
DEFAULTS = {"seed": 0, "timeout": 300.0, "launches": 1, "cool_down": 0.0}


def add_run(group: argparse._ArgumentGroup, default: str) -> None:
    """`--out`, `--resume` and `--budget`. default: what happens without --out, for the help."""
    group.add_argument(
        "--budget",
        type=values.budget,
        metavar="TIME",
        help="time limit, such as 90s, 8m or 1h30m; the short lengths of every operator come first",
    )
    group.add_argument("--out", type=Path, metavar="DIR", help=f"run folder; default: {default}")
    group.add_argument(
        "--resume", type=Path, metavar="DIR", help="finish a run: measure the cases of its plan that are missing"
    )
    group.add_argument(
        "--resume-anyway",
        action="store_true",
        help="resume although the commit, machine or flags differ, and mark the run",
    )


def refuse_both(args: argparse.Namespace) -> None:
    """UsageError when flags exclude each other: a run is new, resumed or extended."""
    extended = getattr(args, "extend", None)
    if args.resume and args.out:
        raise UsageError("--resume continues the run it names; remove --out")
    if extended and (args.resume or args.out):
        raise UsageError("--extend adds to the run it names; remove --resume and --out")
    if args.resume_anyway and not (args.resume or extended):
        raise UsageError("--resume-anyway goes with --resume DIR; name the run")


def settle(args: argparse.Namespace) -> None:
    """Give the flags that were left away their defaults."""
    for name, default in DEFAULTS.items():
        if getattr(args, name, default) is None:
            setattr(args, name, default)


def take_seed(args: argparse.Namespace) -> None:
    """What is added to a run is drawn from the run's seed, unless a flag says otherwise."""
    from suite.store import read_environment

    known = read_environment(args.extend).get("seed")
    args.seed = known if args.seed is None and isinstance(known, int) else args.seed


class Resumption:
    """A stored plan that is gone on with, and the flags that are others than it says."""

    def __init__(self, args: argparse.Namespace, command: str) -> None:
        """Take the flags of the plan into args. UsageError, naming both values, for one that contradicts it."""
        from suite.running.resuming import digests, read_plan

        self.plan: StoredPlan = read_plan(args.resume, command)
        self.differs: dict[str, list[Any]] = {}
        known, given = self.plan.flags, flags_of(args)
        for name, flag in {**CHOOSING, **MEASURING}.items():
            if name in given and _sorted(given[name]) != _sorted(known.get(name)):
                self._differ(args, flag, known.get(name), given[name], allowed=name in MEASURING)
        for name in {**CHOOSING, **MEASURING, **dict.fromkeys(FREE)}:
            # The stored problems are those of the shard alone.
            if name != "shard" and hasattr(args, name) and name not in given and known.get(name) is not None:
                setattr(args, name, _tupled(known[name]))
        if "device" in self.differs and "mode" not in given:
            args.mode = None
        self._refuse_changed_preset(args, given.get("preset"))
        now = digests(args.load)
        for path, digest in self.plan.plugins.items():
            if now.get(path) != digest:
                self.differs[path] = [(digest or "")[:12], (now.get(path) or "")[:12]]

    def _refuse_changed_preset(self, args: argparse.Namespace, preset: str | None) -> None:
        """A preset file that is named again says what it said when the plan was made."""
        from suite.running.resuming import digests

        then = self.plan.flags.get("preset_digest")
        if preset and then and digests([preset])[preset] != then:
            raise UsageError(
                f"--resume {args.resume}: {preset} has changed since the run was made; remove --preset to go on "
                "with the stored plan, or start a new run with --out"
            )

    def _differ(self, args: argparse.Namespace, flag: str, then: Any, now: Any, allowed: bool) -> None:
        if not (allowed and args.resume_anyway):
            more = ", or mark the run with --resume-anyway" if allowed else ", or start a new run with --out"
            raise UsageError(
                f"--resume {args.resume}: the run was made {_given(flag, then)}, not {_given(flag, now)}; "
                f"remove {flag}{more}"
            )
        self.differs[flag.removeprefix("--")] = [then, now]


def _given(flag: str, value: Any) -> str:
    """`with --seed 0`, `without --energy`."""
    if value is None or value is False or value in ([], ()):
        return f"without {flag}"
    if value is True:
        return f"with {flag}"
    return f"with {flag} {','.join(map(_word, value)) if isinstance(value, list) else value}"


def _word(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)


def flags_of(args: argparse.Namespace) -> dict[str, Any]:
    """The flags that were given, as plan.json has them: names in full, paths absolute."""
    found = {}
    for name in (*CHOOSING, *MEASURING, *FREE):
        value = getattr(args, name, None)
        if value is None or value is False or value in ((), []):
            continue
        if name in ("dtype", "state_dtype"):
            value = [dtypes.canonical(each) for each in value]
        elif name == "load" or (name == "preset" and value.endswith(".toml")):
            value = str(Path(value).resolve()) if name == "preset" else [str(Path(each).resolve()) for each in value]
        elif name == "shard":
            value = "/".join(map(str, value))
        found[name] = _listed(value)
    return found


def _listed(value: Any) -> Any:
    return [_listed(each) for each in value] if isinstance(value, list | tuple) else value


def _tupled(value: Any) -> Any:
    return tuple(_tupled(each) for each in value) if isinstance(value, list) else value


def _sorted(value: Any) -> Any:
    """A list regardless of its order."""
    return sorted(value, key=str) if isinstance(value, list) else value


@contextmanager
def taken(args: argparse.Namespace, default: Path) -> Iterator[Writer]:
    """The run's folder, locked before anything is measured: that of --resume, --extend or --out, else a fresh one."""
    from suite.store.writing import hold, reserve, reserve_fresh

    continued = args.resume or getattr(args, "extend", None)
    writer = hold(continued) if continued else reserve(args.out) if args.out else reserve_fresh(default)
    with writer:
        yield writer


def preset_name(preset: str) -> str:
    """The name of a preset that is given by name or as a TOML file."""
    return Path(preset).stem if preset.endswith(".toml") else preset


def environment_of(found: Mapping[str, Any], preset: str, groups: Sequence[Group], seed: int) -> dict[str, Any]:
    """environment.json without ceilings; a note on stderr where no commit is known.

    found: a worker's answer to `describe`; preset: a name or a TOML file
    """
    from suite.hardware.gpus import known

    gpu = known(found["device"]["name"])
    if found["no_commit"]:
        print(f"note: the records have no commit: {found['no_commit']}", file=sys.stderr)
    return {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": found["commit"],
        **({"no_commit": found["no_commit"]} if found["no_commit"] else {}),
        "argv": sys.argv[1:],
        "preset": preset_name(preset),
        "seed": seed,
        **{key: found[key] for key in ("fingerprint", "device", "versions", "absent")},
        "ceilings": {},
        "datasheet": gpu.datasheet() if gpu else None,
        "plan": {"problems": len(groups), "cases": sum(len(group.cases) for group in groups)},
    }


def judged(args: argparse.Namespace, found: Mapping[str, Any], resumption: Resumption | None) -> dict[str, Any]:
    """The environment of the run that is continued, marked where --resume-anyway goes on although something differs.

    found: the present environment, as `environment_of` makes it. UsageError, naming both, when it is another.
    """
    from suite.running.resuming import differences, marked, told
    from suite.store import read_environment

    folder = args.resume or args.extend
    before = read_environment(folder)
    differs = differences(before, found) | (resumption.differs if resumption else {})
    if resumption is None and before.get("seed") != found["seed"]:
        differs["seed"] = [before.get("seed"), found["seed"]]
    if differs and not args.resume_anyway:
        flag = "--resume" if args.resume else "--extend"
        raise UsageError(
            f"{flag} {folder}: {told(differs)}; start a new one with --out, or mark this one with --resume-anyway"
        )
    return marked(before, differs)


def start_run(
    writer: Writer,
    args: argparse.Namespace,
    command: str,
    groups: Sequence[Group],
    environment: Mapping[str, Any],
    before: Mapping[str, Any] | None,
) -> None:
    """Write a new run's plan and environment; of one that is continued (before: its environment) only the mark."""
    from suite.running.resuming import digests, document
    from suite.store import read_environment
    from suite.store.writing import write_environment

    if before is None:
        flags = flags_of(args)
        if args.preset.endswith(".toml"):
            flags["preset_digest"] = digests([flags["preset"]])[flags["preset"]]
        plan = document(command, flags, [str(Path(path).resolve()) for path in args.load], groups)
        writer.begin(environment, plan)
        return
    writer.go_on()
    if before != read_environment(writer.folder):
        write_environment(writer.folder, before)
