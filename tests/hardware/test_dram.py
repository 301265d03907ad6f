"""The closed form of DRAM efficiency against a cycle-accurate simulator, and its limits."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpusim.hardware.dram import (
    interleaved_streams,
    pattern_factor,
    random_fragments,
    streaming_efficiency,
    with_writes,
)
from gpusim.hardware.dram_timings import GDDR6, HBM2, HBM3, TIMINGS
from gpusim.spec.device import DramStandard

Row = dict[str, str]

with (Path(__file__).parents[1] / "data" / "hbm_efficiency.csv").open() as file:
    ROWS: list[Row] = list(csv.DictReader(file))


def predict(row: Row) -> float:
    """Return the closed form's efficiency for one measured row."""
    timings, how = TIMINGS[row["standard"]], {"mapping": row["mapping"], "refresh": row["refresh"]}
    if row["pattern"].startswith("interleaved"):
        aligned = row["pattern"].endswith("aligned")
        return interleaved_streams(timings, int(row["streams"]), float(row["chunk_B"]), aligned=aligned, **how)
    read = random_fragments(timings, float(row["fragment_B"] or "inf"), **how)
    return float(with_writes(timings, read, float(row["write_frac"] or 0)))


def errors(rows: list[Row]) -> np.ndarray:
    """Return |predicted / measured - 1| of each row."""
    return np.array([abs(predict(row) / float(row["efficiency"]) - 1) for row in rows])


def is_mix(row: Row) -> bool:
    """Whether the row has writes."""
    return row["pattern"].endswith("mix")


@pytest.mark.parametrize(("mapping", "limit"), [("bg2", 0.04), ("bgint", 0.04), ("rowlin", 0.06)])
def test_reads_match_the_cycle_accurate_simulator(mapping, limit):
    """All read patterns and refresh policies of a mapping are met within the stated mean error."""
    assert errors([row for row in ROWS if row["mapping"] == mapping and not is_mix(row)]).mean() <= limit


def test_mixes_of_reads_and_writes_match_the_cycle_accurate_simulator():
    """Sequential and random mixes are met within 8 % in the mean."""
    assert errors([row for row in ROWS if is_mix(row)]).mean() <= 0.08


def test_no_row_of_the_table_is_far_off():
    """No single measurement, the adversarial ones included, is missed by more than 25 %."""
    assert len(ROWS) == 377
    assert errors(ROWS).max() <= 0.25


@pytest.mark.parametrize("standard", get_args(DramStandard))
def test_every_standard_streams_near_its_refresh_limit(standard):
    """Long reads lose what refresh takes and little more."""
    timings = TIMINGS[standard]
    refresh_limit = 1 - timings.rfc / timings.refi
    assert refresh_limit - 0.035 < streaming_efficiency(standard) < refresh_limit


@pytest.mark.parametrize("timings", [HBM2, HBM3, GDDR6])
def test_single_atoms_are_limited_by_activates(timings):
    """One atom per activate moves burst / activate of what streaming could, within the controller's 1 %."""
    limit = (1 - (timings.rfc + timings.rp + timings.rcd) / timings.refi) * timings.burst / timings.activate
    assert random_fragments(timings, 32) == pytest.approx(limit, rel=0.02)


@given(st.floats(32, 1e6), st.floats(0, 0.5), st.sampled_from(get_args(DramStandard)))
def test_no_pattern_beats_sequential_reads(fragment_bytes, write_share, standard):
    """The factor of a pattern is a positive fraction of at most 1, and writes only lower it."""
    factor = pattern_factor(standard, fragment_bytes, write_share=write_share)
    assert 0 < factor <= pattern_factor(standard, fragment_bytes) <= 1


def test_sequential_reads_are_the_unit_of_the_factors():
    """Endless fragments without writes have a factor of exactly 1; arrays keep their shape."""
    assert pattern_factor("HBM3", np.inf) == 1.0
    assert pattern_factor("HBM3", [[256.0, np.inf]], write_share=[[0.0], [0.1]]).shape == (2, 2)


def test_only_writes_never_turn_the_bus():
    """Writes alone run as reads alone do."""
    assert with_writes(HBM3, 0.9, 1.0) == with_writes(HBM3, 0.9, 0.0) == 0.9


def test_per_bank_refresh_of_gddr_is_refused():
    """What was not measured is not guessed."""
    with pytest.raises(ValueError, match="not measured"):
        random_fragments(GDDR6, 256, refresh="per_bank")
