"""`subquad export RUN --to csv|parquet|json|pytest-benchmark`: writes a run's records in another format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from suite.errors import Exit

if TYPE_CHECKING:
    import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of `export`."""
    parser.add_argument("run_folder", metavar="RUN", help="a run folder")
    parser.add_argument(
        "--to",
        required=True,
        choices=("csv", "parquet", "json", "pytest-benchmark"),
        help="the format; pytest-benchmark writes JSON for `pytest-benchmark compare`",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="file to write; default: a file in RUN")


def run(args: argparse.Namespace) -> Exit:
    """Write the file and print its path."""
    from suite.store.exporting import export

    print(export(args.run_folder, args.to, args.out))
    return Exit.PASS
