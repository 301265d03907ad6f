"""A timeline of a run for Perfetto: kernels, memories, links, steps and requests as trace events."""
