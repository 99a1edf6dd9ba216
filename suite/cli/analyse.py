"""`subquad analyse`: ours against each peer, times against floors, and where ours loses, from stored runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from suite.errors import Exit, StoreError, UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="stored runs of one machine")
    parser.add_argument("--mode", default="", metavar="NAME", help="timing mode to use; default: that of most records")
    parser.add_argument(
        "--notes", type=Path, metavar="FILE", help="Markdown file to insert after the line of the machine"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="file for the page; default: standard output")


def run(args: argparse.Namespace) -> Exit:
    from suite.analysis.entries import entries
    from suite.analysis.page import page
    from suite.store import read_environment, read_records

    environments = [(path.resolve().name, read_environment(path)) for path in args.runs]
    devices = {(each.get("fingerprint") or {}).get("device") for _, each in environments}
    if len(devices) > 1:
        raise UsageError(
            f"the runs are of {', '.join(map(str, sorted(devices, key=str)))}; analyse one machine at a time"
        )
    records = [row for path in args.runs for row in read_records(path)]
    found = entries(records, args.mode)
    if not found:
        modes = sorted({row["mode"] for row in records if row["kind"] == "timed"})
        raise UsageError(f"no timed record of mode {args.mode or 'any'}; the runs have {', '.join(modes) or 'none'}")
    text = page(found, environments, _read(args.notes) if args.notes else "")
    if args.out is None:
        print(text, end="")
        return Exit.PASS
    try:
        args.out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"cannot write {args.out}: {error.strerror}; name another place with --out") from error
    print(args.out)
    return Exit.PASS


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--notes {path} cannot be read: {error}") from error
