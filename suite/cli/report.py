"""`subquad report RUN… [--out DIR]`: stored runs as a page, pictures and tables; `--gallery`: all that are kept."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from suite.errors import Exit, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from suite.reporting import Rendered

TEXTS = {"md", "latex"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of `report`."""
    parser.add_argument(
        "runs",
        nargs="*",
        metavar="RUN",
        help="a run folder; several runs are drawn in the same charts and compared with the first",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder to write to (default: reports/local/<name of the first run>)"
    )
    parser.add_argument(
        "--baseline", metavar="OP/IMPL", help="baseline of the speed-ups (default: chosen from the data)"
    )
    parser.add_argument(
        "--format",
        default="html,png",
        metavar="NAMES",
        help="comma-separated: html, png, svg, pdf, md, latex; md or latex alone goes to stdout (default: %(default)s)",
    )
    parser.add_argument("--title", help="title of the page (default: the devices)")
    parser.add_argument(
        "--gallery", action="store_true", help="draw every run of results/ again, into reports/ and its README"
    )


def run(args: argparse.Namespace) -> Exit:
    """Write the report; paths go to stdout, doubts and what was left out to stderr. Exit 1: its self-check failed."""
    if args.gallery:
        return _gallery(args)
    if not args.runs:
        raise UsageError("no run to report on; name a run folder, or draw all that are kept with --gallery")
    formats = [name.strip() for name in args.format.split(",") if name.strip()]
    if formats and set(formats) <= TEXTS and not args.out:
        return _print(args, formats)
    from suite.reporting import render
    from suite.reporting.data.frame import read

    out = args.out or Path("reports/local") / Path(args.runs[0]).resolve().name
    rendered = render(read(args.runs), out, args.baseline, formats, args.title)
    for path in (rendered.page, *rendered.texts, *rendered.pictures):
        if path is not None:
            print(path)
    return _tell(rendered)


def _tell(rendered: Rendered) -> Exit:
    for note in rendered.notes:
        print(f"note: {note}", file=sys.stderr)
    return _judge(rendered.faults)


def _judge(faults: Sequence[str]) -> Exit:
    if not faults:
        return Exit.PASS
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    print(f"subquad: the report fails its own check: {faults[0]}{more}", file=sys.stderr)
    return Exit.REGRESSION


def _print(args: argparse.Namespace, formats: Sequence[str]) -> Exit:
    """Tables alone, on standard output."""
    from suite.reporting import selfcheck
    from suite.reporting.data.frame import read
    from suite.reporting.renderers import documents
    from suite.reporting.rendering import prepare

    content = prepare(read(args.runs), args.baseline, args.title)
    for name in formats:
        print(documents.WRITERS[name](content), end="")
    return _judge(selfcheck.faults(content.rows, content.panels))


def _gallery(args: argparse.Namespace) -> Exit:
    from suite.reporting.gallery import rebuild

    if args.runs:
        raise UsageError("--gallery draws every run of results/; remove the run folders")
    done = rebuild("results", args.out or "reports")
    for path in (done.readme, *done.pictures):
        print(path)
    for name in done.lost:
        print(f"subquad: README.md shows {name}, which no run in results/ has; show another picture", file=sys.stderr)
    return Exit.REGRESSION if done.lost else Exit.PASS
