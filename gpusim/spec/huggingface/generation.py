"""The ``generation_config.json`` beside a ``config.json``: how the model's makers have its tokens drawn."""

from __future__ import annotations

from dataclasses import replace

from gpusim.spec.document import Document, validate
from gpusim.spec.sampling import SamplingSpec


def sampling_from_config(document: Document) -> SamplingSpec:
    """Return what the file in *document* says of sampling; like vLLM, whatever its ``do_sample`` says.

    Raises:
        SpecError: With every value that is impossible, by key and line.
    """
    stated = {key: value for key, value in document.data.items() if key in SamplingSpec.model_fields}
    return validate(
        SamplingSpec, replace(document, data={key: value for key, value in stated.items() if value is not None})
    )
