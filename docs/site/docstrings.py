"""Docstrings as Markdown: what a parameter is stands in a list, `::` before an example is a colon."""

from __future__ import annotations

import re
from typing import Any

import griffe

# `name, other: what they are`, at the margin; what goes on is indented.
_ITEM = re.compile(r"^(?P<names>\*{0,2}[A-Za-z_]\w*(?:, \*{0,2}[A-Za-z_]\w*)*):\s+(?P<text>\S.*)$")


class Markdown(griffe.Extension):
    """Rewrites the docstrings of everything that the site shows."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(text: str) -> str:
    """A docstring of this project as Markdown."""
    lines, listed = list[str](), False
    for line in text.expandtabs().splitlines():
        item = _ITEM.match(line)
        # A sentence may have a colon: items stand in blocks of their own, with aligned or short names.
        if item and (listed or not lines or not lines[-1].strip()):
            names = ", ".join(f"`{name}`" for name in item["names"].split(", "))
            lines.append(f"- {names}: {item['text']}")
            listed = True
        elif listed and line.startswith(" "):
            lines.append(f"  {line.strip()}")
        else:
            if listed and line.strip():
                lines.append("")
            listed = False
            lines.append(re.sub(r"(\S)::$", r"\1:", line))
    return "\n".join(lines)
