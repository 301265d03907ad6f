"""Fitting the parameters of laws on measured kernels, and writing them into a device file."""
