"""Text from records, for a terminal: names and reasons are untrusted."""

from __future__ import annotations


def one_line(text: str) -> str:
    """The text without line breaks, tabs and control characters."""
    return "".join(char if char.isprintable() else "\ufffd" for char in " ".join(text.split()))
