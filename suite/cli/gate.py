"""`subquad gate --baseline A --candidate B`: judges one stored run against another, by exit code. See docs/gate.md."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from suite.errors import Exit, UsageError

if TYPE_CHECKING:
    import argparse

    from suite.gate import Report


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of `gate`."""
    parser.add_argument("--baseline", required=True, metavar="RUN", help="the stored run to judge against")
    parser.add_argument("--candidate", required=True, metavar="RUN", help="the stored run to judge")
    parser.add_argument("--margin", type=float, default=2.0, metavar="PERCENT",
                        help="slowdown that is allowed, in per cent (default: %(default)g)")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write it as Markdown, for a step summary")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write it as JUnit XML")
    parser.add_argument("--allow-env-mismatch", action="store_true",
                        help="compare runs of different environments, and say so")  # fmt: skip


def run(args: argparse.Namespace) -> Exit:
    """Print the verdicts, write the files asked for, and return the gate's exit code."""
    from suite.gate import Limits, gate

    if not 0 <= args.margin < 100:
        raise UsageError(f"--margin {args.margin:g} is no allowance; give per cent from 0 to below 100")
    limits = Limits(margin=args.margin / 100)
    report = gate(args.baseline, args.candidate, limits=limits, allow_env_mismatch=args.allow_env_mismatch)
    _write(args.json, json.dumps(report.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    _write(args.markdown, report.to_markdown())
    _write(args.junit, report.to_junit())
    _print(report)
    return report.exit


def _write(path: Path | None, text: str) -> None:
    if path is None:
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; choose another file") from error


def _print(report: Report) -> None:
    from suite.cli.tables import print_table
    from suite.gate.report import row_of
    from suite.store.text import one_line

    refused = report.exit == Exit.INCOMPARABLE
    for each in report.mismatches:
        print(one_line(f"environments differ: {each}"), file=sys.stderr if refused else sys.stdout)
    if refused:
        print(f"subquad: {report.headline}", file=sys.stderr)
        return
    shown = [each for each in report.sorted_cases if each.decision.verdict != "same"]
    if shown:
        rows = [[one_line(cell) for cell in row_of(each)] for each in shown]
        print_table(("verdict", "case", "mode", "metric", "reason"), rows)
    print(report.headline)
