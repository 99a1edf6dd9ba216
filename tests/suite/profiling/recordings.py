"""The recorded outputs, and an ncu that plays them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

RECORDED = Path(__file__).parent / "recorded"

# Answers as ncu would: --version, --query-metrics, a profiled run that leaves a report, --import. What it was asked is
# written down, one line a call.
_FAKE = """#!{python}
import json, re, sys
from pathlib import Path

recorded, log, script = Path({recorded!r}), Path({log!r}), {script!r}
words = sys.argv[1:]
with log.open("a") as file:
    file.write(json.dumps(words) + "\\n")

def say(name):
    print((recorded / name).read_text(), end="")

if "--version" in words:
    say("ncu_version.txt")
elif "--query-metrics" in words:
    say(script.get("query", "ncu_metrics.txt"))
elif "--import" in words:
    say(script.get("raw", "ncu_raw.csv"))
else:
    asked = words[words.index("--metrics") + 1]
    export = Path(words[words.index("--export") + 1])
    if script.get("result"):
        (export.parent / "result.json").write_text(json.dumps(script["result"]))
    if "lacks" in script and script["lacks"] in asked:
        say("ncu_unknown.txt")
    elif "run" in script:
        say(script["run"])
        sys.exit(1)
    else:
        export.with_name(export.name + ".ncu-rep").write_text("a report")
"""


def text(name: str) -> str:
    """A recording."""
    return (RECORDED / name).read_text(encoding="utf-8")


def fake_ncu(folder: Path, **script: object) -> Path:
    """An executable `ncu` in a folder of its own.

    query, run, raw: recordings that it plays in place of the good ones
    lacks:           a metric that it does not know until it is no longer asked for
    result:          what the target is made to have left
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "ncu"
    told = {"recorded": str(RECORDED), "log": str(folder / "asked.jsonl"), "script": script, "python": sys.executable}
    path.write_text(_FAKE.format(**told))
    path.chmod(0o755)
    return path


def on_path(folder: Path) -> str:
    """PATH with the folder first."""
    return f"{folder}{os.pathsep}{os.environ['PATH']}"
