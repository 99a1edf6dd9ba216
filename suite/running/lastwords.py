"""Last words: the one line of what a worker printed that says why it ended.

>>> last_words("loading\\nTraceback (most recent call last):\\n  File \\"a.py\\", line 3\\nValueError: no luck\\nbye")
'ValueError: no luck'
>>> last_words("[W1130 12:00:00.1 Context.cpp:80] Warning: please use the new API (function operator())")
''
"""

from __future__ import annotations

import re

from suite.faults import is_a_librarys

# Of a line, in a reason.
LONGEST = 200
_TRACEBACK = "Traceback (most recent call last):"
_FATAL = re.compile(r"Fatal Python error: (.*)")
# faulthandler's frames of the thread that crashed, the innermost first.
_CRASHED = "Current thread 0x"
_FRAME = re.compile(r'\s+File "([^"]+)", line (\d+)')
_LISTS = ("Extension modules: ", "USDT:")
_CHATTER = (
    # torch's and glog's loggers, with or without a rank before them.
    re.compile(r"(\[rank\d+\]:)?\[?[WIVE]\d{4} \d\d:\d\d:\d\d"),
    # Its profiler, which counts memory.
    re.compile(r"USDT:\d{4}-"),
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
            return found[1][-LONGEST:] + _place(lines[i + 1 :])
    said = (line for line in reversed(lines) if line.strip() and not any(each.match(line) for each in _CHATTER))
    return next(said, "").strip()[-LONGEST:]


def without_lists(tail: str) -> str:
    """What was printed, but for lines that are long and say nothing of one worker."""
    return "\n".join(line for line in tail.splitlines() if not line.startswith(_LISTS))


def _place(lines: list[str]) -> str:
    """` (FILE:LINE)` of the innermost frame that is no library's, as faulthandler lists them; "" without one."""
    start = next((i for i, line in enumerate(lines) if line.startswith(_CRASHED)), len(lines))
    frames = []
    for line in lines[start + 1 :]:
        if not (found := _FRAME.match(line)):
            break
        frames.append(found)
    own = next((frame for frame in frames if not is_a_librarys(frame[1])), frames[0] if frames else None)
    return f" ({own[1]}:{own[2]})" if own else ""
