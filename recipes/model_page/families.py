"""The families of the installed transformers that read text, and those that are left out."""

from __future__ import annotations

from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

#: Auto classes of models that read text, by the group that their families count to; the first that has a family counts.
_GROUPS = {
    "encoder-decoder": ("SEQ_TO_SEQ_CAUSAL_LM",),
    "vision-language": ("IMAGE_TEXT_TO_TEXT",),
    "causal": ("CAUSAL_LM",),
    "encoder": ("MASKED_LM", "TEXT_ENCODING"),
}
#: Families that read text and are in none of these auto classes.
_FURTHER = {"encoder": ("canine", "splinter", "markuplm", "embedding_gemma2_text", "openai_privacy_filter")}
#: Families in these auto classes that are not tried, and why.
_SPEECH = "reads speech or music"
_IMAGES = "reads an image with every text"
_COMPOSED = "is composed of two models of other families"
_TIMM = "needs the package timm; its text model is tried as a family of its own where it has one"
LEFT_OUT: dict[str, str] = {
    **dict.fromkeys(("whisper", "musicgen", "musicgen_melody", "omniasr", "speech-encoder-decoder"), _SPEECH),
    **dict.fromkeys(
        ("seamless_m4t", "seamless_m4t_v2", "moshi", "vibevoice_asr", "voxtral_realtime", "nemo_speechlm"), _SPEECH
    ),
    **dict.fromkeys(
        ("blip", "pix2struct", "pp_formulanet", "idefics", "kosmos-2", "udop", "pi0", "deepseek_ocr2", "trocr"), _IMAGES
    ),
    **dict.fromkeys(("gemma4_assistant", "gemma4_unified_assistant"), "proposes tokens for another model"),
    "evolla": "reads a protein with every text",
    "perceiver": "reads arrays, not token ids",
    **dict.fromkeys(("encoder-decoder", "vision-encoder-decoder"), _COMPOSED),
    **dict.fromkeys(("fast_vlm", "gemma3n", "perception_lm"), _TIMM),
}


def families() -> dict[str, str]:
    """Returns the families to try, by name, with their groups."""
    groups = {name: group for group in reversed(_GROUPS) for name in _names(group)}
    groups |= {name: group for group, names in _FURTHER.items() for name in names if name in CONFIG_MAPPING}
    return {name: groups[name] for name in sorted(groups) if name not in LEFT_OUT and name in CONFIG_MAPPING}


def _names(group: str) -> list[str]:
    return [name for auto in _GROUPS[group] for name in getattr(modeling_auto, f"MODEL_FOR_{auto}_MAPPING_NAMES")]
