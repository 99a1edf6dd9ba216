"""PyTorch forms of recurrences with a decay per channel, which the baselines of GLA, HGRN-2 and RWKV-6 share."""
