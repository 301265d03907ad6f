"""Requests, KV blocks, schedulers and engines."""
