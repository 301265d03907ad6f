"""A serving run in the layout of measured ones, for tests to change."""

MODEL = {
    "name": "meta-llama/Llama-3.1-8B-Instruct",
    "num_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_kv_heads": 8,
    "head_dim": 128,
    "ffn_intermediate_size": 14336,
    "ffn_kind": "swiglu",
    "vocab_size": 128256,
    "moe": None,
}
EXPERIMENT = {
    "schema_version": 1,
    "experiment_id": "one",
    "scored": True,
    "system": {
        "gpu": "H100",
        "num_gpus": 1,
        "tensor_parallel": 1,
        "gpu_facts": {"memory_gb": 80, "memory_bw_gb_s": 3350},
    },
    "engine": {"version": "0.15.1", "max_num_seqs": 8, "max_num_batched_tokens": 2048, "prefix_caching": True},
    "model": MODEL,
    "workload": {
        "kind": "general",
        "stages": [{"rate_rps": 4, "duration_s": 5}],
        "system_prompt_tokens_nominal": 100,
        "question_tokens_nominal": 400,
        "output_tokens_requested": 20,
        "unique_prompts": 10,
        "prompt_groups": 2,
    },
    "measured": {"ttft_mean_s": 0.02, "itl_mean_s": 0.007, "num_requests": 20},
    "peers": {"other": {"predicted": {"ttft_mean_s": 0.03}}},
}
