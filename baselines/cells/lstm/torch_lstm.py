"""The LSTM in PyTorch: torch.lstm (cuDNN on a GPU), a loop over tokens, and a decode step."""

from __future__ import annotations

import torch

from baselines.cells.lstm.cells import register
from kernels.cells.lstm.spec import CELL, lstm

register(lstm, CELL, torch.lstm)
