"""Stage: the processes of a timeline, made when something first happens in them, and tracks for spans that overlap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gpusim.simulation import Simulation
from gpusim.trace.events import EventWriter, Track

COMPUTE, MEMORY, LINKS = 0, 1, 100
"""Order of the tracks of a node: kernels, memory by stack, links."""
STEPS, REQUESTS = 0, 1
"""Order of the tracks of an engine."""
RATE: Final = "bytes/s"
"""What counters of memories and links are in."""
_NODES: Final = 1000
"""Order of the first node among processes; engines come before."""


class Lanes:
    """Spans of one place that may overlap: on one track, and on further ones beside it where they do.

    Args:
        writer: Gets the events.
        pid: Process of the place.
        name: Of the first track.
        order: Of the tracks.
    """

    def __init__(self, writer: EventWriter, pid: int, name: str, order: int) -> None:
        self._writer = writer
        self._pid = pid
        self._name = name
        self._order = order
        self._tracks: list[tuple[Track, int]] = []
        """Each with the end of its last span."""

    def take(self, start: int, end: int) -> Track:
        """Return a track on which a span may follow what is there."""
        for place, (track, last_end) in enumerate(self._tracks):
            if last_end <= start:
                self._tracks[place] = track, end
                return track
        name = f"{self._name} ({len(self._tracks) + 1})" if self._tracks else self._name
        track = self._writer.track(self._pid, name, self._order)
        self._tracks.append((track, end))
        return track

    def span(self, name: str, start: int, end: int, args: Mapping[str, Any]) -> None:
        """Write a span that has none in it."""
        track = self.take(start, end)
        self._writer.begin(track, name, start, args)
        self._writer.end(track, end)


class Stage:
    """The processes: one for every engine, and one for every GPU, host, switch and memory pool on which anything happens.

    Of folded ranks only the one that is played is there, and says for how many it stands.

    Args:
        writer: Gets their names.
        simulation: That is traced.
    """

    def __init__(self, writer: EventWriter, simulation: Simulation) -> None:
        self.writer = writer
        self.cluster = simulation.cluster
        self.engines = tuple(simulation.engines)
        self._nodes = list(self.cluster.graph)
        self._played_for = simulation.played_for()
        hidden = {gpu for others in self._played_for.values() for gpu in others}
        self._shown_gpus = self.cluster.gpus.keys() - hidden
        links = self.cluster.fabric.links
        self._source_of = {link.name: link.source for link in links if not {link.source, link.target} & hidden}
        self.memories = {bank.name: node for node, bank in self.cluster.banks.items() if node not in hidden}
        """Node of each memory bank that is shown, by the name of the bank."""
        self._pids: dict[tuple[str, str], int] = {}

    def engine(self, name: str) -> int:
        """Return the process of an engine."""
        title = name if name == "engine" else f"engine {name}"
        return self._pid("engine", name, title, self.engines.index(name))

    def node(self, name: str) -> int:
        """Return the process of a node."""
        return self._pid("node", name, self._title(name), _NODES + self._nodes.index(name))

    def is_shown(self, gpu: str) -> bool:
        """Tell whether *gpu* is a GPU, and not one for which another is played."""
        return gpu in self._shown_gpus

    def link_source(self, link: str) -> str | None:
        """Return the node in whose process a link direction is; None if it is not shown."""
        return self._source_of.get(link)

    def _pid(self, kind: str, name: str, title: str, order: int) -> int:
        key = kind, name
        if key not in self._pids:
            self._pids[key] = len(self._pids) + 1
            self.writer.process(self._pids[key], title, order)
        return self._pids[key]

    def _title(self, node: str) -> str:
        others = self._played_for.get(node)
        return f"{node} (of {1 + len(others)} alike)" if others else node
