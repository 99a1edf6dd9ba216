"""The GRU in PyTorch: torch.gru (cuDNN on a GPU), a loop over tokens, and a decode step."""

from __future__ import annotations

import torch

from baselines.cells.lstm.cells import register
from kernels.cells.gru.spec import CELL, gru

register(gru, CELL, torch.gru)
