"""Apply the faults of a family one at a time to a copy of the checkout and run the tests that must see them.

    python -m tests.mutations scan               every fault of the family
    python -m tests.mutations scan --only mask   only faults whose name contains the word

Exits with 1 if a fault survives or its tests do not end, with 2 if the tests fail without a fault.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from suite.errors import SubquadError, UsageError
from tests.mutations.faults import ROOT, Mutation, families, load

TIMEOUT_S = 900.0
# pytest's exit codes: tests failed. Anything else but 0 means that they did not run.
PASSED, FAILED = 0, 1


def copy_of(root: Path, to: Path) -> None:
    """The files of a checkout that git tracks or does not ignore."""
    names = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-coz", "--exclude-standard"], capture_output=True, text=True, check=True
    ).stdout.split("\0")
    for name in filter(None, names):
        source = root / name
        if source.is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, to / name)


def outcome(root: Path, tests: tuple[str, ...]) -> str:
    """`caught`, `survived`, or what kept the tests from running."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "interpret", *tests]
    variables = {**os.environ, "TRITON_INTERPRET": "1"}
    try:
        done = subprocess.run(
            command, cwd=root, env=variables, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no end after {TIMEOUT_S:.0f} s"
    if done.returncode in (PASSED, FAILED):
        return "caught" if done.returncode == FAILED else "survived"
    return f"pytest exit {done.returncode}: {(done.stdout + done.stderr).strip().splitlines()[-1]}"


def try_all(mutations: list[Mutation], root: Path = ROOT) -> dict[str, str]:
    """The outcome of each fault, by name. UsageError when the tests fail without a fault."""
    with tempfile.TemporaryDirectory(prefix="subquad-mutations-") as folder:
        copy = Path(folder)
        copy_of(root, copy)
        every = tuple(sorted({test for mutation in mutations for test in mutation.tests}))
        if (clean := outcome(copy, every)) != "survived":
            raise UsageError(f"the tests do not pass without a fault ({clean}); mend them first: {' '.join(every)}")
        found = {}
        for mutation in mutations:
            path = copy / mutation.file
            before = path.read_text()
            path.write_text(mutation.applied(copy))
            found[mutation.name] = outcome(copy, mutation.tests)
            path.write_text(before)
            print(f"{found[mutation.name]:10} {mutation.name}", flush=True)
    return found


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("family", nargs="+", help=", ".join(families()))
    parser.add_argument("--only", default="", help="faults whose name holds this text")
    args = parser.parse_args(words)
    try:
        mutations = [each for family in args.family for each in load(family) if args.only in each.name]
        if not mutations:
            raise UsageError(f"--only '{args.only}' names no fault of {', '.join(args.family)}")
        found = try_all(mutations)
    except SubquadError as error:
        print(f"mutations: {error}", file=sys.stderr)
        return int(error.exit_code)
    lost = [name for name, how in found.items() if how != "caught"]
    print(f"{len(found) - len(lost)} of {len(found)} caught")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
