"""`subquad report RUN… [--out DIR]`: renders stored runs as one HTML page and as PNG files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from suite.errors import Exit

if TYPE_CHECKING:
    import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of `report`."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run folder; several are drawn over each other")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where to write (default: reports/local/<name of the first run>)"
    )
    parser.add_argument("--baseline", metavar="OP/IMPL", help="what speed-ups are over (default: chosen from the data)")
    parser.add_argument("--format", default="html,png", help="html, png or both, with a comma (default: %(default)s)")
    parser.add_argument("--title", help="the page's title (default: the devices)")


def run(args: argparse.Namespace) -> Exit:
    """Write the report; paths go to stdout, doubts and what was left out to stderr."""
    from suite.reporting import render
    from suite.reporting.frame import read

    out = args.out or Path("reports/local") / Path(args.runs[0]).resolve().name
    formats = [name.strip() for name in args.format.split(",") if name.strip()]
    rendered = render(read(args.runs), out, args.baseline, formats, args.title)
    for path in (rendered.page, *rendered.pngs):
        if path is not None:
            print(path)
    for note in rendered.notes:
        print(f"note: {note}", file=sys.stderr)
    return Exit.PASS
