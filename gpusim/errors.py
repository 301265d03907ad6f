"""Every error gpusim raises on purpose.

GpusimError
├── SpecError         a file or a value the user wrote is wrong
├── TopologyError     the graph of the machine cannot do what is asked of it
├── CapacityError     something does not fit into memory
└── SimulationError   the simulation cannot go on (nothing can run, or an invariant broke)

The command line prints the message of a `GpusimError` without a traceback and exits with 2.
"""

from __future__ import annotations


class GpusimError(Exception):
    """Root of all errors with a message meant for the user: what, where, how to fix it."""


class SpecError(GpusimError):
    """A scenario, catalog, topology or trace file is wrong; the message lists all its problems."""


class TopologyError(GpusimError):
    """The topology has no route, or lacks a device, that the scenario needs."""


class CapacityError(GpusimError):
    """Weights or KV cache do not fit; the message gives both numbers and the way out."""


class SimulationError(GpusimError):
    """The simulation cannot make progress."""
