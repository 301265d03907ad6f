"""DRAM timings: what a standard's command rules cost, in cycles of its command clock.

Source of every value not said to be fitted: the timing presets of ramulator2 v2.1 (commit c5b1c3a4), which follow the
JEDEC standards where those are public; vendors' parts differ. Values marked *fitted* were read off 377 runs of that
simulator on one channel (`tests/data/hbm_efficiency.csv`); `docs/memory.md` shows how.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gpusim.spec.device import DramStandard

ATOM_BYTES: Final = 32
"""Bytes of one burst; the same in all of these standards."""


@dataclass(frozen=True, slots=True)
class DramTimings:
    """Structure and timings of one pseudo-channel; times in command-clock cycles.

    ``*_s`` holds between different bank groups, ``*_l`` within one.
    """

    burst: int
    """tBL: cycles of the data bus per atom."""
    ccd_l: int
    """tCCD_L: between reads of one bank group; between groups a read may follow every `burst`."""
    rcd: int
    rp: int
    ras: int
    rc: int
    rrd_s: int
    faw: int
    wtr_l: int
    rtw: int
    cwl: int
    rfc: int
    """tRFC: all-bank refresh."""
    refi: int
    bank_groups: int
    banks_per_group: int
    stack_ids: int
    """Ranks of a stack, each with its own banks."""
    row_atoms: int
    command_cycles: float
    """Row-command bus for one activate and its precharge, times the pseudo-channels that share the bus."""
    queue_atoms: int
    """Reads of one pseudo-channel its controller can reorder; a property of the measurement, not of the standard."""
    phases: int = 1
    """*Fitted*: sets of banks that equally spaced streams fall into."""
    row_hits_limited: bool = False
    """*Fitted*: a waiting precharge closes a row once tRAS is over, though more reads of it wait."""
    refresh_stall: float | None = None
    """*Fitted*: fraction of time lost to per-bank refresh where no request is steered round it; None: not measured."""

    @property
    def activate(self) -> float:
        """Cycles between activates: different groups, four in a window, or the command bus."""
        return max(self.rrd_s, self.faw / 4, self.command_cycles)

    @property
    def row_turn(self) -> int:
        """Cycles a bank needs from the end of one row to the first read of the next."""
        return self.rp + self.rcd

    @property
    def turnaround(self) -> int:
        """Cycles the data bus rests per change to writes and back."""
        return self.rtw + self.cwl + self.burst + self.wtr_l

    @property
    def num_banks(self) -> int:
        """Banks of the pseudo-channel."""
        return self.bank_groups * self.banks_per_group * self.stack_ids

    @property
    def hits_per_activate(self) -> int:
        """Reads that one opening of a row can serve."""
        return (self.ras - self.rcd) // self.ccd_l + 1 if self.row_hits_limited else self.row_atoms


HBM2: Final = DramTimings(  # 8 Gb, 2.4 Gb/s, tCK 0.833 ns
    burst=2, ccd_l=4, rcd=17, rp=17, ras=40, rc=57, rrd_s=5, faw=19, wtr_l=10, cwl=6, rfc=421, refi=4682,
    rtw=24,  # fitted: the preset has none
    bank_groups=4, banks_per_group=4, stack_ids=1, row_atoms=32, command_cycles=2 * (2 + 1), queue_atoms=32,
    refresh_stall=0.125,
)  # fmt: skip
HBM3: Final = DramTimings(  # 16 Gb 8-high, 6.4 Gb/s, tCK 0.625 ns
    burst=2, ccd_l=4, rcd=31, rp=26, ras=45, rc=72, rrd_s=4, faw=24, wtr_l=10, cwl=10, rfc=560, refi=6240, rtw=20,
    bank_groups=4, banks_per_group=4, stack_ids=2, row_atoms=32, command_cycles=2 * (1.5 + 0.5), queue_atoms=64,
    refresh_stall=0.265,
)  # fmt: skip
HBM4: Final = DramTimings(  # 32 Gb 8-high, 8 Gb/s, tCK 0.5 ns
    burst=2, ccd_l=4, rcd=39, rp=33, ras=57, rc=90, rrd_s=5, faw=30, wtr_l=13, cwl=10, rfc=900, refi=7800, rtw=25,
    bank_groups=2, banks_per_group=8, stack_ids=2, row_atoms=32, command_cycles=2 * (1.5 + 0.5), queue_atoms=64,
    phases=2, refresh_stall=0.3,
)  # fmt: skip
GDDR6: Final = DramTimings(  # 8 Gb x16, 14 Gb/s, tCK 0.570 ns
    burst=2, ccd_l=4, rcd=30, rp=30, ras=60, rc=90, rrd_s=11, faw=43, wtr_l=11, cwl=6, rfc=211, refi=3333,
    rtw=10,  # fitted: the preset has none
    bank_groups=4, banks_per_group=4, stack_ids=1, row_atoms=64, command_cycles=1 + 1, queue_atoms=64,
    row_hits_limited=True,
)  # fmt: skip

TIMINGS: Final[dict[DramStandard, DramTimings]] = {
    "HBM2": HBM2,
    "HBM2e": HBM2,  # the same protocol and core timings at a higher pin rate and density
    "HBM3": HBM3,
    "HBM3e": HBM3,  # likewise; its vendor timings are not public
    "HBM4": HBM4,
    "GDDR6": GDDR6,
    "GDDR6X": GDDR6,  # the same banks and 32 B atom behind another line code
    "GDDR7": GDDR6,  # no usable preset is public; the atom and the bank groups are the same
}
"""Timings of each standard gpusim knows; those without a measured set use their ancestor's."""
