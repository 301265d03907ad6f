"""Engines and background traffic of a plan, put together on a cluster."""
