"""The store: a run is a folder with `environment.json` and an append-only `records.jsonl`. See docs/records.md.

Example::

    with create("results/local/tonight", environment) as writer:
        writer.append(record)
    frame = load("results/local/tonight")
"""

from suite.store.columns import SCHEMA, STATUSES
from suite.store.frames import load
from suite.store.paths import run_folder
from suite.store.reading import done_keys, read_environment, read_records
from suite.store.schema import Key, record_key
from suite.store.writing import Writer, create, open_for_append

__all__ = [
    "SCHEMA",
    "STATUSES",
    "Key",
    "Writer",
    "create",
    "done_keys",
    "load",
    "open_for_append",
    "read_environment",
    "read_records",
    "record_key",
    "run_folder",
]
