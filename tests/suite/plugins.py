"""Operators for tests of the suite: plug-in files as a user writes them."""

from pathlib import Path

# The third operator of README: a running mean, in under 15 lines.
RUNNING_MEAN = """
import torch
from suite import Cost, Operator
from suite.draw import qkv

def mean(q, k, v):
    return v.cumsum(1) / torch.arange(1, v.shape[1] + 1, device=v.device)[:, None, None].to(v), None

running_mean = Operator("running_mean", "o_t = mean of v_1..v_t", "none", qkv, mean, tags=("linear",),
    cost=lambda p, tunables: Cost(2 * p.tokens * p.HV * p.V, 2 * p.tokens * p.HV * p.V, 8 * p.tokens * p.HV * p.V),
    passes=("fwd", "fwdbwd"), stateful=False)
running_mean.implementation("torch", origin="baseline")(mean)
"""

# Every way to die or to be wrong, as implementations of one operator.
FAULTS = (
    RUNNING_MEAN
    + """
import ctypes, os, subprocess, sys, threading, time
from suite.errors import spoiling
HOLD = {}
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(10_000)  # bred"

def fault(name, **more):
    return running_mean.implementation(name, origin="ours", passes={"fwd"}, **more)

@fault("segfault")
def segfault(q, k, v):
    ctypes.string_at(0)

@fault("exits")
def exits(q, k, v):
    os._exit(0)

@fault("hangs")
def hangs(q, k, v):
    time.sleep(10_000)

@fault("breeds")
def breeds(q, k, v):
    children = [subprocess.Popen([sys.executable, "-c", DEAF]) for _ in range(2)]
    time.sleep(10_000)

@fault("hungry")
def hungry(q, k, v):
    return torch.empty(1 << 50, dtype=torch.uint8), None

@fault("prints")
def prints(q, k, v):
    for _ in range(20):
        sys.stdout.write("x" * 100_000 + "\\n")
    return mean(q, k, v)

@fault("raises")
def raises(q, k, v):
    raise ValueError("no luck")

@fault("nan")
def nan(q, k, v):
    o, _ = mean(q, k, v)
    return o * float("nan"), None

@fault("lazy")
def lazy(q, k, v):
    o = torch.empty_like(v)
    o[:, :-1] = mean(q, k, v)[0][:, :-1]
    return o, None

@fault("identity")
def identity(q, k, v):
    return v, None

@fault("wrong_shape")
def wrong_shape(q, k, v):
    return mean(q, k, v)[0][:, :, :, :-1], None

@fault("not_a_pair")
def not_a_pair(q, k, v):
    return mean(q, k, v) + (None,)

@fault("one_bad_token")
def one_bad_token(q, k, v):
    o = mean(q, k, v)[0].clone()
    o[:, -1] += 0.02
    return o, None

@fault("caches")
def caches(q, k, v):
    key = (v.data_ptr(), tuple(v.shape))
    if key not in HOLD:
        HOLD[key] = mean(q, k, v)[0]
    return HOLD[key], None

@fault("overruns")
def overruns(q, k, v):
    o = torch.empty_like(v)
    o.copy_(mean(q, k, v)[0])
    ctypes.memset(o.data_ptr() + o.numel() * o.element_size(), 0, 64)
    return o, None

@fault("scribbles")
def scribbles(q, k, v):
    o, _ = mean(q, k, v)
    q.detach().mul_(2)
    return o, None

@fault("late")
def late(q, k, v):
    o = torch.empty_like(v)
    def work():
        time.sleep(0.3)
        o.copy_(mean(q, k, v)[0])
    threading.Thread(target=work).start()
    return o, None

@fault("sticky")
def sticky(q, k, v):
    error = RuntimeError(f"CUDA error: an illegal memory access was encountered in process {os.getpid()}")
    # As a device would show that is asked after the error, where there is one.
    raise spoiling(error)

@fault("refuses", supports=lambda problem, tunables: "not on a Sunday")
def refuses(q, k, v):
    return mean(q, k, v)
"""
)

BROKEN = "raise RuntimeError('half a plug-in')"


def write(folder: Path, text: str, name: str = "plugin.py") -> Path:
    """The plug-in as a file."""
    path = folder / name
    path.write_text(text)
    return path
