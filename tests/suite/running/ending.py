"""A worker without operators that ends in one of many ways: `python -m tests.suite.running.ending FD WAY FILE`.

It imports next to nothing, so that many of them can be started in a test.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

from suite.running.messages import Channel, open_channel

# A child in a session of its own, whose parent is gone, deaf to what asks it to end.
DEAF = """
import os, signal, sys, time
if os.fork():
    os._exit(0)
os.setsid()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
print(os.getpid(), flush=True)
time.sleep(9999)
"""


def breed(path: Path) -> None:
    """Start such a child, and write down who it is."""
    child = subprocess.Popen([sys.executable, "-S", "-c", DEAF], stdout=subprocess.PIPE, start_new_session=True)
    assert child.stdout is not None
    path.write_bytes(child.stdout.readline())


def wait() -> None:
    while True:
        time.sleep(60)


def end(way: str, channel: Channel, path: Path) -> None:
    breed(path)
    if way == "exits":
        os._exit(7)
    elif way == "aborts":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        ctypes.CDLL(None).abort()
    elif way == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif way == "ends its group":
        os.killpg(0, signal.SIGTERM)
        wait()
    elif way == "lets a fork hold all":
        if ctypes.CDLL(None).fork():
            os._exit(7)
        wait()
    elif way == "becomes another program":
        os.execv("/bin/sleep", ["sleep", "9999"])
    elif way == "stops its keeper":
        os.kill(os.getppid(), signal.SIGSTOP)
        channel.send({"event": "stopped"})
        wait()
    elif way == "interrupts its keeper":
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
            os.kill(os.getppid(), number)
        channel.send({"event": "interrupted"})
        wait()
    elif way == "waits":
        channel.send({"event": "waits"})
        wait()
    elif way == "stops":
        channel.send({"event": "stops"})
        os.kill(os.getpid(), signal.SIGSTOP)
    elif way == "forks in Python":
        if os.fork() == 0:
            # Python gave the channel back in here.
            assert channel.fileno() == -1
            os._exit(0)
        os.wait()
        channel.send({"event": "forked"})
        wait()


if __name__ == "__main__":
    found = open_channel(sys.argv[1])
    found.send({"event": "ready"})
    end(sys.argv[2], found, Path(sys.argv[3]))
