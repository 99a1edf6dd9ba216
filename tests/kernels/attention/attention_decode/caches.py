"""Caches for tests of attention over a KV cache: drawn by hand, with garbage wherever nobody may read."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch

from kernels.attention.attention_decode.decode import step_split, step_stream
from kernels.attention.attention_decode.spec import decode
from suite.numerics import difference
from suite.targets import REPRESENTATIVES, Target, aim

STEPS = {"split": step_split, "stream": step_stream}


def with_sms(sms: int) -> AbstractContextManager[Target]:
    """An sm_90 with so many SMs."""
    return aim(replace(REPRESENTATIVES["sm_90"], sms=sms))


@dataclass(frozen=True)
class Cache:
    """A call's tensors: q [B,Q,H,K], the pools, the table, lengths, rows of a page."""

    q: torch.Tensor
    state: tuple[torch.Tensor, torch.Tensor]
    table: torch.Tensor
    lengths: torch.Tensor
    page: int

    def run(self, schedule: str, **words) -> torch.Tensor:
        """What a schedule makes of it."""
        return STEPS[schedule](
            self.q, state=self.state, block_table=self.table, lengths=self.lengths, page=self.page, **words
        )

    def expected(self, **words) -> torch.Tensor:
        """The oracle in float64, on caches whose garbage became 0: table entries beyond a sequence are not read."""
        known = self.table.clamp(0, len(self.state[0]) - 1)
        pools = tuple(pool.double().nan_to_num(0.0) for pool in self.state)
        return decode(self.q.double(), state=pools, block_table=known, lengths=self.lengths, **words)

    def error(self, schedule: str, **words) -> float:
        """Error of a schedule over all sequences; the worst of one sequence where that is larger."""
        found = difference(self.run(schedule, **words), self.expected(**words), token_dim=0)
        return max(found.error, found.token)


def paged(
    seed: int,
    lengths: Sequence[int],
    page: int,
    *,
    shared: int = 0,
    H: int = 2,
    HK: int = 1,
    K: int = 16,
    V: int = 16,
    Q: int = 1,
) -> Cache:
    """Sequences of these lengths in pages in random order; the first `shared` pages are those of the longest sequence.

    What no sequence holds is NaN, in pools and beyond the lengths; unused table entries name no page.
    """
    generator = torch.Generator().manual_seed(seed)
    counts = [-(-length // page) for length in lengths]
    longest = max(range(len(lengths)), key=lambda n: lengths[n])
    order = torch.randperm(sum(counts) + 2, generator=generator)
    table = torch.where(torch.rand(len(lengths), max(*counts, 1), generator=generator) < 0.5, -1, 10**6)
    first, used = 0, torch.zeros(len(order) * page, dtype=torch.bool)
    for n in sorted(range(len(lengths)), key=lambda n: n != longest):
        table[n, : counts[n]] = order[first : first + counts[n]]
        # A page that is shared is whole in both.
        common = min(shared, lengths[n] // page, lengths[longest] // page)
        table[n, :common] = table[longest, :common]
        first += counts[n]
        rows = torch.arange(lengths[n])
        used[table[n, rows // page] * page + rows % page] = True
    pools = [torch.randn(len(order), page, HK, d, generator=generator) for d in (K, V)]
    for pool in pools:
        pool.view(-1, HK, pool.shape[-1])[~used] = float("nan")
    q = torch.randn(len(lengths), Q, H, K, generator=generator)
    return Cache(q, (pools[0], pools[1]), table.int(), torch.tensor(lengths, dtype=torch.int32), page)
