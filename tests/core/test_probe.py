"""Probes: what they see, and that they change nothing."""

from gpusim.core.clock import Clock, ticks
from gpusim.core.component import Component
from gpusim.core.probe import Probe, RecordingProbe


def run_worker(probes=None):
    """Run a component that works twice for 1 us; return its clock and it."""
    clock = Clock()
    worker = Component(clock, "node0.gpu0.copy", probes)

    def work():
        for turn in range(2):
            start = clock.now
            yield clock.timeout(ticks(1e-6))
            worker.emit("copy", start, turn=turn)
            worker.count("queue", 1 - turn)

    clock.run(clock.env.process(work()))
    return clock, worker


def test_a_recording_probe_sees_spans_and_counters_in_seconds():
    """Spans carry place, kind, start, end and arguments; counters place, kind, time and value."""
    probe = RecordingProbe()
    run_worker([probe])
    assert probe.spans == [
        ("node0.gpu0.copy", "copy", 0.0, 1e-6, {"turn": 0}),
        ("node0.gpu0.copy", "copy", 1e-6, 2e-6, {"turn": 1}),
    ]
    assert probe.counters == [("node0.gpu0.copy", "queue", 1e-6, 1), ("node0.gpu0.copy", "queue", 2e-6, 0)]


def test_probes_change_nothing():
    """A run ends at the same tick without a probe, with one that does nothing, and with two that record."""
    ends = [run_worker(probes)[0].now for probes in (None, [Probe()], [RecordingProbe(), RecordingProbe()])]
    assert ends == [2_000_000] * 3


def test_components_without_a_shared_list_do_not_share_probes():
    """The default list of probes is each component's own."""
    (_, one), (_, other) = run_worker(), run_worker()
    one.probes.append(RecordingProbe())
    assert other.probes == []


def test_a_probe_attached_late_sees_the_rest():
    """The list is read at each span, so appending to the shared list is attaching."""
    probes, probe = [], RecordingProbe()
    _, worker = run_worker(probes)
    probes.append(probe)
    worker.emit("copy", 0)
    assert probe.spans == [("node0.gpu0.copy", "copy", 0.0, 2e-6, {})]
