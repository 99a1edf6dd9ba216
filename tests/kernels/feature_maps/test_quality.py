"""The command that measures how far a feature map is from softmax attention."""

from __future__ import annotations

import pytest
import torch

from kernels.feature_maps.projections import orthogonal
from kernels.feature_maps.quality import approximation_error, main
from kernels.feature_maps.registry import FeatureMap, map_named


def draw(T: int, K: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(T, K, generator=generator, dtype=torch.float64) for _ in range(3)]


@pytest.mark.parametrize("causal", [True, False])
def test_features_of_the_exponential_itself_are_exact(causal: bool) -> None:
    """In one dimension exp(q k) is a sum of q^n k^n / n!: so many terms leave nothing."""
    orders = torch.arange(60, dtype=torch.float64)
    scale = torch.exp(-torch.lgamma(orders + 1) / 2)
    exponential = FeatureMap("exponential", "none", lambda x: x**orders * scale)
    assert approximation_error(exponential, *draw(40, 1), causal=causal) < 1e-10


def test_more_features_and_smaller_scores_come_nearer() -> None:
    q, k, v = draw(60, 16)
    errors = []
    for M in (16, 4096):
        projection = orthogonal(torch.Generator().manual_seed(1), M, 16, "float64")
        errors.append(approximation_error(map_named("favor"), q / 2, k / 2, v, projection))
    assert errors[1] < 0.5 * errors[0]
    taylor = map_named("taylor")
    assert approximation_error(taylor, q / 4, k / 4, v) < 0.01 < approximation_error(taylor, q, k, v)


def test_the_table_has_a_row_a_map_and_number_of_features(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--maps=relu,favor", "--seq-len=16,32", "--features=8,64", "--head-dim=4", "--seeds=1"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[0] == "| map | features | T = 16 | T = 32 |"
    assert [row.split("|")[1:3] for row in rows[2:]] == [[" relu ", " 4 "], [" favor ", " 8 "], [" favor ", " 64 "]]


@pytest.mark.parametrize(
    ("flags", "words"), [("--maps rleu", "did you mean 'relu'"), ("--seq-len 0", "integers above 0")]
)
def test_bad_input_is_one_line(flags: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(flags.split()) == 2
    found = capsys.readouterr()
    assert words in found.err
    assert not found.out
