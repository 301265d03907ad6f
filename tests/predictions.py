"""Times that the laws predict when others take a part of memory or links, worked out by hand in plain floats."""

from __future__ import annotations

import numpy as np

from gpusim.core.clock import seconds
from gpusim.runtime.program import TimedKernel


def law_s(kernel, step, bytes_s):
    """Seconds of a kernel whose bytes took *bytes_s*: fixed + (other^p + memory^p)^(1/p), in plain floats."""
    terms, row = kernel.terms, min(step, len(kernel.ticks) - 1)
    other_s, memory_s, p = float(terms.other_s[row]), bytes_s + float(terms.l2_s[row]), terms.smoothness
    body_s = max(other_s, memory_s) if np.isinf(p) else (other_s**p + memory_s**p) ** (1 / p)
    return float(terms.fixed_s[row]) + body_s


def service_s(kernel, step):
    """Seconds of service that a kernel needs of its fullest memory channel."""
    return float(np.max(kernel.demand_s[min(step, len(kernel.ticks) - 1)]))


def predicted_s(timed, *, memory_left=1.0, link_slowdown=1.0):
    """Seconds of each step when others leave kernels a part of their memory and stretch collectives' bytes."""
    steps = []
    for step in range(timed.program.steps):
        kernels_s = sum(law_s(o, step, service_s(o, step) / memory_left) for o in kernels_of(timed))
        collectives = [o for o in timed.operations if not isinstance(o, TimedKernel)]
        steps.append(kernels_s + sum(o.fixed_s + link_slowdown * o.link_s for o in collectives))
    return steps


def kernels_of(timed):
    return [operation for operation in timed.operations if isinstance(operation, TimedKernel)]


def step_s(result):
    """Seconds of each step of a run."""
    return [seconds(int(length)) for length in np.diff(result.ends, prepend=result.start)]


def uneven(steps, channels, seed):
    """KV spread over channels at random."""
    return np.random.default_rng(seed).dirichlet(np.full(channels, 3.0), size=steps)
