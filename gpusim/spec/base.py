"""Spec: the base of everything a user can write."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

from gpusim.errors import SpecError

NEWEST_SCHEMA = 1
"""The file schema this version writes; older ones are read, newer ones refused."""


class Spec(BaseModel):
    """An immutable statement; unknown keys and NaN are errors."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        populate_by_name=True,
    )


def _check_schema(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        if value > NEWEST_SCHEMA:
            raise ValueError(
                f"schema {value} is newer than this gpusim reads ({NEWEST_SCHEMA}); install a newer gpusim"
            )
        if value < 1:
            raise ValueError(f"schemas count from 1, not {value}")
    return value


SchemaNumber = Annotated[int, BeforeValidator(_check_schema)]

Dtype = Literal["fp32", "bf16", "fp16", "fp8", "int8", "int4", "mxfp4"]

WeightDtype = Dtype | Literal["fp8_block"]
"""Stored type of weights; `fp8_block`: fp8 scaled in blocks of 128 x 128."""

DTYPE_BYTES: dict[str, float] = {
    "fp32": 4.0,
    "bf16": 2.0,
    "fp16": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    "int4": 0.5,
    "mxfp4": 4.25 / 8,  # with its scales: 8 bits for 32 elements of 4 (OCP Microscaling Formats, 2023)
}
"""Bytes of one stored element; scales of other quantised formats (1 to 3 %) are left out."""


def not_yet(what: str) -> ValueError:
    """Return the error that refuses a key whose feature is planned but absent."""
    return ValueError(f"not yet: {what}")


__all__ = ["DTYPE_BYTES", "NEWEST_SCHEMA", "Dtype", "SchemaNumber", "Spec", "SpecError", "WeightDtype", "not_yet"]
