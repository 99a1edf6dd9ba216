"""Messages between the runner and a worker: JSON lines over a separate socket.

Standard output and error stay free for what implementations print.

    runner -> worker   {"do": "describe" | "ceilings" | "measure" | "check", ...}
    worker -> runner   {"event": "begin", "case": i, "phase": ...}   before anything that may kill the process
                       {"event": "record", "record": {...}}
                       {"event": "ceilings", "ceilings": {...}}          a ceiling had been measured too low
                       {"event": "done", ...}   or   {"event": "failed", "error": ..., "exit": ...}
"""

from __future__ import annotations

import ctypes
import json
import select
import signal
import socket
import time
from typing import Any


class Disconnected(Exception):
    """The other end is gone."""


class Channel:
    """One end of the conversation."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._buffer = b""

    def send(self, message: dict[str, Any]) -> None:
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise Disconnected(str(error)) from error

    def receive(self, timeout_s: float | None = None) -> dict[str, Any] | None:
        """The next message, or None when none came in time. Raises Disconnected when the other end is gone."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            left = None if until is None else max(0.0, until - time.monotonic())
            ready, _, _ = select.select([self._socket], [], [], left)
            if not ready:
                return None
            try:
                data = self._socket.recv(1 << 16)
            except OSError as error:
                raise Disconnected(str(error)) from error
            if not data:
                raise Disconnected("end of stream")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def close(self) -> None:
        self._socket.close()


def open_channel(descriptor: str) -> Channel:
    """A worker's end: the socket it was started with. From here on the worker ends when the runner does, however."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    return Channel(socket.socket(fileno=int(descriptor)))
