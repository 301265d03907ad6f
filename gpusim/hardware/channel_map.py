"""Channel map: on which memory channel an address lies, and how evenly a hash spreads what lies where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gpusim.core.arrays import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class ChannelMap:
    """Granules of contiguous bytes dealt out to channels.

    ``rotate``: granule j of stripe s (one granule per channel) lies on channel ``(j + s + s // C + s // C² + ...) mod
    C``: each stripe is skewed by one against the last, each C stripes by one more, so that no power-of-two stride
    camps on a few of C channels. ``hash``: the channel is a hash of the granule's number.

    Real address hashes are not public; `rotate` has what they are for, an even spread of long ranges.
    """

    kind: Literal["rotate", "hash"]
    num_channels: int
    granule: int
    """Bytes."""

    def histogram(self, starts: IntArray, ends: IntArray) -> FloatArray:
        """Return the bytes on each channel of all ranges together, shape (num_channels,).

        Args:
            starts: (n,) First byte of each range, not negative.
            ends: (n,) The byte behind its last. Bytes in two ranges count twice.
        """
        if self.kind == "hash":
            by_channel: FloatArray = self._count_granules(starts, ends, np.zeros_like(starts), 1)[0]
            return by_channel
        stripe, first, rest = self._place(np.stack([ends, starts]))
        full, part = np.divmod(rest, self.granule)
        # A run of full granules from the skewed first channel on and a part of one behind it, entered as differences
        # between slots; runs may go round once.
        slots = np.empty((3, *rest.shape), dtype=np.int64)
        steps = np.empty(slots.shape)
        slots[0] = first + np.array([[0], [2 * self.num_channels]])
        slots[1] = slots[0] + full
        slots[2] = slots[1] + 1
        steps[0] = self.granule
        steps[1] = part - self.granule
        steps[2] = -part
        runs = np.bincount(slots.ravel(), steps.ravel(), 4 * self.num_channels).reshape(4, self.num_channels)
        upper, lower = runs[:2], runs[2:]
        counted: FloatArray = (upper - lower).ravel().cumsum().reshape(2, -1).sum(axis=0)
        return counted + self.granule * int(stripe[0].sum() - stripe[1].sum())

    def histograms(self, starts: IntArray, ends: IntArray) -> FloatArray:
        """Return the bytes on each channel of each range, shape (n, num_channels); see `histogram`."""
        number = len(starts)
        # Where ranges are much shorter than a stripe, counting their granules beats filling in every channel.
        if self.kind == "hash" or (ends - starts).sum() * 4 < number * self.num_channels * self.granule:
            return self._count_granules(starts, ends, np.arange(number), number)
        counted: FloatArray = (self._below(ends) - self._below(starts)).astype(np.float64)
        return counted

    def changes(
        self, rows: IntArray, num_rows: int, starts: IntArray, ends: IntArray, signs: IntArray | None = None
    ) -> IntArray:
        """Return the bytes on each channel of all ranges of each row, shape (num_rows, num_channels).

        Args:
            rows: (n,) Row of each range.
            num_rows: Rows of the result.
            starts: (n,) First byte of each range, not negative.
            ends: (n,) The byte behind its last.
            signs: (n,) Factor of its bytes, 1 or -1; None: 1.
        """
        first, end = starts // self.granule, ends // self.granule
        # Whole granules are only counted; a part of one would have to be weighed.
        if self.kind == "hash" or (first * self.granule != starts).any() or (end * self.granule != ends).any():
            return self._count_granules(starts, ends, rows, num_rows, signs).astype(np.int64)
        if signs is not None:
            first, end = np.where(signs > 0, (first, end), (end, first))
        elif len(first) and (end - first == 1).all():
            return self._count_singles(rows, num_rows, first) * self.granule
        return self._count_runs(rows, num_rows, first, end) * self.granule

    def _count_singles(self, rows: IntArray, num_rows: int, granule: IntArray) -> IntArray:
        places = self.channel_of(granule) * num_rows + rows
        return np.bincount(places, None, num_rows * self.num_channels).reshape(self.num_channels, num_rows).T

    def _count_runs(self, rows: IntArray, num_rows: int, first: IntArray, end: IntArray) -> IntArray:
        """Count granules of ranges: those below their ends less those below their starts.

        Below a granule lie whole stripes, alike on all channels, and a run of channels from its stripe's first one on.
        A run is entered as the edges between which it lies, and once more at channel 0 if it goes round. Sums over
        channels run fastest where rows are next to each other.
        """
        number, channels = len(first), self.num_channels
        stripe, begin, edge = self._runs_below(np.concatenate((end, first)))
        goes_round = edge >= channels
        edge -= channels * goes_round
        begin *= num_rows
        begin[:number] += rows
        begin[number:] += rows
        edge *= num_rows
        edge[:number] += rows
        edge[number:] += rows
        up = np.concatenate((begin[:number], edge[number:], rows[goes_round[:number]]))
        down = np.concatenate((begin[number:], edge[:number], rows[goes_round[number:]]))
        edges = np.bincount(up, None, num_rows * channels)
        edges -= np.bincount(down, None, num_rows * channels)
        counted: IntArray = edges.reshape(channels, num_rows).cumsum(axis=0)
        stripes = stripe[:number] - stripe[number:]
        if stripes.any():
            counted += np.rint(np.bincount(rows, stripes, num_rows)).astype(np.int64)
        return counted.T

    def _runs_below(self, granule: IntArray) -> tuple[IntArray, IntArray, IntArray]:
        """Return the whole stripes below each granule, and the run below it in its own: first channel and end."""
        stripe = granule // self.num_channels
        begin = self._skew(stripe)
        begin -= begin // self.num_channels * self.num_channels
        return stripe, begin, begin + granule - stripe * self.num_channels

    def channel_of(self, granule: IntArray) -> IntArray:
        """Return the channel of each granule, by its number."""
        if self.kind == "hash":
            hashed: IntArray = (_splitmix64(granule) % np.uint64(self.num_channels)).astype(np.int64)
            return hashed
        channel = self._runs_below(granule)[2]
        channel -= self.num_channels * (channel >= self.num_channels)
        return channel

    def _place(self, addresses: IntArray) -> tuple[IntArray, IntArray, IntArray]:
        """Return the stripe of each address, its first channel, and the bytes from the stripe's begin."""
        stripe, rest = np.divmod(addresses, self.num_channels * self.granule)
        return stripe, self._skew(stripe) % self.num_channels, rest

    def _below(self, addresses: IntArray) -> IntArray:
        """Return the bytes on each channel below each address, shape (n, num_channels)."""
        stripe, first, rest = self._place(addresses)
        slot = np.arange(self.num_channels) - first[:, None]
        slot += self.num_channels * (slot < 0)
        below: IntArray = np.clip(rest[:, None] - self.granule * slot, 0, self.granule)
        below += self.granule * stripe[:, None]
        return below

    def _count_granules(
        self, starts: IntArray, ends: IntArray, rows: IntArray, num_rows: int, signs: IntArray | None = None
    ) -> FloatArray:
        """Return the bytes on each channel, (num_rows, num_channels), by going through the granules of all ranges."""
        first = starts // self.granule
        counts = np.maximum(0, -(-ends // self.granule) - first)
        of = np.repeat(np.arange(len(starts)), counts)
        granule = np.arange(len(of)) - np.repeat(np.cumsum(counts) - counts, counts) + first[of]
        low = np.maximum(granule * self.granule, starts[of])
        high = np.minimum((granule + 1) * self.granule, ends[of])
        slots = rows[of] * self.num_channels + self.channel_of(granule)
        size = high - low if signs is None else (high - low) * signs[of]
        sums = np.bincount(slots, weights=size, minlength=num_rows * self.num_channels)
        counted: FloatArray = np.asarray(sums, dtype=np.float64).reshape(num_rows, self.num_channels)
        return counted

    def _skew(self, stripe: IntArray) -> IntArray:
        """Return by how many channels each stripe is turned."""
        if self.num_channels == 1:
            return np.zeros_like(stripe)
        skew, part = stripe.copy(), stripe
        for _ in range(_num_digits(int(stripe.max(initial=0)), self.num_channels) - 1):
            part = part // self.num_channels
            skew += part
        return skew


def hash_imbalance(granules_per_channel: float, num_channels: int) -> float:
    """Return the expected load of the fullest channel over the mean when granules are hashed.

    ``E[max] / mean = (1 / λ) Σ_{k ≥ 0} (1 - F(k; λ)^C)`` with λ granules per channel, Poisson distribution function F
    and C channels. Independent Poisson loads stand for the multinomial ones: within 2 % for C of 32 to 192.
    """
    mean = granules_per_channel
    count = np.arange(1, int(mean + 12 * np.sqrt(mean) + 50))
    log_probability = np.concatenate([[0.0], np.cumsum(np.log(mean / count))]) - mean
    above = np.cumsum(np.exp(log_probability)[::-1])[::-1][1:]  # P(load > k)
    some_above = -np.expm1(num_channels * np.log1p(-np.minimum(above, 1.0 - 1e-16)))
    return float(some_above.sum()) / mean


def _num_digits(number: int, base: int) -> int:
    digits = 1
    while number >= base:
        number //= base
        digits += 1
    return digits


def _splitmix64(number: IntArray) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
    """Mix the bits of each number (Steele, Lea and Flood, 2014, "Fast splittable pseudorandom number generators")."""
    mixed = number.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
