"""Builds tiny models with random weights."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from transformers import PretrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from recipes.model_page.overrides import OVERRIDES, VARIANTS
from recipes.model_page.shrinking import shrink

#: A configuration that the rules left large is refused before memory is taken for it.
MOST_PARAMETERS = 10_000_000


def build(name: str) -> PreTrainedModel:
    """Returns the model of a configuration: a family, or a variant of one, in evaluation mode and float32."""
    config = configuration(name)
    kind = auto_class(config)
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in kind.from_config(config).parameters())
    if count > MOST_PARAMETERS:
        raise ValueError(f"a tiny configuration was not found: it has {count} parameters.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: PreTrainedModel = kind.from_config(config)
        for parameter in model.parameters():
            # The usual initialisation is so small that every layer is nearly the identity: checks could not fail.
            if parameter.is_floating_point():
                parameter.data.add_(0.1 * torch.randn_like(parameter))
    model.tie_weights()
    module: Any = model
    result: PreTrainedModel = module.float().eval()
    return result


def configuration(name: str) -> PretrainedConfig:
    """Returns the tiny configuration of a family, or of a variant of one."""
    family, settings = VARIANTS.get(name, (name, {}))
    config_class = CONFIG_MAPPING[family]
    result: PretrainedConfig = config_class(**merge(merge(shrink(config_class), OVERRIDES.get(family, {})), settings))
    return result


def merge(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Returns `settings` with `changes`; those of a part are merged into the part."""
    return settings | {
        name: merge(settings[name], value)
        if isinstance(value, dict) and isinstance(settings.get(name), dict)
        else value
        for name, value in changes.items()
    }


def auto_class(config: PretrainedConfig) -> Any:
    """Returns the auto class that users would load the model with: the one with a head, if there is one."""
    kinds: tuple[Any, ...] = (
        transformers.AutoModelForCausalLM,
        transformers.AutoModelForImageTextToText,
        transformers.AutoModelForMaskedLM,
        transformers.AutoModel,
    )
    if config.is_encoder_decoder:
        kinds = (transformers.AutoModelForSeq2SeqLM, *kinds)
    for kind in kinds:
        if type(config) in kind._model_mapping:
            return kind
    if type(config) in transformers.AutoModelForTextEncoding._model_mapping:
        return transformers.AutoModelForTextEncoding
    raise ValueError(f"no auto class has {type(config).__name__}.")
