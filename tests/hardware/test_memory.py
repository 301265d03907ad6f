"""The memory bank: closed forms of sharing, conservation, continuity and capacity."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusim.core.clock import Clock, ticks
from gpusim.core.probe import RecordingProbe
from gpusim.errors import CapacityError
from gpusim.hardware.bandwidth_use import BandwidthUse, of_memories
from gpusim.hardware.channel_map import hash_imbalance
from gpusim.hardware.dram import streaming_efficiency
from gpusim.hardware.memory import MemoryBank
from gpusim.spec.device import AggregateMemorySpec, ChannelMemorySpec
from gpusim.units import TB, GiB, ms, us
from machines import count_events

PICOSECOND = 1e-12


def build_bank(channels=2, probes=None, ideal=False, **spec):
    """Return a bank with sane defaults on a clock of its own."""
    known = {"capacity": 80 * GiB, "bandwidth": 2 * TB, "efficiency": 0.5}
    spec = ChannelMemorySpec(kind="channels", standard="HBM2e", channels=channels, **(known | spec))
    return MemoryBank(Clock(), "gpu0.memory", spec, ideal=ideal, probes=probes)


def at(bank, time_s, call):
    """Do *call* at *time_s*."""
    bank.clock.timeout(ticks(time_s)).callbacks.append(lambda _: call())


def play(bank, joins):
    """Run transfers that join at (time_s, demand_s); return them in that order and check what must hold always."""
    transfers = [None] * len(joins)

    def join(index, demand_s):
        transfers[index] = bank.stream(demand_s, demand_s * 1e9)

    for index, (time_s, demand_s) in enumerate(joins):
        at(bank, time_s, partial(join, index, demand_s))
    bank.clock.run()
    ends = [transfer.done for transfer in transfers]  # one alone on the bank has an event only for who asks
    bank.clock.run()
    assert all(end.processed for end in ends)
    assert np.allclose(bank.channel_bytes_in, bank.channel_bytes_out, rtol=1e-12)
    assert bank.bytes_in == pytest.approx(bank.bytes_out, rel=1e-12)
    assert bank.num_elastic == 0
    assert 0 <= bank.utilisation() <= 1
    return transfers


def elapsed(bank, joins):
    """Return the seconds of each transfer of `play`."""
    return [transfer.elapsed_s for transfer in play(bank, joins)]


@given(st.floats(1e-9, 10), st.booleans())
def test_a_transfer_alone_takes_exactly_its_demand(demand_s, by_channel):
    """Undisturbed, the elapsed time is the law's float and the end its rounding to the clock."""
    bank = build_bank()
    transfer = bank.stream(np.array([demand_s / 3, demand_s]) if by_channel else demand_s, 1.0)
    bank.clock.run(transfer.done)
    assert (transfer.elapsed_s, transfer.disturbed, bank.clock.now) == (demand_s, False, ticks(demand_s))


def test_one_after_the_other_is_undisturbed():
    """A transfer that starts in the tick in which another ends has not shared the bank with it."""
    transfers = play(build_bank(), [(0.0, 0.3), (0.3, 0.7), (1.0, 0.1)])
    assert [(transfer.elapsed_s, transfer.disturbed) for transfer in transfers] == [
        (0.3, False),
        (0.7, False),
        (0.1, False),
    ]


@pytest.mark.parametrize(("asked_at_s", "events"), [(None, 0), (0.0, 2), (0.6, 2), (1.0, 0), (1.2, 0)])
def test_a_transfer_alone_needs_events_only_for_who_waits(asked_at_s, events):
    """Nobody asks: nothing is scheduled, and the books are right at any tick. Asked in time: a wakeup and the end."""
    bank = build_bank()
    transfer = bank.stream(1.0, 5.0)
    for time_s, bytes_out in ((0.5, 0.0), (1.1, 5.0), (1.5, 5.0)):
        at(bank, time_s, partial(check_bytes, bank, bytes_out))
    if asked_at_s is not None:
        at(bank, asked_at_s, lambda: transfer.done)
    assert count_events(bank.clock, bank.clock.run) == events
    assert (transfer.elapsed_s, transfer.disturbed, transfer.done.processed) == (1.0, False, True)


def check_bytes(bank, bytes_out):
    """Check the books in the life of a transfer of 5 bytes."""
    assert (bank.bytes_in, bank.bytes_out, bank.num_elastic) == (5.0, bytes_out, int(bytes_out == 0.0))


