"""Measured kernels and collectives, timed by the simulator's own kernel path on an idle machine.

A folder in the layout of ``data/silicon`` (`layout`) holds tables, each of one kind of measurement. A `Family` knows how
rows of a kind become the work of kernels; `bench` times that work; `scores` holds it against what was measured.
"""
