"""Efficiency of DRAM access patterns in closed form: achieved fraction of the peak rate of a pseudo-channel.

Fitted on our own runs of a cycle-accurate DRAM simulator (`tests/data/hbm_efficiency.csv`); `docs/memory.md` derives
each term and gives the errors. A device's memory has *one* streaming efficiency, measured or `streaming_efficiency`;
everything else here is meant as a factor relative to it (`pattern_factor`), so that no effect counts twice.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from gpusim.core.arrays import FloatArray
from gpusim.hardware.dram_timings import ATOM_BYTES, TIMINGS, DramTimings
from gpusim.spec.device import DramStandard

Mapping: TypeAlias = Literal["bgint", "bg2", "rowlin"]
"""Where consecutive atoms of a pseudo-channel go: round all bank groups, round two, or along a row of one."""
Refresh: TypeAlias = Literal["none", "all_bank", "per_bank"]

_CONTROLLER: Final = 0.99
"""Fitted: what the controller leaves on the table in the best of cases."""
_SHARPNESS: Final = 8.0
"""Fitted: order of the smooth maximum of data-bus and activate time."""
_LOOKAHEAD: Final = 1.5
"""Fitted: exponent of how a queue that sees few row changes ahead loses the means to hide them."""
_OVERLAP: Final = 0.8
"""Fitted: share of what the queue sees of the next bank that proceeds at once (1 in the fluid limit)."""
_SAME_GROUP: Final = 0.8
"""Fitted: share of a row that meets a row of its own bank group and is read at tCCD_L."""
_SATURATION: Final = 4.0
"""Fitted: order of the smooth minimum of overlapped streams and the data bus."""
_DRAIN_ATOMS: Final = 0.6 * 64 / 2
"""Writes per pseudo-channel and drain: a queue of 64 for two, between its watermarks 0.8 and 0.2."""


def streaming_efficiency(standard: DramStandard) -> float:
    """Return achieved / peak on long sequential reads, with all-bank refresh."""
    return float(random_fragments(TIMINGS[standard], np.inf))


def pattern_factor(
    standard: DramStandard,
    fragment_bytes: npt.ArrayLike,
    *,
    write_share: npt.ArrayLike = 0.0,
    mapping: Mapping = "bg2",
) -> FloatArray:
    """Return the rate of a pattern relative to long sequential reads, at most 1.

    Args:
        standard: JEDEC family.
        fragment_bytes: Contiguous bytes *per pseudo-channel*: 2 KiB laid over eight channels are 256 B fragments.
        write_share: Fraction of the bytes that are written.
        mapping: How atoms are laid over bank groups.
    """
    timings = TIMINGS[standard]
    efficiency = with_writes(timings, random_fragments(timings, fragment_bytes, mapping=mapping), write_share)
    return np.minimum(1.0, efficiency / random_fragments(timings, np.inf, mapping=mapping))


def random_fragments(
    timings: DramTimings,
    fragment_bytes: npt.ArrayLike,
    *,
    mapping: Mapping = "bg2",
    refresh: Refresh = "all_bank",
    conflicts: float = 1.0,
) -> FloatArray:
    """Return the efficiency of reading contiguous fragments at random places.

    Args:
        timings: Of the standard.
        fragment_bytes: Contiguous bytes per pseudo-channel, any shape; infinite for sequential reads.
        mapping: How atoms are laid over bank groups.
        refresh: Refresh policy.
        conflicts: Chance of finding a bank in use, relative to random places.
    """
    atoms = np.maximum(1.0, np.asarray(fragment_bytes, dtype=np.float64) / ATOM_BYTES)
    groups = _groups(timings, mapping)
    hits = np.clip(atoms / groups, 1.0, timings.row_atoms)
    cycles = _smooth_max(timings.burst, timings.activate / hits)

    conflict_cycles = conflicts * groups / timings.num_banks * timings.row_turn
    hidden = np.minimum(1.0, (atoms / timings.queue_atoms) ** _LOOKAHEAD)
    cycles = cycles + conflict_cycles * hidden / atoms
    if groups == 1:
        meets = conflicts * _SAME_GROUP / (timings.bank_groups * timings.stack_ids)
        rows = atoms / timings.row_atoms
        cycles = cycles + meets * (timings.ccd_l - timings.burst) * np.minimum(rows, rows**-2)
    return np.asarray(_ceiling(timings, refresh) * timings.burst / cycles)


def interleaved_streams(
    timings: DramTimings,
    num_streams: int,
    turn_bytes: float,
    *,
    aligned: bool,
    mapping: Mapping = "bg2",
    refresh: Refresh = "all_bank",
) -> float:
    """Return the efficiency of sequential streams that take turns.

    Args:
        timings: Of the standard.
        num_streams: Streams, each in rows of its own.
        turn_bytes: Bytes per pseudo-channel of one stream before the next has its turn.
        aligned: All streams are in the same bank at the same time, the worst case; else they are anywhere.
        mapping: How atoms are laid over bank groups.
        refresh: Refresh policy.
    """
    if num_streams == 1:
        return float(random_fragments(timings, np.inf, mapping=mapping, refresh=refresh))
    if aligned:
        return _ceiling(timings, refresh) * _aligned_speed(timings, num_streams, turn_bytes / ATOM_BYTES, mapping)
    merged = max(turn_bytes, 2 * timings.queue_atoms / num_streams * ATOM_BYTES)
    conflicts = 1 - 1 / num_streams
    return float(random_fragments(timings, merged, mapping=mapping, refresh=refresh, conflicts=conflicts))


def with_writes(timings: DramTimings, read_efficiency: npt.ArrayLike, write_share: npt.ArrayLike) -> FloatArray:
    """Return the efficiency of a pattern when *write_share* of its bytes are written, in drained batches.

    Neither all reads nor all writes ever turn the bus round.
    """
    read, share = np.asarray(read_efficiency, dtype=np.float64), np.asarray(write_share, dtype=np.float64)
    lost = np.where(share < 1.0, share * timings.turnaround / (_DRAIN_ATOMS * timings.burst), 0.0)
    return np.asarray(read / (1.0 + lost))


def _aligned_speed(timings: DramTimings, num_streams: int, turn_atoms: float, mapping: Mapping) -> float:
    """Fraction of the data bus that streams fighting for the rows of the same banks can use."""
    groups = _groups(timings, mapping)
    window, burst = timings.queue_atoms, timings.burst
    if turn_atoms < groups:
        # The banks of later turns open while the first is still busy: a closed queue of batches in order.
        batch = turn_atoms * min(groups / turn_atoms, 1 + 2 * window / (num_streams * turn_atoms))
        hits = 1.0
    else:
        batch = max(turn_atoms, min(2 * window / (num_streams * timings.phases), timings.hits_per_activate * groups))
        hits = batch / groups
    cycles = max(timings.rc, timings.row_turn + max(hits * timings.ccd_l, batch * burst))
    # Two groups saturate the data bus, so the queue looks ahead over the rows of at most two banks.
    ahead = 2 * window / (num_streams * timings.row_atoms * min(groups, 2))
    speed = timings.phases * (1 + _OVERLAP * ahead**_LOOKAHEAD) * batch * burst / cycles
    return float((1 + speed**-_SATURATION) ** (-1 / _SATURATION))


def _groups(timings: DramTimings, mapping: Mapping) -> int:
    return {"bgint": timings.bank_groups, "bg2": 2, "rowlin": 1}[mapping]


def _smooth_max(one: float, other: FloatArray) -> FloatArray:
    return np.asarray(one * (1 + (other / one) ** _SHARPNESS) ** (1 / _SHARPNESS))


def _ceiling(timings: DramTimings, refresh: Refresh) -> float:
    """Fraction of time in which data can move at all."""
    if refresh == "none":
        return _CONTROLLER
    if refresh == "all_bank":
        return _CONTROLLER * (1 - (timings.rfc + timings.row_turn) / timings.refi)
    if timings.refresh_stall is None:
        raise ValueError("per-bank refresh was not measured for this standard; use all_bank")
    return _CONTROLLER * (1 - timings.refresh_stall)
