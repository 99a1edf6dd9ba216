"""Which cases `test_cases.py` measures: --preset, --op and --impl as in `subquad bench`."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("subquad")
    group.addoption("--preset", default="registry", help="preset whose cases are measured (default: %(default)s)")
    group.addoption("--op", default="", metavar="NAMES", help="operators, comma-separated")
    group.addoption("--impl", default="", metavar="NAMES", help="implementations, comma-separated")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" not in metafunc.fixturenames:
        return
    if not metafunc.config.getoption("benchmark_only", default=False):
        # Finding the cases imports every operator: only for those who want them.
        skip = pytest.mark.skip(reason="cases are measured with --benchmark-only")
        metafunc.parametrize("case", [pytest.param(None, marks=skip, id="none")])
        return
    cases = _cases(metafunc.config)
    metafunc.parametrize("case", cases, ids=[case.case_id for _, case in cases])


def _cases(config: pytest.Config) -> list:
    from suite.discovery import discover
    from suite.errors import SubquadError
    from suite.plan import Selection, make_plan
    from suite.presets import load_preset

    operators, implementations = (
        tuple(word for word in config.getoption(name).split(",") if word) for name in ("--op", "--impl")
    )
    registry = discover()
    try:
        preset = load_preset(config.getoption("--preset"))
        groups = make_plan(registry, preset, Selection(operators, implementations))
    except SubquadError as error:
        raise pytest.UsageError(str(error)) from error
    return [(registry.operator(group.operator), case) for group in groups for case in group.cases]
