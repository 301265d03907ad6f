"""What several test files share."""

from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


def shared_data(name: str) -> Path:
    """Return the path of a measured data file, or skip the test where the data is not at hand."""
    path = REPOSITORY.parent / "shared" / "data" / name
    if not path.exists():
        pytest.skip(f"measured data {name} is not at hand")
    return path