@pytest.mark.parametrize("when_s", [0.0, 0.4, 1.0])
def test_what_comes_to_a_transfer_alone_is_felt(when_s):
    """A second transfer or paced traffic that comes before its end slows it from then on; at its end no more."""
    for share in (None, 0.5):
        bank = build_bank()
        first = bank.stream(1.0, 1.0)
        at(bank, when_s, partial(bank.set_paced, share) if share else partial(bank.stream, 9.0, 1.0))
        bank.clock.run(bank.clock.timeout(ticks(2.5)))
        assert first.elapsed_s == pytest.approx(1.0 + (1.0 - when_s), rel=1e-12)
        assert (first.disturbed, bank.bytes_out) == (when_s < 1.0, 1.0)


def test_no_demand_is_done_at_once():
    """Nothing to move takes no time and disturbs nobody."""
    bank = build_bank()
    other = bank.stream(1.0, 5.0)
    nothing = bank.stream(0.0, 0.0)
    assert nothing.done.triggered
    bank.clock.run()
    assert (nothing.elapsed_s, other.elapsed_s, other.disturbed) == (0.0, 1.0, False)


def test_two_equal_transfers_take_twice_as_long():
    """Equal sharing: both end together after the sum of their demands."""
    assert elapsed(build_bank(), [(0.0, 1 * ms), (0.0, 1 * ms)]) == pytest.approx([2 * ms, 2 * ms], rel=1e-12)


def test_a_transfer_that_joins_half_way():
    """The first has half its work left, shares for twice that, and leaves the second its rest alone."""
    assert elapsed(build_bank(), [(0.0, 1.0), (0.5, 1.0)]) == pytest.approx([1.5, 1.5], rel=1e-12)
    assert elapsed(build_bank(), [(0.0, 1.0), (0.5, 0.2)]) == pytest.approx([1.2, 0.4], rel=1e-12)


def test_transfers_on_disjoint_channels_do_not_disturb_each_other():
    """Each runs as if alone, to the last bit, whenever the other comes and goes."""
    left, right = np.array([0.1, 0.0]), np.array([0.0, 0.7])
    transfers = play(build_bank(), [(0.0, left), (0.03, right), (0.2, left)])
    assert [transfer.elapsed_s for transfer in transfers] == [0.1, 0.7, 0.1]
    assert not any(transfer.disturbed for transfer in transfers)


def test_a_transfer_ends_with_its_last_channel():
    """Sharing of one channel matters only as far as that channel is the last."""
    first, second = play(build_bank(), [(0.0, np.array([1.0, 0.2])), (0.0, np.array([0.0, 0.3]))])
    assert first.elapsed_s == pytest.approx(1.0, rel=1e-12)
    assert second.elapsed_s == pytest.approx(0.5, rel=1e-12)
    assert first.disturbed
    assert second.disturbed


def flow_as_fluid(joins, speed, step):
    """End time of each (time, demands) under equal sharing, in small steps of time."""
    left = np.array([demands for _, demands in joins], dtype=float)
    joined = np.array([time for time, _ in joins])
    ends = np.zeros(len(joins))
    now = 0.0
    while (left > 0).any():
        working = (left > 0) & (joined <= now)[:, None]
        left -= step * speed * working / np.maximum(working.sum(axis=0), 1)
        now += step
        ends = np.where((left > 0).any(axis=1), now, ends)
    return ends


