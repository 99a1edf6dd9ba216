"""`subquad compare A B`: what changed between two stored runs, the largest change first."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from suite.cli import values
from suite.errors import Exit

if TYPE_CHECKING:
    import argparse

    from suite.compare import Change, Comparison, Time
    from suite.gating import Decision

COLUMNS = ("change", "case", "mode", "ratio", "before ms", "after ms", "memory", "error", "reason")


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of `compare`."""
    parser.add_argument("base", metavar="A", help="the run before")
    parser.add_argument("candidate", metavar="B", help="the run after")
    parser.add_argument(
        "--threshold",
        type=values.allowance("--threshold", "per cent"),
        default=5.0,
        metavar="PERCENT",
        help="smallest change in time to report, in per cent (default: %(default)g)",
    )
    parser.add_argument(
        "--fail", action="store_true", help="exit with 1 on a regression, with 3 if intervals overlap; see docs/gate.md"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--allow-env-mismatch", action="store_true", help="compare the runs even if their environments differ"
    )


def run(args: argparse.Namespace) -> Exit:
    """Print the changes; the exit code is PASS unless `--fail` was given."""
    from suite.compare import compare

    comparison = compare(
        args.base, args.candidate, threshold=args.threshold / 100, allow_env_mismatch=args.allow_env_mismatch
    )
    if args.json:
        print(json.dumps(comparison.to_json(), indent=2, allow_nan=False))
    else:
        _print(comparison)
    return comparison.exit if args.fail else Exit.PASS


def _print(comparison: Comparison) -> None:
    from suite.cli.tables import print_table
    from suite.store.text import one_line

    for each in comparison.mismatches:
        print(one_line(f"environments differ: {each}"))
    for source in (comparison.base, comparison.candidate):
        if source.no_commit:
            print(one_line(f"note: {source.run} has no commit: {source.no_commit}"), file=sys.stderr)
    changed = [each for each in comparison.changes if each.changed]
    if changed:
        print_table(COLUMNS, [_row(each) for each in changed])
    count = len(comparison.changes) - len(changed)
    print(f"{len(changed)} changed, {count} the same (time within {100 * comparison.threshold:g} %)")
    if any(min(each.replicates) < 2 and each.time for each in comparison.changes):
        print(
            "one launch does not show the noise between launches; `subquad gate` compares runs of 8 launches",
            file=sys.stderr,
        )


def _row(change: Change) -> list[str]:
    telling = [each for each in change.decisions.values() if each.verdict not in ("same", "unchanged")]
    return [
        ", ".join(dict.fromkeys(each.verdict for each in telling)),
        change.key.case_id,
        change.key.mode,
        _ratio(change.time),
        _interval(change.before),
        _interval(change.after),
        _ratio(change.memory),
        _ratio(change.error),
        "; ".join(each.reason for each in telling),
    ]


def _ratio(decision: Decision | None) -> str:
    return f"x{decision.ratio:.3f}" if decision and decision.ratio is not None else "-"


def _interval(time: Time | None) -> str:
    return f"{time.median:.4g} [{time.low:.4g}, {time.high:.4g}]" if time else "-"
