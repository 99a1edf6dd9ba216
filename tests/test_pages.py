"""Files that pages and docstrings name exist, so that a reader who follows a name finds the file."""

import re
import subprocess
from pathlib import Path

import pytest

from suite.discovery import ROOT

NAMED = re.compile(r"`((?:[\w-]+/)*[\w-]+\.(?:py|md|toml))`|\]\((?!http)([\w./-]+\.(?:py|md|toml|yml))(?:#[\w-]+)?\)")
# Names of an example, and of files that commands write.
EXAMPLES = {
    "mine.py",
    "OPERATOR/spec.py",
    "OPERATOR/chunk.py",
    "OPERATOR/decode.py",
    "report.md",
    "tests/mutations/FAMILY.toml",
}


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [Path(line) for line in listed.stdout.splitlines()]


def named(text: str) -> list[str]:
    return [one or other for one, other in NAMED.findall(text)]


def exists(name: str, page: Path) -> bool:
    """Whether a file of that name is beside the page, in the folder above, in kernels/common, or at that path.

    A page at the root names the files that several families have: any of them counts.
    """
    if page.parent == Path() and "/" not in name:
        return any(each.name == name for each in tracked())
    folders = (page.parent, page.parent.parent, Path("kernels/common"), Path())
    return any((ROOT / folder / name).is_file() for folder in folders)


@pytest.mark.parametrize("page", tracked("*.md", "kernels/*.py", "baselines/*.py"), ids=str)
def test_files_that_a_page_names_exist(page: Path) -> None:
    names = set(named((ROOT / page).read_text(encoding="utf-8"))) - EXAMPLES
    assert not [name for name in sorted(names) if not exists(name, page)]


def test_a_name_without_a_file_is_seen() -> None:
    text = "`tiles.py` or what `launches.py` finds, see [gate](gate.md#budget) and [site](https://a.b/c.md)"
    assert named(text) == ["tiles.py", "launches.py", "gate.md"]
    assert exists("tiles.py", Path("kernels/delta/README.md"))
    assert not exists("launches.py", Path("kernels/delta/README.md"))
