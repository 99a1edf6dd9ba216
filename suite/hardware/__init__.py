"""What this machine is: datasheet figures of GPUs, and the environment that a run is stored with."""
