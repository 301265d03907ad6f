"""Measured runs of serving engines, simulated from their inputs alone.

A folder in the layout of ``data/serving`` (`layout`) holds one JSON file for each experiment: machine, engine, model,
workload, and what was measured. `scenarios` turns the inputs into a scenario, `predictions` runs it, `scores` holds the
metrics against what was measured and against what others predicted.
"""
