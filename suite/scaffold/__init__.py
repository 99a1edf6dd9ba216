"""The skeleton of an operator: a folder in kernels/, a baseline, and their tests, which pass as written.

Templates are jinja2 files beside this one, named after what they become.
"""

from __future__ import annotations

import keyword
from pathlib import Path

from suite.errors import UsageError

TEMPLATES = {
    "package.py.j2": "kernels/{name}/__init__.py",
    "spec.py.j2": "kernels/{name}/spec.py",
    "recurrent.py.j2": "kernels/{name}/recurrent.py",
    "README.md.j2": "kernels/{name}/README.md",
    "baseline.py.j2": "baselines/{name}.py",
    "test_kernel.py.j2": "tests/kernels/{name}/test_{name}.py",
    "test_baseline.py.j2": "tests/baselines/test_{name}.py",
}


def write_skeleton(name: str, root: Path) -> list[Path]:
    """Write all files of a new operator under `root`; returns their paths.

    Raises UsageError, and writes nothing, when the name is no snake_case identifier or one of the files exists.
    """
    if not name.isidentifier() or name != name.lower() or keyword.iskeyword(name):
        raise UsageError(f"new-kernel {name!r}: an operator's name is a snake_case identifier, such as gated_scan")
    targets = {template: root / path.format(name=name) for template, path in TEMPLATES.items()}
    # A folder of that name in a family is an operator, which two cannot be.
    in_families = sorted((root / "kernels").glob(f"*/{name}"))
    for path in (root / "kernels" / name, *in_families, *targets.values()):
        if path.exists():
            raise UsageError(f"new-kernel {name}: {path.relative_to(root)} exists; choose another name or remove it")
    for template, path in targets.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_render(template, name), encoding="utf-8")
    return list(targets.values())


def _render(template: str, name: str) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # Python and Markdown are rendered, from a name that is an identifier
    )
    return environment.get_template(template).render(name=name, title=name.replace("_", " "))
