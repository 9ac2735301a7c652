"""Tiny random models of further architectures, by their config."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMaskedLM,
    PreTrainedModel,
)

_TOKENS = {"vocab_size": 400, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
_USUAL = {
    **_TOKENS,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "max_position_embeddings": 128,
}
_GROUPED = {**_USUAL, "num_key_value_heads": 2, "head_dim": 8}
_LATENT = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8}
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_routed_experts": 4, "n_shared_experts": 1}
_VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 14,
}
_DEEPSEEK = {
    **_USUAL,
    "num_key_value_heads": 4,
    **_LATENT,
    **_EXPERTS,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
_LLAMA4 = {
    **_GROUPED,
    "num_local_experts": 4,
    "num_experts_per_tok": 1,
    "intermediate_size_mlp": 64,
    "interleave_moe_layer_step": 2,
    "attention_chunk_size": 8,
    "no_rope_layers": [1, 1, 1, 0],
}
_GEMMA3N = {
    **_GROUPED,
    "sliding_window": 8,
    "vocab_size_per_layer_input": 400,
    "hidden_size_per_layer_input": 8,
    "num_kv_shared_layers": 0,
    "laurel_rank": 4,
    "altup_num_inputs": 4,
    "activation_sparsity_pattern": [0.0] * 4,
    "intermediate_size": [64] * 4,
    "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
}
_JAMBA = {
    **_USUAL,
    "num_key_value_heads": 2,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "attn_layer_offset": 1,
    "attn_layer_period": 2,
    "expert_layer_period": 2,
    "expert_layer_offset": 1,
    "mamba_d_state": 8,
    "mamba_dt_rank": 4,
    "use_mamba_kernels": False,
}
_MLLAMA_VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_global_layers": 1,
    "attention_heads": 4,
    "image_size": 28,
    "patch_size": 14,
    "vision_output_dim": 96,
    "intermediate_layers_indices": [0, 1],
    "max_num_tiles": 1,
    "supported_aspect_ratios": [[1, 1]],
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": _GROUPED,
    "fnet": _USUAL,
    "bert": _USUAL,
    "convbert": {**_USUAL, "embedding_size": 16},
    "mobilebert": {**_USUAL, "true_hidden_size": 16, "embedding_size": 16, "intra_bottleneck_size": 16},
    "nystromformer": {**_USUAL, "num_landmarks": 8, "segment_means_seq_len": 8},
    "electra": {**_USUAL, "embedding_size": 16},
    "deepseek_v2": _DEEPSEEK,
    "deepseek_v3": {**_DEEPSEEK, "n_group": 2},
    "minicpm3": {**_USUAL, "num_key_value_heads": 4, **_LATENT},
    "phimoe": {**_USUAL, "num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2},
    "llama4_text": _LLAMA4,
    "mamba": {**_TOKENS, "hidden_size": 32, "state_size": 8, "num_hidden_layers": 4},
    "jamba": _JAMBA,
    "modernbert-decoder": {**_USUAL, "local_attention": 8},
    "gemma3n_text": _GEMMA3N,
    "opt": {**_USUAL, "ffn_dim": 64, "word_embed_proj_dim": 16, "do_layer_norm_before": False},
    "gpt2": {**_TOKENS, "n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 128},
    "ctrl": {**_TOKENS, "n_embd": 32, "dff": 64, "n_layer": 4, "n_head": 4, "n_positions": 128},
    "smolvlm": {
        "text_config": {**_GROUPED, "model_type": "llama"},
        "vision_config": _VISION,
        "image_token_id": 5,
        "scale_factor": 2,
    },
    "gemma3": {
        "text_config": {
            **_GROUPED,
            "model_type": "gemma3_text",
            "sliding_window": 8,
            "query_pre_attn_scalar": 8,
            "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
        },
        "vision_config": {**_VISION, "model_type": "siglip_vision_model"},
        "mm_tokens_per_image": 4,
        "image_token_index": 5,
        "boi_token_index": 4,
        "eoi_token_index": 3,
    },
    "paligemma": {
        "text_config": {**_GROUPED, "model_type": "gemma"},
        "vision_config": {**_VISION, "model_type": "siglip_vision_model", "projection_dim": 32},
        "image_token_index": 5,
        "projection_dim": 32,
    },
    "mllama": {
        "text_config": {**_GROUPED, "model_type": "mllama_text_model", "cross_attention_layers": [1]},
        "vision_config": _MLLAMA_VISION,
        "image_token_index": 5,
    },
}


def build(name: str, **config: Any) -> PreTrainedModel:
    """A random model in evaluation mode, with the head for its kind of loss if it has one."""
    settings = AutoConfig.for_model(name, **{**CONFIGS[name], **config})
    kinds = (AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForMaskedLM)
    kind = next((kind for kind in kinds if type(settings) in kind._model_mapping), AutoModel)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: PreTrainedModel = kind.from_config(settings)
        for parameter in model.parameters():
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    model.tie_weights()
    return model.float().eval()
