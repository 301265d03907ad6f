"""Models by their Hugging Face ``config.json``: a module for each family, named in `FAMILIES`.

What the file leaves out is what the model's class in `transformers` takes. RoPE scaling is not applied: the longest
request is `max_position_embeddings`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from gpusim.spec.document import Document
from gpusim.spec.huggingface.deepseek import deepseek_v2, deepseek_v3
from gpusim.spec.huggingface.experts import llama4, llama4_with_images, mixtral, qwen3_moe
from gpusim.spec.huggingface.falcon import falcon
from gpusim.spec.huggingface.gemma import gemma2, gemma3, gemma3_with_images
from gpusim.spec.huggingface.generation import sampling_from_config
from gpusim.spec.huggingface.gpt import bloom, gpt2, gpt_neox, gptj, opt
from gpusim.spec.huggingface.gpt_oss import TAKES, gpt_oss
from gpusim.spec.huggingface.llama import internlm2, llama, mistral, qwen2, qwen3
from gpusim.spec.huggingface.reader import Family, Reader
from gpusim.spec.model import ModelSpec
from gpusim.spec.yaml_files import read_document

FAMILIES: Final[dict[str, Family]] = {
    "llama": Family(llama),
    "mistral": Family(mistral),
    "qwen2": Family(qwen2),
    "qwen3": Family(qwen3),
    "phi3": Family(mistral),
    "granite": Family(llama),
    "internlm2": Family(internlm2),
    "gemma2": Family(gemma2),
    "gemma3_text": Family(gemma3),
    "gemma3": Family(gemma3_with_images),
    "gpt_oss": Family(gpt_oss, TAKES),
    "mixtral": Family(mixtral, frozenset({"num_local_experts"})),
    "qwen3_moe": Family(qwen3_moe, frozenset({"num_experts"})),
    "deepseek_v2": Family(deepseek_v2, frozenset({"n_routed_experts", "kv_lora_rank"})),
    "deepseek_v3": Family(deepseek_v3, frozenset({"n_routed_experts", "kv_lora_rank", "quantization_config"})),
    "llama4_text": Family(llama4, frozenset({"num_local_experts"})),
    "llama4": Family(llama4_with_images),
    "falcon": Family(falcon),
    "bloom": Family(bloom),
    "gpt2": Family(gpt2),
    "gptj": Family(gptj),
    "gpt_neox": Family(gpt_neox),
    "opt": Family(opt),
}
"""How configurations are read, by `model_type`."""
_ARCHITECTURE: Final = re.compile("(ForCausalLM|LMHeadModel)$")
"""How the names of architectures end that predict the next token."""
_GENERATION: Final = "generation_config.json"


def is_config(data: dict[str, Any]) -> bool:
    """Say whether *data* is a Hugging Face configuration rather than a model file of gpusim."""
    return "layers" not in data and ("model_type" in data or "architectures" in data)


def model_from_config(document: Document) -> ModelSpec:
    """Translate the ``config.json`` in *document*, with the ``generation_config.json`` beside it, if there is one.

    Raises:
        SpecError: With everything that is missing, wrong or not yet modelled, by key and line.
    """
    reader = Reader(document)
    name = _family(reader)
    family = FAMILIES.get(name) if name else None
    reader.refuse_absent_features(family.takes if family else ())
    if family is None:
        raise document.error(reader.problems)
    build = family.read(reader)
    if reader.problems:
        raise document.error(reader.problems)
    beside = document.folder / _GENERATION
    fields = build()
    if Path(document.label).name == "config.json" and beside.is_file():
        fields["generation"] = sampling_from_config(read_document(beside))
    return ModelSpec(name=_name(document), source="; ".join([document.label, *reader.notes]), **fields)


def _family(reader: Reader) -> str | None:
    """Return the family by `model_type`, else by the name of the architecture."""
    known = ", ".join(FAMILIES)
    model_type = reader.get("model_type")
    if isinstance(model_type, str) and model_type in FAMILIES:
        return model_type
    if model_type is not None:
        reader.problem("model_type", f"not yet: {model_type}; gpusim reads {known}")
        return None
    architectures = reader.get("architectures")
    first = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    family = _ARCHITECTURE.sub("", first).lower()
    # GPTNeoXForCausalLM is of the family gpt_neox.
    known_as = {name.replace("_", ""): name for name in FAMILIES}
    if family in known_as and family != first.lower():
        return known_as[family]
    if first:
        reader.problem("architectures", f"not yet: {first}; gpusim reads {known}")
    else:
        reader.problem("model_type", f"this key is required; gpusim reads {known}")
    return None


def _name(document: Document) -> str:
    """Return the model's own name, else that of its folder or file."""
    path = Path(document.label)
    stem = path.absolute().parent.name if path.stem == "config" else path.stem
    return str(document.data.get("_name_or_path") or stem).rstrip("/").rsplit("/", 1)[-1]
