import pytest

from suite.reporting.against_length import QUANTITIES, against_length
from suite.reporting.frame import tidy
from suite.reporting.groups import gather
from suite.reporting.palette import assign
from tests.suite.reporting.synthetic import record, run_of


@pytest.fixture
def time_chart():
    rows = tidy([run_of([record("a", "x", T, time_ms=T / 100) for T in (128, 256)])])
    (group,) = gather(rows)
    return against_length(group, QUANTITIES[0], assign(["a/x"]))
