"""What the steps of an outlook read in layers with a window: sums over requests that their total context does not tell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpusim.core.arrays import FloatArray, IntArray
from gpusim.model.window import NO_WINDOWS, Windows, WindowShapes, pairs_in_window, tokens_in_window
from gpusim.serving.kv_cache import Tenures
from gpusim.serving.outlook import Outlook, RunColumns


def windows_of(outlook: Outlook, runs: RunColumns, windows: Sequence[int]) -> Windows:
    """Return what every step of *outlook* reads in layers with each of *windows*; costs steps + requests + chunks each."""
    if not windows:
        return NO_WINDOWS
    tenures = Tenures.of(outlook)
    steps = np.arange(outlook.num_steps)
    run = np.searchsorted(runs.first, steps, side="right") - 1
    context = np.array(outlook.decode_context)[run] + runs.num_decodes[run] * (steps - runs.first[run])
    chunks = np.array([(step, new, computed + new) for step, _, computed, new in outlook.chunks], dtype=np.int64)
    rounds = outlook.steps_of(np.arange(outlook.num_steps - len(outlook.pauses)))
    return {window: _window_shapes(context, rounds, tenures, chunks.reshape(-1, 3), window) for window in windows}


def _window_shapes(
    context: IntArray, rounds: IntArray, tenures: Tenures, chunks: IntArray, window: int
) -> WindowShapes:
    number = len(context)
    step, new, end = chunks.T
    read, pairs = tokens_in_window(new, end, window), pairs_in_window(new, end, window)
    in_window = context.copy()
    in_window[rounds] -= beyond_window(tenures, len(rounds), window)
    return WindowShapes(in_window, _whole(step, read, number), _sums(step, pairs, number))


def beyond_window(tenures: Tenures, num_rounds: int, window: int) -> IntArray:
    """Return the tokens of all decoding requests that each round leaves out: the sum of max(0, context - window), (rounds,).

    From the round in which a request outgrows the window to its last one it leaves out one token more a round, ``offset +
    round``: the number of such requests and the sum of their offsets are all that is to be counted.
    """
    begin = tenures.begin + np.maximum(window - tenures.cached, 0)
    outgrows = begin < tenures.end
    begin, end = begin[outgrows], tenures.end[outgrows]
    offset = (tenures.cached - tenures.begin)[outgrows] + 1 - window
    rows = np.concatenate((begin, end))
    number = _whole(rows, np.repeat([1, -1], len(begin)), num_rounds + 1).cumsum()
    offsets = _whole(rows, np.concatenate((offset, -offset)), num_rounds + 1).cumsum()
    left_out: IntArray = (offsets + number * np.arange(num_rounds + 1))[:-1]
    return left_out


def _sums(rows: IntArray, values: IntArray, number: int) -> FloatArray:
    """Add up whole *values* by row; exact, since floats hold whole numbers up to 2^53."""
    sums: FloatArray = np.bincount(rows, values, number).astype(np.float64, copy=False)
    return sums


def _whole(rows: IntArray, values: IntArray, number: int) -> IntArray:
    return _sums(rows, values, number).astype(np.int64)
