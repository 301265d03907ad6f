"""Simulated latency under regression test: baselines, what moved from them, and what is to blame."""
