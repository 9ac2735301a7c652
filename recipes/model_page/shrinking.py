"""Tiny configurations of any family of transformers, from the defaults of its config class.

Sizes in a config have regular names, so that a short list of rules makes most of the families small. Where a rule does
not fit, `overrides` has other values.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

from transformers import PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

LAYERS, WIDTH, HEADS, VOCABULARY, CONTEXT = 4, 32, 4, 400, 512
BOS, PAD, EOS = 0, 1, 2
#: First id of further special tokens.
FIRST_TOKEN = 5
#: Names of settings, and their values; the first that fits counts.
RULES: tuple[tuple[str, Any], ...] = (
    (r"(decoder_start|sep|cls|mask|unk)_token_id", 3),
    (r"pad_token_id|pad_index|padding_idx", PAD),
    (r"bos_token_id|bos_index", BOS),
    (r"eos_token_id|eos_index", EOS),
    (r".*(?<!type_)vocab_size|n_words|vocab_size_per_layer_input", VOCABULARY),
    (
        r"max_position_embeddings|max_(en|de)coder_position_embeddings|n_positions|n_ctx|max_seq_len|context_length",
        CONTEXT,
    ),
    (r"(v_|qk_|qk_nope_|index_|value_|key_|global_|linear_key_|linear_value_|attention_|swa_|kv_)?head_(dim|size)", 8),
    (
        r"(global_)?head_dim|attention_head_dim|d_kv|d_head|kv_channels|v_head_dim|mamba_(d_)?head(_)?dim|ssm_head_dim",
        8,
    ),
    (r"qk_rope_head_dim|rotary_dim|qk_pos_dim", 4),
    (r"(num_|n_)(key_value|kv)_heads|multi_query_group_num|.*num_(key_value|global_key_value)_heads|attn_kv_heads", 2),
    (r"(.*_)?(num_)?attention_heads|n_heads?|num_heads|.*num_(query_|value_)?heads|.*linear_num_value_heads", 4),
    (r".*linear_num_key_heads", 2),
    (r"moe_intermediate_size|expert_(ffn_)?hidden_size|.*expert_intermediate_size|moe_ffn_hidden_size", 16),
    (r"(.*_)?(intermediate_size|ffn_dim|d_ff|ffn_hidden_size|d_inner|inner_dim|intermediate_dim|n_inner|dff)", 64),
    (r"hidden_dim|intermediate_size_mlp", 64),
    (
        r"(.*_)?(hidden_size|d_model|n_embd|embed_dim|emb_dim|embed_proj_dim|embedding_size|projection_dim|embedding_dim)",
        WIDTH,
    ),
    (
        r"dim|lru_width|.*(projector|projection|proj|vision|text|audio)_(in_|input_|output_|out_)?(dim|width)|d_vision",
        WIDTH,
    ),
    (r"hidden_size_per_layer_input|laurel_rank|(q|kv|o|index)_lora_rank|.*_rank|index_topk", 8),
    (r"(num_|n_)(mtp|nextn_predict|kv_shared)_?(predict_)?(layers|modules)", 0),
    (r"first_k_dense_replace|num_dense_layers|moe_layer_start_index|n_shared_experts|num_shared_experts", 1),
    (r"(.*_)?(num_(hidden_)?layers|n_layers?|encoder_layers|decoder_layers|depth)", LAYERS),
    (r"(n_group|topk_group|num_expert_groups?|moe_n_group|num_experts_group)", 1),
    (r"(.*_)?(num_|n_)?(local_|routed_)?experts|.*num_(local_|routed_)?experts|moe_num_experts|n_routed_experts", 4),
    (
        r".*experts_per_tok(en)?|moe_top_?k|moe_k|num_experts_per_token|top_k_experts|num_selected_experts|router_top_k",
        2,
    ),
    (r"sliding_window(_size)?|attention_window_size|local_attention|window_size|attention_chunk_size|block_size", 8),
    (r".*chunk_size|chunk_length", 16),
    (r"(mamba_)?(d_state|state_size|ssm_state_size)|.*d_state", 8),
    (r"(mamba_)?n_groups|mamba_ngroups|num_mem_blocks", 1),
    (r"image_size", 28),
    (r"patch_size", 14),
)
#: Settings that get a value although their default is none.
FILLED_IN = {"pad_token_id", "bos_token_id", "eos_token_id", "num_key_value_heads", "head_dim"}
#: Settings that keep their value although a rule has their name.
KEPT = {"chunk_size_feed_forward", "type_vocab_size", "pretraining_tp"}


def shrink(config_class: type[PretrainedConfig]) -> dict[str, Any]:
    """Returns settings for a small model of a family; those of parts (text, images) are dictionaries."""
    parts = {name: _shrunk_part(config_class, name, kind) for name, kind in (config_class.sub_configs or {}).items()}
    settings: dict[str, Any] = dict(_shrunk_defaults(config_class))
    tokens = [name for name, default in _defaults(config_class).items() if _is_token(name, default, settings)]
    settings |= {name: number for number, name in enumerate(tokens, FIRST_TOKEN)}
    return settings | parts


def _is_token(name: str, default: Any, settings: dict[str, Any]) -> bool:
    """Returns whether a setting is the id of a special token, such as an image's place, that has no value yet."""
    is_number = isinstance(default, int) and not isinstance(default, bool)
    return is_number and name not in settings and name.endswith(("_token_id", "_token_index", "_token"))


def _defaults(config_class: type[PretrainedConfig]) -> dict[str, Any]:
    parameters = inspect.signature(config_class.__init__).parameters
    return {name: one.default for name, one in parameters.items() if one.default is not inspect.Parameter.empty}


def _shrunk_defaults(config_class: type[PretrainedConfig]) -> list[tuple[str, Any]]:
    results, defaults = [], _defaults(config_class)
    for name, default in defaults.items():
        value = _by_rule(name)
        if value is None or name in KEPT or name in (config_class.sub_configs or {}) or isinstance(default, bool | str):
            continue
        if isinstance(default, int | float | list) or (default is None and name in FILLED_IN):
            is_latent = name == "num_key_value_heads" and "kv_lora_rank" in defaults
            results.append((name, HEADS if is_latent else value))
    return results


def _by_rule(name: str) -> Any:
    return next((value for pattern, value in RULES if re.fullmatch(pattern, name)), None)


def _shrunk_part(config_class: type[PretrainedConfig], name: str, kind: Any) -> dict[str, Any]:
    """Returns the settings of a part; where its family is free, that of the default."""
    if kind.__name__ == "AutoConfig":
        default = getattr(config_class(), name, None)
        kind = type(default) if isinstance(default, PretrainedConfig) else CONFIG_MAPPING["llama"]
    return {"model_type": kind.model_type, **shrink(kind)} if kind.model_type else shrink(kind)
