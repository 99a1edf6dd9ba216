"""A function that changes nothing, for tests that give it a backward pass of their own."""

from __future__ import annotations

import torch


class Identity(torch.autograd.Function):
    """Its output is its input; a subclass says what its gradient is."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)
