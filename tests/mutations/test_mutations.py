"""The faults still fit the code, and the runner tells a fault that is seen from one that is not."""

import builtins
import subprocess
import symtable

import pytest

from suite.errors import UsageError
from tests.mutations.__main__ import try_all
from tests.mutations.faults import ROOT, Mutation, families, load, parse

TESTED = """
import pytest
from code_under import double

@pytest.mark.interpret
def test_double():
    assert double(3) == 6
"""


@pytest.mark.parametrize("family", families())
def test_every_fault_can_be_put_into_the_code(family):
    mutations = load(family)
    assert len(mutations) >= 10
    assert len({each.name for each in mutations}) == len(mutations)
    for mutation in mutations:
        assert mutation.tests
        # A name that does not exist makes every test fail, and proves nothing.
        assert not undefined(mutation.applied()) - undefined((ROOT / mutation.file).read_text()), mutation.name


def undefined(text: str) -> set[str]:
    """Names that functions of a module read and nobody defines."""
    module = symtable.symtable(text, "module", "exec")
    defined = {*dir(builtins), *(each.get_name() for each in module.get_symbols() if each.is_local())}
    scopes, found = [module], set()
    while scopes:
        scope = scopes.pop()
        scopes.extend(scope.get_children())
        found |= {each.get_name() for each in scope.get_symbols() if each.is_global() and each.is_referenced()}
    return found - defined


@pytest.fixture
def project(tmp_path):
    (tmp_path / "code_under.py").write_text("def double(x):\n    unused = 1\n    return 2 * x\n")
    (tmp_path / "test_code.py").write_text(TESTED)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = interpret\npythonpath = .\n")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    return tmp_path


def test_the_runner_tells_a_fault_that_is_seen_from_one_that_is_not(project):
    seen = Mutation("seen", "code_under.py", "2 * x", "3 * x", ("test_code.py",))
    unseen = Mutation("unseen", "code_under.py", "unused = 1", "unused = 2", ("test_code.py",))
    assert try_all([seen, unseen], project) == {"seen": "caught", "unseen": "survived"}


def test_tests_that_fail_by_themselves_prove_nothing(project):
    (project / "code_under.py").write_text("def double(x):\n    return x\n")
    with pytest.raises(UsageError, match="do not pass without a fault"):
        try_all([Mutation("any", "code_under.py", "return x", "return 0", ("test_code.py",))], project)


def test_a_fault_whose_text_is_gone_is_refused(project):
    with pytest.raises(UsageError, match="occurs 0 times"):
        Mutation("gone", "code_under.py", "no such text", "", ("test_code.py",)).applied(project)


def test_an_unknown_key_names_the_file(tmp_path):
    path = tmp_path / "toy.toml"
    path.write_text('[[mutation]]\nname = "a"\nfile = "b"\nfind = "c"\nreplace = "d"\nwhy = "e"\n')
    with pytest.raises(UsageError, match=r"toy\.toml"):
        parse(path)
