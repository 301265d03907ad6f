"""Workloads by name or path, and traces: found, read and checked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gpusim.errors import SpecError
from gpusim.spec.document import validate
from gpusim.spec.names import read
from gpusim.spec.workload import WorkloadSpec
from gpusim.workload.files import is_trace, locate_trace
from gpusim.workload.replayed import check_use, replayed
from gpusim.workload.shapes import RequestBlock
from gpusim.workload.stream import request_blocks
from gpusim.workload.trace import open_trace


def read_workload(stated: str | WorkloadSpec, folder: Path) -> WorkloadSpec:
    """Return the workload that *stated* means, those it merges read and the paths of traces made absolute.

    Raises:
        SpecError: If there is no such workload or trace, or a trace leaves open what the workload does not say.
    """
    if isinstance(stated, str):
        document = read("workload", stated, folder)
        return read_workload(validate(WorkloadSpec, document), document.folder)
    spec = stated
    if spec.merge is not None:
        return spec.model_copy(update={"merge": [_part(part, folder) for part in spec.merge]})
    if spec.trace is None:
        return spec
    path = locate_trace(spec.trace, folder).resolve()
    check_use(spec, open_trace(path))
    return spec.model_copy(update={"trace": str(path)})


def _part(stated: str | WorkloadSpec, folder: Path) -> WorkloadSpec:
    """Return a workload that is merged with others."""
    spec = read_workload(stated, folder)
    try:
        spec.check_mergeable()
    except ValueError as error:
        raise SpecError(f"merge: {stated if isinstance(stated, str) else spec.name}: {error}") from None
    return spec


def blocks_of(name: str, *, seed: int, folder: Path) -> Iterator[RequestBlock]:
    """Yield the requests of a workload by name or path, or those of a trace as they stand, with or without arrivals.

    Raises:
        SpecError: If there is none, or it is wrong.
    """
    if is_trace(name):
        return replayed(WorkloadSpec(trace=name), open_trace(locate_trace(name, folder)), seed)
    return request_blocks(read_workload(name, folder), seed=seed, folder=folder)
