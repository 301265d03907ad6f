"""gpusim: what latency will each token see, and why?

    import gpusim as gs

    result = gs.simulate(gs.load("chat"))
    print(result.itl.p99)

What `__all__` lists is public; the rest may change. Names are imported when first used, so that importing gpusim
costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpusim.errors import CapacityError, GpusimError, SimulationError, SpecError, TopologyError
    from gpusim.plan import load
    from gpusim.results.comparison import Comparison, compare
    from gpusim.results.result import Result
    from gpusim.results.stored import read_result
    from gpusim.simulation import simulate
    from gpusim.spec.scenario import Scenario
    from gpusim.sweeps import SweepResult, sweep
    from gpusim.version import __version__

_WHERE = {
    "CapacityError": "gpusim.errors",
    "Comparison": "gpusim.results.comparison",
    "GpusimError": "gpusim.errors",
    "Result": "gpusim.results.result",
    "Scenario": "gpusim.spec.scenario",
    "SimulationError": "gpusim.errors",
    "SpecError": "gpusim.errors",
    "SweepResult": "gpusim.sweeps",
    "TopologyError": "gpusim.errors",
    "__version__": "gpusim.version",
    "compare": "gpusim.results.comparison",
    "load": "gpusim.plan",
    "read_result": "gpusim.results.stored",
    "simulate": "gpusim.simulation",
    "sweep": "gpusim.sweeps",
}

__all__ = [
    "CapacityError",
    "Comparison",
    "GpusimError",
    "Result",
    "Scenario",
    "SimulationError",
    "SpecError",
    "SweepResult",
    "TopologyError",
    "__version__",
    "compare",
    "load",
    "read_result",
    "simulate",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'gpusim' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
