"""Numbers on the command line: each flag of each command says in one line what it takes, and reads what it should."""

import argparse

import pytest

from suite.cli import main, parser, values

NUMBERS = ("nan", "inf", "-1", "x", "", "1e999", "1;5", "0x10", "١", "9" * 5000)
# command -> its flags by what they take
SIZES = ("--batch", "--seq-len", "--heads", "--key-heads", "--value-heads", "--head-dim")
FLAGS = {
    "bench": {
        "size": SIZES,
        "count": ("--launches", "--lock-clocks"),
        "index": ("--gpu",),
        "seed": ("--seed", "--recheck-pick"),
        "span": ("--rep", "--timeout"),
        "pause": ("--warmup", "--cool-down", "--wait"),
        "budget": ("--budget",),
        "shard": ("--shard",),
    },
    "check": {
        "size": SIZES,
        "count": ("--jobs",),
        "seed": ("--seed",),
        "span": ("--timeout",),
        "budget": ("--budget",),
        "shard": ("--shard",),
    },
    "tune": {
        "size": SIZES,
        "count": ("--lock-clocks",),
        "index": ("--gpu",),
        "seed": ("--seed",),
        "span": ("--rep", "--timeout"),
        "pause": ("--warmup", "--wait"),
        "budget": ("--budget",),
    },
    "gate --base HEAD": {
        "size": SIZES,
        "count": ("--rounds",),
        "seed": ("--seed",),
        "span": ("--rep", "--timeout"),
        "allowance": ("--margin", "--min-difference"),
        "budget": ("--budget",),
        "some_of": ("--fail-on",),
    },
    "profile linear_attention": {"size": SIZES, "count": ("--calls", "--top"), "seed": ("--seed",)},
    "static": {"size": SIZES, "count": ("--jobs",), "some_of": ("--fail-on",)},
    "tiles": {"size": SIZES, "count": ("--jobs",), "budget": ("--budget",)},
    "history": {"size": SIZES, "count": ("--jobs",), "chance": ("--alpha",)},
    "validate": {"count": ("--jobs",), "budget": ("--budget",)},
    "campaign NAME": {"budget": ("--budget",)},
    "compile": {"size": SIZES, "count": ("--jobs",), "span": ("--timeout",), "budget": ("--budget",)},
    "compare A B": {"allowance": ("--threshold",)},
}
WRONG = {
    "size": ("0", "128,", ",128", "1.5", "1_000", "9" * 20, str(2**31), *NUMBERS),
    "count": ("0", "2.0", "9" * 20, *NUMBERS),
    "index": ("1.5", "9" * 20, *NUMBERS),
    "chance": ("0", "1", "1.5", *NUMBERS),
    "seed": ("1.5", "9" * 20, *NUMBERS),
    "span": ("0", "0.0", "1e10", *NUMBERS),
    "pause": ("1e10", *NUMBERS),
    "allowance": ("100", "1e3", *NUMBERS),
    "budget": ("0", "0s", "5 m", "-3s", "9" * 30 + "h", *NUMBERS),
    "some_of": ("", "nosuch", "spills,", "spills,nosuch", "x" * 300),
    "shard": ("0/2", "3/2", "1/0", "1", "1/2/3", "1/" + "9" * 20, *NUMBERS),
}
GIVEN = [(command, flag, kind) for command, kinds in FLAGS.items() for kind, flags in kinds.items() for flag in flags]


@pytest.mark.parametrize(("command", "flag", "kind"), GIVEN)
def test_a_wrong_number_is_one_line(command: str, flag: str, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    for word in WRONG[kind]:
        assert main([*command.split(), f"{flag}={word}"]) == 2, word
        out, err = capsys.readouterr()
        assert not out
        assert len(err.splitlines()) == 1, err
        assert flag in err, word
        assert len(err) < 200


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("bench --op nosuch --out", "argument --out: an empty path; name a file or folder"),
        ("bench --resume", "argument --resume: an empty path"),
        ("bench --extend", "argument --extend: an empty path"),
        ("check --op nosuch --out", "argument --out: an empty path"),
        ("report results/amd-epyc-2c/cpu --out", "argument --out: an empty path"),
        ("crossover", "argument RUN: an empty path"),
        ("bench --op nosuch --preset", "argument --preset: an empty name; remove the flag for the default"),
    ],
)
@pytest.mark.parametrize("word", ["", " "])
def test_an_empty_word_is_no_folder_and_no_preset(
    command: str, said: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # The operator is unknown: nothing is measured where the word is taken.
    assert main([*command.split(), word]) == 2
    assert said in capsys.readouterr().err


def test_every_number_of_every_command_is_listed_above() -> None:
    """A flag that has a type of argparse's own would take NaN, or a number that no clock takes."""
    from suite.cli import COMMANDS

    listed = {(command.split()[0], flag) for command, flag, _ in GIVEN}
    for command in COMMANDS:
        (commands,) = (each for each in parser(command)._actions if isinstance(each, argparse._SubParsersAction))
        for action in commands.choices[command]._actions:
            assert action.type not in (int, float), (command, action.dest)
            if getattr(action.type, "__module__", "") == values.__name__ and action.type not in (
                values.words,
                values.filled,
            ):
                assert any((command, flag) in listed for flag in action.option_strings), (command, action.dest)


@pytest.mark.parametrize(
    ("kind", "word", "found"),
    [
        ("size", "2147483647", 2**31 - 1),
        ("size", "0128", 128),
        ("sizes", "128, 512", (128, 512)),
        ("sizes", "128,128", (128,)),
        ("head_dims", "64,32x16", ((64, 64), (32, 16))),
        ("count", "1", 1),
        ("index", "0", 0),
        ("seed", "4294967295", 2**32 - 1),
        ("span", "1e3", 1000.0),
        ("span", ".5", 0.5),
        ("pause", "0", 0.0),
        ("budget", "1h30m", 5400.0),
        ("shard", "2/4", (2, 4)),
        ("words", "a, b", ("a", "b")),
    ],
)
def test_right_words(kind: str, word: str, found: object) -> None:
    assert getattr(values, kind)(word) == found


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--head-dim", "64x"], "'64x' is not a head dim; write K or KxV"),
        (["--head-dim", "64x64x64"], "'64x64x64' is not a head dim"),
        (["--op", "linear_attention,"], "has an empty entry"),
        (["--impl", ","], "has an empty entry"),
        (["--shape", "T=8,T=16"], "T is given twice"),
        (["--shape", "T=" + "9" * 20], "is too large"),
        (["--axis", "causal=yes,"], "has an empty entry"),
        (["--axis", "causal=yes", "--axis", "causal=no"], "causal is given twice"),
        (["--initial-state", "maybe"], "--initial-state maybe: write yes, no"),
        (["--batch", "999999999999"], "the largest is 2147483647"),
        (["--batch", "99999999", "--seq-len", "99999"], "B = 99999999 is too large: q [B, T, H, K] would have"),
        (["--heads", "99999999", "--pass", "decode", "--head-dim", "999"], "H = 99999999 is too large: the state"),
        (["--mode", "warm-cpu,"], "has an empty entry"),
    ],
)
def test_wrong_lists_and_shapes(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--preset", "smoke", *words]) == 2
    out, err = capsys.readouterr()
    assert said in err
    assert len(err.splitlines()) == 1, err
    assert not out
