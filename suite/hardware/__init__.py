"""This machine: datasheet figures of GPUs, and the environment that is stored with a run."""
