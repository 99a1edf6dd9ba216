"""The columns: documented, and of the types that the schema promises."""

import os
from pathlib import Path

import pytest

from suite.store.columns import OPTIONAL
from suite.store.rules import fault
from suite.telemetry.host import Host
from suite.telemetry.nvml import Gpu
from suite.telemetry.sampler import Sampler
from tests.suite.telemetry.fakes import FakeNvml, process

DOCS = (Path(__file__).resolve().parents[3] / "docs" / "records.md").read_text()
GROUPS = ("telemetry.", "compile.", "tuning.")


@pytest.mark.parametrize("name", [name for name in OPTIONAL if name.startswith(GROUPS)])
def test_every_column_is_documented(name: str) -> None:
    assert f"`{name}`" in DOCS


def gpu() -> Gpu:
    nvml = FakeNvml(events=[0x44])
    nvml.processes = [process(os.getpid()), process(5)]
    return Gpu(nvml, "handle")


@pytest.mark.parametrize("source", [gpu(), Host()], ids=["gpu", "host"])
def test_every_column_is_known_to_the_schema(source: Gpu | Host) -> None:
    sampler = Sampler(source)
    for _ in range(3):
        sampler.look()
    found = sampler.columns([(sampler.readings[0].at_ns, sampler.readings[-1].at_ns)])
    assert len(found) >= 4
    for name, value in found.items():
        assert fault(OPTIONAL[name], value) is None, name
