"""The run that `bench` and `check` write: its flags, its environment, and opening or resuming it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.cli import values
from suite.errors import UsageError

if TYPE_CHECKING:
    from suite.plan import Group
    from suite.presets import Preset
    from suite.store import Writer


def add_run(group: argparse._ArgumentGroup, default: str) -> None:
    """`--out`, `--resume` and `--budget`. default: what happens without --out, for the help."""
    group.add_argument(
        "--budget", type=values.budget, metavar="TIME", help="end after 90s, 8m or 1h30m with a fair part of the plan"
    )
    group.add_argument("--out", type=Path, metavar="DIR", help=f"run folder; default: {default}")
    group.add_argument("--resume", type=Path, metavar="DIR", help="continue a run: do only what is missing")


def refuse_both(args: argparse.Namespace) -> None:
    """UsageError when both --out and --resume are given."""
    if args.resume and args.out:
        raise UsageError("--resume continues the run it names; leave --out away")


def environment_of(found: Mapping[str, Any], preset: Preset, groups: Sequence[Group], seed: int) -> dict[str, Any]:
    """environment.json without ceilings; a note on stderr where no commit is known.

    found: a worker's answer to `describe`
    """
    from suite.gpus import known

    gpu = known(found["device"]["name"])
    if found["no_commit"]:
        print(f"note: the records have no commit: {found['no_commit']}", file=sys.stderr)
    return {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": found["commit"],
        **({"no_commit": found["no_commit"]} if found["no_commit"] else {}),
        "argv": sys.argv[1:],
        "preset": preset.name,
        "seed": seed,
        **{key: found[key] for key in ("fingerprint", "device", "versions", "absent")},
        "ceilings": {},
        "datasheet": gpu.datasheet() if gpu else None,
        "plan": {"problems": len(groups), "cases": sum(len(group.cases) for group in groups)},
    }


def open_run(folder: Path, environment: Mapping[str, Any], resume: bool) -> Writer:
    """The run to append to. UsageError when a run to be resumed was made in another environment."""
    from suite.store import create, open_for_append, read_environment

    if not resume:
        return create(folder, environment)
    before = read_environment(folder)
    if before["fingerprint"] != environment["fingerprint"]:
        differing = [k for k, v in environment["fingerprint"].items() if before["fingerprint"].get(k) != v]
        raise UsageError(f"--resume {folder}: that run was made with another {', '.join(differing)}; start a new one")
    return open_for_append(folder)
