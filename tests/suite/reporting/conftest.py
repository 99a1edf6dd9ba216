import pytest

from suite.reporting.charts.against_length import QUANTITIES, against_length
from tests.suite.reporting.synthetic import prepared, record, run_of


@pytest.fixture
def time_chart():
    (group,), styles = prepared(run_of([record("a", "x", T, time_ms=T / 100) for T in (128, 256)]))
    return against_length(group, QUANTITIES[0], styles)
