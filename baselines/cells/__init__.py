"""Baselines of recurrent cells: LSTM and GRU."""
