"""Imports point one way: baselines -> kernels -> suite."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = {"suite": {"suite"}, "kernels": {"kernels", "suite"}, "baselines": {"baselines", "kernels", "suite"}}
HEAVY = {"torch", "triton", "pandas", "scipy", "matplotlib", "plotly", "jinja2", "numpy", "rich"}
FILES = [(package, path) for package in ALLOWED for path in sorted((ROOT / package).rglob("*.py"))]


def imported(path: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return found


@pytest.mark.parametrize(("package", "path"), FILES, ids=[str(p.relative_to(ROOT)) for _, p in FILES])
def test_direction(package: str, path: Path) -> None:
    tops = {name.partition(".")[0] for name in imported(path)} & set(ALLOWED)
    assert tops <= ALLOWED[package], f"{path.relative_to(ROOT)} imports {sorted(tops - ALLOWED[package])}"


def test_baselines_import_only_specifications_of_kernels() -> None:
    for path in (ROOT / "baselines").rglob("*.py"):
        for name in imported(path):
            if name.startswith("kernels."):
                specified = name.startswith("kernels.common") or name.endswith((".spec", ".reference"))
                assert specified, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", sorted((ROOT / "suite" / "cli").glob("*.py")), ids=lambda path: path.name)
def test_commands_import_nothing_heavy_at_the_top(path: Path) -> None:
    assert not {name.partition(".")[0] for name in imported(path, top_level_only=True)} & HEAVY
