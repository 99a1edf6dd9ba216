"""What belongs to an implementation's code, and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from suite.gating.source_hash import Sources
from tests.suite.gating.checkout import write

FILES = {
    "kernels/__init__.py": "",
    "kernels/common/__init__.py": "",
    "kernels/common/packed.py": "def split(x):\n    '''Split.'''\n    return x\n",
    "kernels/common/other.py": "UNUSED = 1\n",
    "kernels/op/__init__.py": "",
    "kernels/op/spec.py": "from kernels.common.packed import split\nop = 1\n",
    "kernels/op/tuned.json": '{"warps": 4}',
    "kernels/op/README.md": "about op",
    "kernels/lazy/__init__.py": "",
    "kernels/lazy/inner.py": "LATE = 1\n",
    "baselines/__init__.py": "",
    "baselines/helpers.py": "from .deeper import x\n",
    "baselines/deeper.py": "x = 1\n",
    "baselines/naive.py": """
'''Naive.'''
import torch
from baselines import helpers
from kernels.op.spec import op

def naive(q):
    from kernels import lazy
    import kernels.lazy.inner
    return q + 1  # a comment
""",
    "baselines/apart.py": "y = 1\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for path, text in FILES.items():
        write(tmp_path, path, text)
    return tmp_path


def digest(tree: Path) -> str:
    return Sources(tree).digest([tree / "baselines/naive.py"])


def test_the_closure_is_what_is_imported_directly_or_through_others(tree):
    found = {str(path.relative_to(tree)) for path in Sources(tree).closure([tree / "baselines/naive.py"])}
    left_out = {"kernels/common/other.py", "kernels/op/README.md", "baselines/apart.py"}
    assert found == set(FILES) - left_out


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("baselines/naive.py", "q + 1", "q + 2"),
        ("kernels/common/packed.py", "return x", "return x + 0"),
        ("kernels/lazy/inner.py", "LATE = 1", "LATE = 2"),
        ("baselines/deeper.py", "x = 1", "x = 2"),
        ("kernels/op/tuned.json", "4", "8"),
        ("kernels/__init__.py", "", "import kernels.common.other"),
    ],
)
def test_what_may_change_the_result_changes_the_hash(tree, path, old, new):
    before = digest(tree)
    (tree / path).write_text((tree / path).read_text().replace(old, new, 1))
    assert digest(tree) != before


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("baselines/naive.py", "  # a comment", ""),
        ("baselines/naive.py", "'''Naive.'''", "'''The parallel form.'''"),
        ("baselines/naive.py", "q + 1", "(q\n            + 1)"),
        ("kernels/common/packed.py", "    '''Split.'''\n", ""),
        ("kernels/common/other.py", "UNUSED = 1", "UNUSED = 2"),
        ("kernels/op/README.md", "about", "more about"),
    ],
)
def test_comments_docstrings_and_what_is_not_imported_do_not(tree, path, old, new):
    before = digest(tree)
    assert old in (tree / path).read_text()
    (tree / path).write_text((tree / path).read_text().replace(old, new))
    assert digest(tree) == before


def test_a_moved_checkout_has_the_same_code(tree, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    for path, text in FILES.items():
        write(other, path, text)
    assert digest(other) == digest(tree)
    (other / "baselines/deeper.py").rename(other / "baselines/deepest.py")
    write(other, "baselines/helpers.py", "from .deepest import x\n")
    assert digest(other) != digest(tree)


def test_a_plugin_outside_is_its_file_and_what_it_imports(tree, tmp_path_factory):
    plugin = tmp_path_factory.mktemp("plugins") / "mine.py"
    plugin.write_text("from kernels.op.spec import op\n")
    before = Sources(tree).digest([plugin])
    assert Sources(tree).digest([plugin]) == before
    write(tree, "kernels/common/packed.py", "def split(x): return -x\n")
    assert Sources(tree).digest([plugin]) != before
