"""Plain PyTorch baselines and adapters to the libraries people would use instead; they import only the specs."""
