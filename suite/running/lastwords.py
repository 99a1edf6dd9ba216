"""Last words: the one line of what a worker printed that says why it ended.

>>> last_words("loading\\nTraceback (most recent call last):\\n  File \\"a.py\\", line 3\\nValueError: no luck\\nbye")
'ValueError: no luck'
>>> last_words("[W1130 12:00:00.1 Context.cpp:80] Warning: please use the new API (function operator())")
''
"""

from __future__ import annotations

import re

# Of a line, in a reason.
LONGEST = 200
_TRACEBACK = "Traceback (most recent call last):"
_FATAL = re.compile(r"Fatal Python error: (.*)")
# faulthandler's first frame: where the thread was that crashed.
_FRAME = re.compile(r'\s+File "([^"]+)", line (\d+)')
_CHATTER = (
    # torch's and glog's loggers, with or without a rank before them.
    re.compile(r"(\[rank\d+\]:)?\[?[WIVE]\d{4} \d\d:\d\d:\d\d"),
    # Python's warnings, and the line of source that follows them.
    re.compile(r"\S+:\d+: \w*Warning: "),
    # faulthandler's own.
    re.compile(r"(Current thread|Thread) 0x\w+|Extension modules: |<no Python frame>|Current thread's C stack trace"),
    # What is indented belongs to the line before it.
    re.compile(r"\s(?!\s*what\(\))"),
    # Bars of progress.
    re.compile(r".*\d+%\|"),
)


def last_words(tail: str) -> str:
    """The error of the last traceback, else what Python or C++ died of, else the last line that is not chatter."""
    lines = tail.splitlines()
    for i in range(len(lines) - 1, -1, -1):
        if lines[i].startswith(_TRACEBACK):
            raised = next((line for line in lines[i + 1 :] if line and not line[0].isspace()), "")
            if raised:
                return raised[-LONGEST:]
        if found := _FATAL.match(lines[i]):
            frame = next((at for line in lines[i + 1 :] if (at := _FRAME.match(line))), None)
            return found[1][-LONGEST:] + (f" ({frame[1]}:{frame[2]})" if frame else "")
    said = (line for line in reversed(lines) if line.strip() and not any(each.match(line) for each in _CHATTER))
    return next(said, "").strip()[-LONGEST:]
