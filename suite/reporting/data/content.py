"""What a page shows: panels of charts, and the sentences about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from suite.reporting.charts.model import Chart
    from suite.reporting.data.crossings import Crossing
    from suite.reporting.data.differences import Difference
    from suite.reporting.data.frame import Row, Run
    from suite.reporting.data.groups import Group


@dataclass(frozen=True)
class Panel:
    """A group's charts, together on the page, and where its lines cross."""

    group: Group
    charts: tuple[Chart, ...]
    met: tuple[Crossing, ...] = ()


@dataclass(frozen=True)
class Content:
    """What a page shows. doubts: what a reader must know first; changed: how later runs differ from the first."""

    title: str
    runs: Sequence[Run]
    rows: Sequence[Row]
    panels: Sequence[Panel]
    doubts: Sequence[str] = ()
    changed: Sequence[Difference] = ()
