"""Where model and hardware meet: laws of kernels and collectives, and the executor of steps."""