JOINS = st.lists(
    st.tuples(st.integers(0, 8), st.lists(st.integers(0, 6), min_size=3, max_size=3).filter(any)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=25, deadline=None)
@given(JOINS, st.sampled_from([0.0, 0.5]))
def test_sharing_matches_a_fluid_in_small_steps(joins, share):
    """The closed form agrees with brute force wherever transfers join, under paced load too."""
    bank = build_bank(channels=3)
    bank.set_paced(share)
    transfers = play(bank, [(float(time), np.array(demands, dtype=float)) for time, demands in joins])
    ends = [time + transfer.elapsed_s for (time, _), transfer in zip(joins, transfers, strict=True)]
    assert ends == pytest.approx(flow_as_fluid(joins, 1 - share, 1 / 32), abs=(len(joins) + 1) / 16)


@settings(max_examples=25)
@given(st.permutations([(0.0, 1.0), (0.0, np.array([0.4, 0.7])), (0.2, 0.1), (0.2, np.array([0.0, 0.9]))]))
def test_the_order_of_joins_at_one_tick_does_not_matter(joins):
    """The same transfers take the same time, bit for bit, in whichever order they are started."""
    taken = {repr(join): seconds for join, seconds in zip(joins, elapsed(build_bank(), joins), strict=True)}
    in_order = sorted(joins, key=repr)
    assert [taken[repr(join)] for join in in_order] == elapsed(build_bank(), in_order)


@settings(max_examples=25)
@given(JOINS)
def test_work_is_conserved_on_a_channel(joins):
    """Transfers on one channel that start together keep it busy for exactly the sum of their demands."""
    demands = [demands[0] + 1.0 for _, demands in joins]
    assert max(elapsed(build_bank(channels=1), [(0.0, demand) for demand in demands])) == pytest.approx(sum(demands))


@given(st.floats(0.01, 0.99))
def test_paced_traffic_stretches_transfers(share):
    """A share p for copies turns t into t / (1 - p)."""
    bank = build_bank()
    bank.set_paced(share)
    [taken_s] = elapsed(bank, [(0.0, 1 * ms)])
    assert taken_s == pytest.approx(1 * ms / (1 - share), rel=1e-12)


def test_paced_traffic_that_comes_and_goes_counts_as_an_integral():
    """A quarter at full speed, a quarter at half speed, the rest at full speed again."""
    bank = build_bank()
    at(bank, 0.25, lambda: bank.set_paced(0.5))
    at(bank, 0.75, lambda: bank.set_paced(0.0))
    [transfer] = play(bank, [(0.0, 1.0)])
    assert transfer.elapsed_s == pytest.approx(1.25, rel=1e-12)
    assert transfer.disturbed


@pytest.mark.parametrize("share", [1e-3, 1e-6, 1e-9, 0.0])
def test_paced_traffic_of_vanishing_rate_changes_nothing(share):
    """Elapsed time is continuous in the paced share, and exact at zero."""
    bank = build_bank()
    at(bank, 0.3, lambda: bank.set_paced(share))
    [transfer] = play(bank, [(0.0, 1.0)])
    assert 0 <= transfer.elapsed_s - 1.0 <= 1.01 * share + (PICOSECOND if share else 0)
    assert transfer.disturbed == (share > 0)


def test_paced_traffic_that_takes_no_time_disturbs_nobody():
    """A share set and taken back within a tick leaves the transfer bit-equal to its law."""
    bank = build_bank()
    at(bank, 0.1, lambda: bank.set_paced(0.9))
    at(bank, 0.1, lambda: bank.set_paced(0.0))
    [transfer] = play(bank, [(0.0, 0.3)])
    assert (transfer.elapsed_s, transfer.disturbed) == (0.3, False)


def test_a_full_paced_share_halts_transfers_until_it_yields():
    """A transfer that finds all time taken waits, without an event, for its part."""
    bank = build_bank()
    bank.set_paced(1.0)
    at(bank, 2.0, lambda: bank.set_paced(0.0))
    assert elapsed(bank, [(0.5, 1.0)]) == pytest.approx([2.5], rel=1e-12)


def test_whoever_paces_can_answer_to_each_change():
    """The hook sees every new number of transfers, and what it sets holds for the transfer that just came."""
    bank, seen = build_bank(), []

    def answer():
        seen.append((bank.clock.now_s, bank.num_elastic))
        bank.set_paced(1.0 / (1 + bank.num_elastic))

    bank.on_elastic_change = answer
    bank.set_paced(1.0)
    taken_s = elapsed(bank, [(0.0, 1.0), (0.0, 1.0)])
    assert taken_s == pytest.approx([3.0, 3.0], rel=1e-12)
    assert seen == [(0.0, 1), (0.0, 2), (3.0, 0)]


def test_a_change_in_the_tick_of_an_end_leaves_that_end_alone():
    """Pacing that begins when a transfer is through no longer slows it."""
    bank = build_bank()
    at(bank, 0.5, lambda: bank.set_paced(0.9))
    [transfer] = play(bank, [(0.0, 0.5)])
    assert (transfer.elapsed_s, transfer.disturbed) == (0.5, False)


def test_bytes_are_counted_by_channel():
    """Accounts grow when a transfer starts and when it ends, on the channels it names."""
    bank = build_bank()
    bank.stream(1.0, np.array([10.0, 30.0]))
    bank.stream(2.0, 8.0)
    assert (bank.bytes_in, bank.bytes_out) == (48.0, 0.0)
    bank.clock.run()
    assert bank.channel_bytes_in.tolist() == bank.channel_bytes_out.tolist() == [14.0, 34.0]
    bank.account_paced(5.0, 0, 1)
    assert bank.paced_bytes == 5.0


def test_busy_time_is_service():
    """A bank is busy for the service it gives: overlapping transfers add up, a paced trickle counts for what it is."""
    bank = build_bank()
    bank.account_paced(0.5 * bank.bandwidth, 0, 1)
    at(bank, 10.0, lambda: None)
    play(bank, [(0.0, 1.0), (0.5, 1.0)])
    assert bank.busy_s() == pytest.approx(2.5, rel=1e-12)
    assert bank.utilisation() == pytest.approx(0.25, rel=1e-12)


def test_probes_see_transfers_and_change_nothing():
    """A span per transfer; the same times with and without."""
    probe, joins = RecordingProbe(), [(0.0, 1.0), (0.5, 1.0)]
    assert elapsed(build_bank(probes=[probe]), joins) == elapsed(build_bank(), joins)
    assert [span[:4] for span in probe.spans] == [
        ("gpu0.memory", "transfer", 0.0, 1.5),
        ("gpu0.memory", "transfer", 0.5, 2.0),
    ]


def test_rates_come_from_measurement_or_from_the_standard():
    """A stated efficiency wins, else the DRAM timings speak; ideal is peak; channels add up."""
    assert build_bank(efficiency=0.8).bandwidth == 0.8 * 2 * TB
    assert build_bank(efficiency=None).bandwidth == streaming_efficiency("HBM2e") * 2 * TB
    assert build_bank(ideal=True).bandwidth == build_bank().peak_bandwidth == 2 * TB
    bank = build_bank(channels=80)
    assert bank.rate * 80 == pytest.approx(bank.bandwidth)


def test_aggregate_memory_is_one_channel_at_nine_tenths():
    """Where nothing is known there is one server, no map, and the middle of measured efficiencies."""
    spec = AggregateMemorySpec(kind="aggregate", capacity=GiB, bandwidth=1 * TB)
    bank = MemoryBank(Clock(), "host0.memory", spec)
    assert (bank.num_channels, bank.channel_map, bank.bandwidth) == (1, None, 0.9 * TB)
    assert elapsed(bank, [(0.0, 1 * us), (0.0, np.array([1 * us]))]) == pytest.approx([2 * us, 2 * us])


def test_capacity_is_enforced():
    """What does not fit is refused with both numbers; what was given back fits again."""
    bank = build_bank()
    bank.reserve(60 * GiB, "weights")
    with pytest.raises(CapacityError, match=r"cache: 30 GiB do not fit into gpu0.memory.*80 GiB.*60 GiB taken.*use"):
        bank.reserve(30 * GiB, "cache")
    bank.release(20 * GiB, "weights")
    bank.reserve(30 * GiB, "cache")
    assert bank.used_bytes == 70 * GiB


@pytest.mark.parametrize("granules", [4, 16, 64])
def test_hashed_granules_are_out_of_balance_as_the_closed_form_says(granules):
    """The mean time of hashed transfers on the clock over that of spread ones is E[max] / mean, within 3 %."""
    draws, size = 200, granules * 80 * 512
    bank = build_bank(channels=80, map="hash")
    starts = np.arange(draws) * size
    loads = bank.channel_map.histograms(starts, starts + size)

    def stream_all():
        for load in loads:
            yield bank.stream(load / bank.rate, load).done

    bank.clock.env.process(stream_all())
    bank.clock.run()
    assert bank.bytes_out == draws * size
    spread_s = draws * size / bank.bandwidth
    assert bank.clock.now_s / spread_s == pytest.approx(hash_imbalance(granules, 80), rel=0.03)


@pytest.mark.parametrize("amounts", [1.0, np.array([0.5, 0.5])])
def test_what_a_transfer_moves_beside_paced_traffic_is_counted_at_each_speed(amounts):
    """100 us of bytes meet traffic that takes 3/4 of the time from 50 us to 90 us: half, a tenth and the rest move."""
    bank = build_bank(efficiency=1.0)
    bank.stream(np.sum(amounts) * 100 * us + 0.0 * amounts, 100 * us * bank.bandwidth * amounts)
    for time_s, share in ((50 * us, 0.75), (90 * us, 0.0)):
        at(bank, time_s, partial(bank.set_paced, share))
    bank.clock.run(bank.clock.timeout(ticks(131 * us)))
    use = BandwidthUse.of(bank.clock.now, {"HBM": of_memories([bank])})
    moved_us = np.interp(
        [50.0, 90.0, 131.0],
        use.edges_ps / 1e6,
        np.append(0.0, np.cumsum(use.parts["HBM"] * np.diff(use.edges_ps) / 1e6)),
    )
    assert moved_us == pytest.approx([50.0, 60.0, 100.0], abs=0.8)
    assert use.parts["HBM"].max() < 1.0 + 1e-9
