"""Loads models and tokenizers of transformers, and checks that they fit together."""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
import transformers

from itl_hf.embedding.embedders.model_errors import check_revision, model_errors, tokenizer_errors
from itl_hf.embedding.embedders.quantization import check_quantization, quantization_options

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_MAX_LENGTH_DEFAULT = 2048
_DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_model(
    model: str | Path | nn.Module,
    *,
    head: bool = False,
    dtype: str = "float32",
    device: str | torch.device | None = None,
    quantization: str | None = None,
    device_map: str | None = None,
    **options: Any,
) -> nn.Module:
    """Loads a model by name; returns a model object as it is.

    Args:
        model (`str`, `Path` or `nn.Module`):
            A Hub id, a folder, or a model.
        head (`bool`, *optional*, defaults to `False`):
            Whether to load the language-model head (`AutoModelForCausalLM` instead of `AutoModel`).
        dtype (`str`, *optional*, defaults to `"float32"`):
            `"float32"`, `"bfloat16"` or `"float16"`, for a model loaded here.
        device (`str` or `torch.device`, *optional*):
            Defaults to this process's GPU, else the CPU; for a model object, to where it is.
        quantization (`str`, *optional*):
            `"4bit"` (NF4) or `"8bit"` (LLM.int8): how to quantize the weights; needs the package bitsandbytes.
        device_map (`str`, *optional*):
            How accelerate spreads the layers over all GPUs of the machine, and what does not fit over its memory:
            `"auto"`, `"balanced"`, `"balanced_low_0"` or `"sequential"`. The whole model is on `device` when left out.
        options:
            `revision`, `trust_remote_code` and other arguments of `from_pretrained`.

    Raises:
        `ValueError`: If `dtype`, `quantization` or `device_map` is unknown, no model has that name or it is damaged, a
            folder is given with a revision, `quantization` or `device_map` is set for a model object, or both `device`
            and `device_map` are set.
        `ImportError`: If `quantization` is set and bitsandbytes is not installed.
    """
    check_device_map(device_map, device, model)
    check_quantization(quantization, not isinstance(model, str | Path))
    if not isinstance(model, str | Path):
        return model if device is None else model.to(device)
    model_class = transformers.AutoModelForCausalLM if head else transformers.AutoModel
    if quantization is not None:
        options |= quantization_options(quantization, dtype, torch.device(device or default_device()))
    if device_map is not None:
        options["device_map"] = device_map
    check_revision(str(model), options.get("revision"))
    model_dtype = torch_dtype(dtype)
    with model_errors(str(model)):
        loaded_model: nn.Module = model_class.from_pretrained(str(model), dtype=model_dtype, **options)
    return loaded_model if "device_map" in options else loaded_model.to(device or default_device())


def check_device_map(device_map: str | None, device: str | torch.device | None, model: object) -> None:
    """Checks the argument `device_map` of `load_model`.

    Raises:
        `ValueError`: If there is no such way, `device` is set too, the model is loaded already, or several processes of
            one machine would each spread a model over all of its GPUs.
    """
    if device_map is None:
        return
    if device_map not in _DEVICE_MAPS:
        raise ValueError(f"device_map must be one of {', '.join(_DEVICE_MAPS)}, got {device_map!r}.")
    if device is not None:
        raise ValueError("device_map spreads the model over devices, and device names one: leave out one of the two.")
    if not isinstance(model, str | Path):
        raise ValueError("device_map is for a model loaded here; this one was given as an object.")
    if int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1:
        raise ValueError(
            "device_map spreads the model over all GPUs of a machine, and several processes of this machine would each "
            "do so: start one process on each machine (--nproc_per_node 1), or leave out device_map."
        )


def without_peft(model: nn.Module, virtual_tokens: str) -> PreTrainedModel:
    """Returns the transformers model inside a PEFT model, with its adapter layers in place; other models as they are.

    Args:
        model (`PreTrainedModel` or `PeftModel`):
            A model, possibly in training.
        virtual_tokens (`str`):
            What virtual tokens do here, for the error about an adapter that works through them.

    Raises:
        `TypeError`: If the adapter works through virtual tokens, or the model is not one of transformers.
    """
    if hasattr(model, "get_base_model"):
        if model.active_peft_config.is_prompt_learning:  # type: ignore[union-attr]
            raise TypeError(
                f"this adapter works through virtual tokens, which {virtual_tokens}; pass "
                "model.get_base_model() to embed without it, or train a LoRA adapter."
            )
        model = cast("nn.Module", model.get_base_model())  # type: ignore[operator]
    if not isinstance(model, transformers.PreTrainedModel):
        raise TypeError(f"model must be a transformers model, a folder or a Hub id, got {type(model).__name__}.")
    return model


def body_of(model: PreTrainedModel) -> PreTrainedModel:
    """Returns the part of a model that computes its last hidden states: the model without its head.

    Some classes (Llama 4, Mllama) name a base model that they do not have, so that `base_model` is the model itself.
    """
    any_model = cast("Any", model)
    if model.base_model is not model or any_model.get_output_embeddings() is None:
        return cast("PreTrainedModel", model.base_model)
    inner = (getattr(model, name, None) for name in ("model", "language_model", "transformer"))
    return next((part for part in inner if isinstance(part, transformers.PreTrainedModel)), model)


