"""Settings of single families that the rules of `shrinking` do not find, and further variants of some families."""

from __future__ import annotations

from typing import Any

from recipes.model_page.shrinking import WIDTH

_MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
_MROPE_TEXT = {"text_config": {"rope_parameters": _MROPE}}
#: Half of the rotated numbers of a head are shared out among time, height and width.
_PARTIAL_MROPE = {
    "rope_type": "default",
    "rope_theta": 10000.0,
    "partial_rotary_factor": 1.0,
    "mrope_section": [2, 1, 1],
}
_PARTIAL_MROPE_TEXT = {"text_config": {"rope_parameters": _PARTIAL_MROPE}}
_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
_ROPE_BY_TYPE = {"full_attention": _ROPE, "sliding_attention": _ROPE}
_VQ = {"embed_dim": 32, "num_embeddings": 64, "base_channels": 32, "latent_channels": 32, "channel_multiplier": [1, 1]}
_QWEN4 = {
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 8,
    "indexer_budget": 8,
    "indexer_compress_ratio": 4,
}
_MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_expand": 2}

OVERRIDES: dict[str, dict[str, Any]] = {
    "bamba": _MAMBA,
    "granitemoehybrid": {**_MAMBA, "layer_types": ["mamba", "attention"] * 2},
    "mamba2": {"num_heads": 8, "head_dim": 8, "expand": 2},
    "deepseek_v2": {
        "num_experts_per_tok": 2,
        "n_routed_experts": 4,
        "topk_method": "greedy",
        "n_group": 1,
        "topk_group": 1,
    },
    "esm": {"vocab_size": 400, "mask_token_id": 3, "position_embedding_type": "rotary", "token_dropout": False},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "glm4v": _PARTIAL_MROPE_TEXT,
    "glm46v": _PARTIAL_MROPE_TEXT,
    "glm4v_moe": _PARTIAL_MROPE_TEXT,
    "glm_ocr": _PARTIAL_MROPE_TEXT,
    "glmga": _PARTIAL_MROPE_TEXT,
    "qwen2_vl": _MROPE_TEXT,
    "qwen2_5_vl": _MROPE_TEXT,
    "paddleocr_vl": _MROPE_TEXT,
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "reformer": {
        "is_decoder": True,
        "attn_layers": ["local", "lsh"] * 2,
        "axial_pos_embds": False,
        "local_attn_chunk_length": 8,
        "lsh_attn_chunk_length": 8,
        "num_buckets": 2,
    },
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
    "zaya": {"num_experts_per_tok": 1},
    "zamba": {
        "num_hidden_layers": 8,
        "attn_layer_period": 4,
        "attn_layer_offset": 2,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "n_mamba_heads": 2,
        "mamba_dt_rank": 4,
        "use_mamba_kernels": False,
    },
    "zamba2": {
        "layers_block_type": ["mamba", "hybrid"] * 2,
        "layer_types": ["mamba", "hybrid"] * 2,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "n_mamba_heads": 8,
        "mamba_headdim": 8,
        "use_mamba_kernels": False,
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
        "ffn_config": {"ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2, "hidden_size": 32},
    },
    "esmc": {"num_key_value_heads": 4},
    "longcat_flash": {"head_dim": 4},
    "cohere_compass": {"text_config": {"rope_parameters": _ROPE_BY_TYPE}},
    "cohere_compass_text": {"rope_parameters": _ROPE_BY_TYPE},
    "chameleon": {"vocabulary_map": {"<image>": 5}, "vq_config": _VQ},
    "janus": {"vq_config": _VQ},
    "step3p7": {"text_config": {"sliding_window": 8}},
    "qwen4_exp": {"text_config": _QWEN4},
    "qwen4_exp_text": _QWEN4,
    "blt": {
        "encoder_hash_byte_group_vocab": 100,
        "patch_size": 4,
        "encoder_config": {"hidden_size_global": WIDTH},
        "decoder_config": {"hidden_size_global": WIDTH},
    },
    "florence2": {
        "vision_config": {
            "depths": [1] * 4,
            "embed_dim": [16, 16, 32, 32],
            "num_heads": [2] * 4,
            "num_groups": [2] * 4,
            "patch_size": [7, 3, 3, 3],
        }
    },
    "molmo2": {"adapter_config": {"vision_feature_layer": [1, 0]}},
    "hy_v4_vl": {"text_config": {"qk_rope_head_dim": 8, "rope_parameters": {**_MROPE, "mrope_section": [2, 1, 1]}}},
    "cosmos3_edge": {"text_config": {"rope_parameters": {**_MROPE, "mrope_section": [2, 1, 1]}}},
    "neomme": {"rope_parameters": {kind: {**_ROPE, "partial_rotary_factor": 0.5} for kind in _ROPE_BY_TYPE}},
    "qwen2_5_omni_thinker": {"vision_start_token_id": 6, "text_config": {"rope_parameters": _MROPE}},
    "qwen3_omni_moe_thinker": {"vision_start_token_id": 6, "text_config": {"rope_parameters": _MROPE}},
    "hunyuan_vl": {"text_config": {"rope_parameters": {**_ROPE, "xdrope_section": [1, 1, 1, 1]}}},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
}

#: Name of a variant: its family, and its settings.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert (decoder)": ("bert", {"is_decoder": True}),
    "roberta (decoder)": ("roberta", {"is_decoder": True}),
    "falcon (ALiBi)": ("falcon", {"alibi": True, "new_decoder_architecture": False, "multi_query": True}),
    "opt (350m)": ("opt", {"word_embed_proj_dim": 16, "do_layer_norm_before": False}),
    "gpt2 (tied, scaled by layer)": ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
    "llama (tied)": ("llama", {"tie_word_embeddings": True}),
    "gemma2 (soft caps)": ("gemma2", {"final_logit_softcapping": 3.0, "attn_logit_softcapping": 5.0}),
    "mistral (no window)": ("mistral", {"sliding_window": None}),
    "granite (scaled)": ("granite", {"embedding_multiplier": 12.0, "residual_multiplier": 0.22, "logits_scaling": 8.0}),
    "deepseek_v2 (lite)": ("deepseek_v2", {"q_lora_rank": None}),
    "big_bird (full attention)": ("big_bird", {"attention_type": "original_full"}),
    "xlnet (bidirectional)": ("xlnet", {"attn_type": "bi"}),
    "t5 (gated)": ("t5", {"feed_forward_proj": "gated-gelu"}),
    "deberta-v2 (v3)": (
        "deberta-v2",
        {
            "relative_attention": True,
            "pos_att_type": ["c2p", "p2c"],
            "position_buckets": 16,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "type_vocab_size": 0,
        },
    ),
}
