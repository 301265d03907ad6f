"""One seat, one token a request: the engine is a queue that theory knows."""

import itertools

import pytest

from builders import build_model, build_simulation

NUM_REQUESTS = 2500


def build_queue(*, arrivals, num_requests, **changes):
    """Return an engine that serves one request at a time, each in one step of fixed time."""
    return build_simulation(
        efficiency="ideal",  # calibrated steps vary a little with where the KV lies
        model=build_model(layers=1).model_dump(mode="json", by_alias=True),
        serving__max_num_seqs=1,
        workload__arrivals=arrivals,
        workload__output_tokens={"kind": "fixed", "value": 1},
        workload__num_requests=num_requests,
        **changes,
    )


@pytest.fixture(scope="module")
def service():
    """Ticks of the one step."""
    simulation = build_queue(arrivals={"kind": "at_once"}, num_requests=1)
    simulation.run()
    return int(simulation.logs["engine"].ends[0])


@pytest.fixture(scope="module")
def queue(service):
    """A run of Poisson arrivals at utilisation 0.5, and its result."""
    rate = 0.5 / (service * 1e-12)
    simulation = build_queue(arrivals={"kind": "poisson", "rate": f"{rate!r} /s"}, num_requests=NUM_REQUESTS)
    return simulation, simulation.run()


def test_clients_that_think_obey_the_interactive_response_time_law():
    """Throughput times (response + think time) is the number of clients, and utilisation throughput times service.

    Reference: Denning and Buzen, 1978, "The operational analysis of queueing network models".
    """
    think_s, clients = 4e-3, 6
    arrivals = {"kind": "closed", "concurrency": clients, "think_time": {"kind": "exponential", "mean": f"{think_s} s"}}
    simulation = build_queue(arrivals=arrivals, num_requests=NUM_REQUESTS, detail="step")
    stats = simulation.run().metrics
    ends = simulation.logs["engine"].ends
    rate = NUM_REQUESTS / (int(ends[-1]) * 1e-12)
    assert rate * (stats.e2e.mean + think_s) == pytest.approx(clients, rel=0.05)


def test_every_wait_is_lindleys(queue, service):
    """Request by request the start is the later of its arrival and the end of the one before; to the tick."""
    rows = queue[0].requests.rows
    free = 0
    for arrival, scheduled in zip(rows["arrival_ps"].tolist(), rows["scheduled_ps"].tolist(), strict=True):
        assert scheduled == max(arrival, free)
        free = scheduled + service


def test_the_mean_wait_is_that_of_m_d_1(queue, service):
    """At utilisation 0.5 the mean wait is rho s / (2 (1 - rho)) = s / 2, within the 95 % interval of the run.

    The interval, by batch means over 2500 requests, must be narrow enough to tell: within 15 % of the mean.
    Reference: Kleinrock, 1975, "Queueing Systems", volume 1, Pollaczek-Khinchin formula.
    """
    stats = queue[1].metrics.queue
    low, high = stats.mean_ci95
    assert low <= service * 1e-12 / 2 <= high
    assert high - low <= 0.3 * stats.mean


def test_littles_law(queue):
    """The time-average of requests in the system is the arrival rate times their mean time in it."""
    rows, ends = queue[0].requests.rows, queue[0].logs["engine"].ends
    changes = sorted([(int(tick), 1) for tick in rows["arrival_ps"]] + [(int(tick), -1) for tick in ends])
    levels = itertools.accumulate(change for _, change in changes)
    area = sum(
        level * (after[0] - now[0]) for level, (now, after) in zip(levels, itertools.pairwise(changes), strict=False)
    )
    assert area == int((ends - rows["arrival_ps"]).sum())


def test_requests_at_once_wait_for_those_before_them(service):
    """Of requests that come together the n-th waits n services."""
    simulation = build_queue(arrivals={"kind": "at_once"}, num_requests=20)
    simulation.run()
    assert simulation.requests.rows["scheduled_ps"].tolist() == [n * service for n in range(20)]