def embedding_table(model: PreTrainedModel) -> nn.Embedding:
    """Returns the table of a model's input embeddings, which adapters may wrap (LoRA, trainable tokens).

    Raises:
        `TypeError`: If the model has none (CANINE reads characters by hashes of them), or one of another kind (I-BERT).
    """
    try:
        table: Any = model.get_input_embeddings()
    except NotImplementedError as error:
        raise TypeError(f"{type(model).__name__} has no table of input embeddings, which features require.") from error
    while not hasattr(table, "num_embeddings"):
        inner = getattr(table, "base_layer", None) or getattr(table, "original_module", None)
        if inner is None:
            raise TypeError(f"{type(model).__name__} has input embeddings of another kind, {type(table).__name__}.")
        table = inner
    return cast("nn.Embedding", table)


def plain_token_ids(model: PreTrainedModel, count: int) -> list[int]:
    """Returns ids of tokens that stand for text: none that the config names, such as the padding or an image's place.

    Args:
        model (`PreTrainedModel`):
            A model with input embeddings.
        count (`int`):
            Number of ids; they repeat if the vocabulary is small.
    """
    config_ids = set(_named_ids(model.config.to_dict()))
    size = embedding_table(model).num_embeddings
    # From the middle on: special tokens are at the beginning or at the end.
    order = itertools.chain(range(size // 2, size), range(size // 2))
    ids = list(itertools.islice((number for number in order if number not in config_ids), count))
    return list(itertools.islice(itertools.cycle(ids or [0]), count))


def _named_ids(entries: Any) -> Iterator[int]:
    for key, value in entries.items():
        if isinstance(value, dict):
            yield from _named_ids(value)
        elif isinstance(key, str) and key.endswith(("_id", "_index", "_ids")):
            yield from (one for one in (value if isinstance(value, list) else [value]) if isinstance(one, int))


def default_device() -> torch.device:
    """Returns this process's GPU, or the CPU if there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    # torchrun and accelerate number the processes of a machine; each has one GPU.
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())


def torch_dtype(name: str) -> torch.dtype:
    """Returns the torch type of that name; raises `ValueError` for one that models are not loaded in."""
    if name not in _DTYPES:
        raise ValueError(f"dtype must be one of {list(_DTYPES)}, got {name!r}.")
    return _DTYPES[name]


def resolve_max_length(max_length: int | None, model: PreTrainedModel) -> int:
    """Returns `max_length`, or its default: the model's context, at most 2048 tokens.

    Raises:
        `ValueError`: If `max_length` is more than the model's context.
    """
    context = context_length(model)
    if max_length is None:
        return min(_MAX_LENGTH_DEFAULT, context or _MAX_LENGTH_DEFAULT)
    if context is not None and max_length > context:
        raise ValueError(
            f"max_length={max_length} is more than the model's context of {context} tokens. Lower it, or leave it out."
        )
    return max_length


def context_length(model: PreTrainedModel) -> int | None:
    """Returns the longest input in tokens, `None` if the model sets no limit."""
    config = model.config.get_text_config()
    limit = getattr(config, "max_position_embeddings", None)
    if limit is None and config.model_type != "t5":  # T5's n_positions is a training length; its positions are relative
        limit = getattr(config, "n_positions", None)
    if limit is None or limit < 1:
        return None
    table = getattr(getattr(body_of(model), "embeddings", None), "position_embeddings", None)
    # RoBERTa and models derived from it count positions from padding_idx + 1: 514 rows in the table hold 512 tokens.
    offset = getattr(table, "padding_idx", None)
    return int(limit) - (0 if offset is None else offset + 1)


def resolve_tokenizer(
    tokenizer: PreTrainedTokenizerBase | None, model: PreTrainedModel, revision: str | None, trust_remote_code: bool
) -> PreTrainedTokenizerBase:
    """Returns `tokenizer`, or by default the one saved with the model, after checking that it fits the model.

    Of a processor its tokenizer is used, with the processor's chat template where the tokenizer has none.

    Raises:
        `ValueError`: If no tokenizer is given and the model has no name, or the tokenizer is that of another model.
        `TypeError`: If `tokenizer` is not a tokenizer or processor of transformers.
    """
    name = model.config._name_or_path
    if tokenizer is None and not name:
        raise ValueError(
            "this model was not loaded from a folder or the Hub, so its tokenizer is unknown: pass tokenizer=."
        )
    if tokenizer is None:
        with tokenizer_errors(name):
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                name, revision=revision, trust_remote_code=trust_remote_code
            )
    tokenizer = _tokenizer_of(tokenizer)
    if not isinstance(tokenizer, transformers.PreTrainedTokenizerBase):
        raise TypeError(f"tokenizer must be a tokenizer of transformers, got {type(tokenizer).__name__}.")
    vocabulary_size = embedding_table(model).num_embeddings
    if len(tokenizer) > vocabulary_size:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} tokens but the model embeds {vocabulary_size}: they do not belong "
            "together, or the model needs model.resize_token_embeddings(len(tokenizer))."
        )
    return tokenizer


def _tokenizer_of(processor: Any) -> Any:
    if not isinstance(processor, transformers.ProcessorMixin):
        return processor
    tokenizer = getattr(processor, "tokenizer", None)
    if tokenizer is not None and not tokenizer.chat_template and getattr(processor, "chat_template", None):
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.chat_template = processor.chat_template
    return tokenizer
