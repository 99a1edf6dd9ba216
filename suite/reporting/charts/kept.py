"""What a forward pass keeps for the backward pass, from static profiles: memory that training pays for each layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from suite.reporting.charts.model import Chart, Series
from suite.reporting.charts.scales import figure, length_axis, log_axis
from suite.reporting.charts.series import Styles, by_last, floor_owner, length_label, listed, named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from suite.reporting.data.groups import Group
    from suite.reporting.data.points import Floor


def kept(group: Group, styles: Styles) -> Chart | None:
    """MiB against T, a line an implementation; None where no profile has any."""
    names: dict[str, dict[int, Floor]] = {}
    for floor in sorted(group.floors, key=lambda floor: floor.T):
        if floor.kept_mib > 0:
            # Of several architectures and tunables, that which keeps least.
            found = names.setdefault(floor.name, {})
            found[floor.T] = min(found.get(floor.T, floor), floor, key=lambda each: each.kept_mib)
    if not names:
        return None
    series = [_line(group, list(found.values()), styles) for found in names.values()]
    return Chart(
        kind="kept",
        slug=f"kept_{group.setting.slug}",
        title="Kept for the backward pass, not measured",
        subtitle=" · ".join(text for name, text in group.setting.facets.items() if text and name != "timing"),
        x=length_axis(length_label(group), [x for each in series for x in each.x]),
        y=log_axis("MiB beyond inputs and outputs", [y for each in series for y in each.y], decades=1),
        series=by_last(series),
        caption="Computed from host code: no kernel ran. Tensors that the forward pass leaves for the backward pass, "
        "beyond its inputs and outputs. An implementation that is not drawn keeps nothing, or has no profile.",
        alt="Kept for the backward pass. "
        + listed([f"{each.name}: up to {figure(each.y[-1])} MiB" for each in series]),
    )


def _line(group: Group, found: Sequence[Floor], styles: Styles) -> Series:
    return Series(
        name=found[0].name,
        x=tuple(float(each.T) for each in found),
        y=tuple(each.kept_mib for each in found),
        style=named(styles, found[0].name),
        text=tuple(f"{each.name}\nT = {each.T:,}\n{figure(each.kept_mib)} MiB kept, computed" for each in found),
        owner=floor_owner(group, found[0]),
        T=tuple(each.T for each in found),
    )
