"""Messages between the runner and a worker: JSON lines over a separate socket.

Standard output and error stay free for what implementations print.

    runner -> worker   {"do": "describe" | "ceilings" | "measure" | "check", ...}
                       {"do": "go"}                              the answer to a `begin` of the phase `time`
    worker -> runner   {"event": "begin", "case": i, "phase": ...}   before anything that may kill the process
                       {"event": "record", "record": {...}}
                       {"event": "ceilings", "ceilings": {...}}          a ceiling had been measured too low
                       {"event": "spoiled", "reason": ...}               its case has a record; the process ends
                       {"event": "raised", "status": ..., "reason": ...} a case raised where nothing may raise
                       {"event": "done", ...}   or   {"event": "failed", "error": ..., "exit": ...}

What implementations do in a worker must not pass for a message of its own. So each line begins with a secret that the
runner draws for each worker. The runner also asks the kernel which process wrote a line: a child of the worker is
refused. The worker's end has a number that cannot be guessed, and neither programs that it starts nor its forks have
it. None of this stops code that looks for the secret in the worker's memory.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import resource
import secrets
import select
import socket
import struct
import time
from typing import Any

from suite.running.keeper import keep

# Longer than the longest record by far: it holds some 10,000 samples.
LONGEST_LINE = 1 << 25
# Descriptors up to here may be guessed: a program opens the lowest that is free.
LOW_DESCRIPTORS, HIGH_DESCRIPTORS = 64, 4096
SECRET_BYTES = 32
# Of what was refused, in the error.
SHOWN = 60
_CREDENTIALS = struct.Struct("3i")


class Disconnected(Exception):
    """The other end is gone."""


class Refused(Disconnected):
    """What came is no message, or not one that may come now. Nothing more of that end can be believed."""


class Channel:
    """One end of the conversation.

    secret: the beginning of every line, in both directions
    """

    def __init__(self, end: socket.socket, secret: bytes) -> None:
        self._socket, self._secret = end, secret
        self._buffer = bytearray()
        self._searched = 0
        # The process that wrote last, and the only one that may write; None where the kernel does not tell.
        self._peer: int | None = None
        self._only: int | None = None

    def fileno(self) -> int:
        """The number of its descriptor in this process."""
        return self._socket.fileno()

    def send(self, message: dict[str, Any]) -> None:
        """Raises Disconnected when the other end is gone, TypeError or ValueError for what JSON does not have."""
        line = json.dumps(message).encode()
        try:
            self._socket.sendall(b"%b %b\n" % (self._secret, line))
        except OSError as error:
            raise Disconnected(str(error)) from error

    def receive(self, timeout_s: float | None = None) -> dict[str, Any] | None:
        """The next message, or None when none came in time.

        Raises Disconnected when the other end is gone, and Refused for what is no message of that end.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while (end := self._buffer.find(b"\n", self._searched)) < 0:
            self._searched = len(self._buffer)
            if self._searched > LONGEST_LINE:
                raise Refused(f"a message is longer than {LONGEST_LINE} bytes")
            if not self._readable(None if until is None else max(0.0, until - time.monotonic())):
                return None
            self._buffer += self._read()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        return self._message(line)

    def know_peer(self) -> None:
        """From here on, refuse what another process than the last one writes."""
        self._only = self._peer

    def close(self) -> None:
        self._socket.close()

    def _readable(self, timeout_s: float | None) -> bool:
        # select.select takes no descriptor from 1024 on.
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(None if timeout_s is None else timeout_s * 1e3))

    def _read(self) -> bytes:
        try:
            data, told, _, _ = self._socket.recvmsg(1 << 16, socket.CMSG_SPACE(_CREDENTIALS.size))
        except OSError as error:
            raise Disconnected(str(error)) from error
        if not data:
            raise Disconnected("end of stream")
        for level, kind, content in told:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                self._peer = _CREDENTIALS.unpack(content[: _CREDENTIALS.size])[0]
                if self._only is not None and self._peer != self._only:
                    raise Refused(f"process {self._peer}, which is not the worker, writes on its channel")
        return data

    def _message(self, line: bytes) -> dict[str, Any]:
        start = self._secret + b" "
        if not line.startswith(start):
            raise Refused(f"{_shown(line)} is no message of the worker")
        try:
            message = json.loads(line[len(start) :])
        except (ValueError, RecursionError) as error:
            raise Refused(f"{_shown(line[len(start) :])} is not JSON") from error
        if type(message) is not dict:
            raise Refused(f"{_shown(line[len(start) :])} is not an object")
        return message


def _shown(line: bytes) -> str:
    text = ascii(line.decode(errors="replace"))
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def runners_end(end: socket.socket) -> Channel:
    """The runner's end, before the worker starts; the worker finds the secret as the first line."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    secret = secrets.token_hex(SECRET_BYTES // 2).encode()
    end.sendall(secret)
    return Channel(end, secret)


def open_channel(descriptor: str) -> Channel:
    """A worker's end, from the socket that it was started with, before anybody else's code is loaded.

    From here on this process has a keeper: it ends when the runner does, with all that it started.
    """
    keep()
    end = socket.socket(fileno=_moved(int(descriptor)))
    secret = end.recv(SECRET_BYTES, socket.MSG_WAITALL)
    channel = Channel(end, secret)
    os.register_at_fork(after_in_child=end.close)
    channel.send({"event": "hello"})
    return channel


def _moved(descriptor: int) -> int:
    """The same socket under a number that cannot be guessed, and that no program started from here inherits."""
    most = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], HIGH_DESCRIPTORS)
    least = random.SystemRandom().randrange(min(LOW_DESCRIPTORS, most // 2), most - 1)
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, least)
    os.close(descriptor)
    return moved
