"""Tables: the columns of records in Markdown, as docs/ has them.

    python -m suite.store.tables            # write them into docs/records.md, docs/static.md and docs/profiling.md

A page marks the place of a table by two comments, `<!-- columns: SECTION -->` and `<!-- end of columns -->`.
"""

from __future__ import annotations

import re
from pathlib import Path

from suite.discovery import ROOT
from suite.store.columns import SECTIONS, kind_of

PAGES = ("records.md", "static.md", "profiling.md")
_PLACE = re.compile(r"(<!-- columns: (\w+) -->\n).*?(<!-- end of columns -->)", re.DOTALL)


def table(section: str) -> str:
    """The table of a section of columns.SECTIONS, in Markdown."""
    found = SECTIONS[section]
    sources = any(each.source for each in found)
    head = ["field", "type", "meaning", *(["from"] if sources else [])]
    lines = [head, ["---"] * len(head)]
    for each in found:
        names = ", ".join(f"`{name}`" for name in each.names)
        lines.append([names, kind_of(each.spec), each.help, *([each.source] if sources else [])])
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def filled(text: str) -> str:
    """A page's text with its tables as the definition has them today."""
    return _PLACE.sub(lambda found: f"{found[1]}{table(found[2])}{found[3]}", text)


def main(folder: Path = ROOT / "docs") -> None:
    """Write the tables into the pages."""
    for name in PAGES:
        page = folder / name
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
