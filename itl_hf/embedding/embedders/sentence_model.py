"""What `SentenceEncoder` needs of the library sentence-transformers: models, their prompts, their inputs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from safetensors import SafetensorError
from torch import nn

from itl_hf.embedding.embedders.batch_effects import LONG, SHORT
from itl_hf.embedding.embedders.weights_hash import WeightsHash, short_hash, stable_json

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_CHUNK_CHARACTERS = 1 << 20


def load_encoder(name: str | Path, **options: Any) -> SentenceTransformer:
    """Loads a model by Hub id or folder.

    Args:
        name (`str` or `Path`):
            A Hub id or a folder.
        options:
            `device`, `revision`, `trust_remote_code` and others of `SentenceTransformer`.

    Raises:
        `ImportError`: If sentence-transformers is not installed.
        `ValueError`: If there is no such model.
    """
    try:
        return _encoder_class()(str(name), **options)
    except (OSError, ValueError, KeyError, AttributeError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"no sentence-transformers model at {str(name)!r}, neither as a folder nor on the Hub: {error}"
        ) from error


def checked_encoder(model: Any) -> SentenceTransformer:
    """Returns `model`, or raises a `TypeError` that says what is accepted."""
    if not isinstance(model, _encoder_class()):
        raise TypeError(
            f"model must be a SentenceTransformer, a folder or a Hub id, got {type(model).__name__}. For a model of "
            "transformers use HiddenStates."
        )
    return model


def _encoder_class() -> type[SentenceTransformer]:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ImportError(
            "SentenceEncoder needs sentence-transformers: pip install 'itl-hf[sentence-transformers]'"
        ) from error
    return SentenceTransformer


def resolve_prompt(model: SentenceTransformer, name: str | None) -> str:
    """Returns the text that the model puts before each input: its prompt of this name, else its default, else nothing.

    Raises:
        `ValueError`: If the model has no prompt of this name.
    """
    name = model.default_prompt_name if name is None else name
    if name is None:
        return ""
    if name not in model.prompts:
        raise ValueError(f"the model has no prompt {name!r}; its prompts are {sorted(model.prompts)}.")
    return model.prompts[name] or ""


def tokenizer_of(model: SentenceTransformer) -> transformers.PreTrainedTokenizerBase | None:
    """Returns the model's tokenizer if it is one of transformers, else `None`."""
    tokenizer = getattr(model, "tokenizer", None)
    return tokenizer if isinstance(tokenizer, transformers.PreTrainedTokenizerBase) else None


def name_of(model: SentenceTransformer) -> str:
    """Returns the name that the model's transformer was loaded by, else the class of its first module."""
    config = getattr(getattr(model[0], "auto_model", None), "config", None)
    return str(getattr(config, "_name_or_path", "") or type(model[0]).__name__)


def commit_of(model: SentenceTransformer) -> str | None:
    """Returns the commit on the Hub that the model's transformer was loaded from; `None` for a folder."""
    config = getattr(getattr(model[0], "auto_model", None), "config", None)
    return getattr(config, "_commit_hash", None)


def describe_modules(model: SentenceTransformer) -> list[tuple[str, dict[str, Any]]]:
    """Returns class and configuration (which may be empty) of each module, in the order in which they run."""
    descriptions = []
    modules: list[Any] = list(model.children())
    for module in modules:
        settings = dict(module.get_config_dict()) if hasattr(module, "get_config_dict") else {}
        config = getattr(getattr(module, "auto_model", None), "config", None)
        if config is not None:
            settings["transformer"] = json.loads(stable_json(config.to_dict()))
        descriptions.append((type(module).__name__, settings))
    return descriptions


class EncoderHash:
    """Computes hashes of a sentence-transformers model, for the fingerprint of its features.

    Args:
        model (`SentenceTransformer`):
            It may be in training: the hashes are computed anew at each call.
    """

    def __init__(self, model: SentenceTransformer) -> None:
        self._model = model
        self._weights_hash = WeightsHash(_WithoutConfig(model))

    def modules(self) -> str:
        """Returns the hash of `describe_modules`."""
        return short_hash(json.dumps(describe_modules(self._model), sort_keys=True, default=str))

    def weights(self) -> str:
        """Returns the hash of the weights that the embedding depends on.

        A BERT's pooler that no module uses is left out: checkpoints without one get a random one at each load.
        """
        uses_pooler = "pooler" in json.dumps(describe_modules(self._model), default=str)
        return self._weights_hash(lambda name: uses_pooler or "pooler" not in name.split("."))


@dataclass(frozen=True)
class Chunk:
    """Texts of one shard, tokenized together.

    Args:
        places (`list[int]`):
            Index of each text among the rows that `prepare` was called with.
        texts (`list[str]`):
            The texts, without the encoder's prompt.
        lengths (`list[int]`):
            Number of tokens of each text, or an estimate if the model has no padded token ids.
        features (`dict`, *optional*):
            Output of the model's tokenizer, padded to the longest text.
    """

    places: list[int]
    texts: list[str]
    lengths: list[int]
    features: dict[str, Any] | None

    def rows(self, batch: list[int]) -> dict[str, Any] | None:
        """Returns the tokenizer's output for some of the texts, without the columns that are padding in all of them."""
        if self.features is None:
            return None
        mask = self.features["attention_mask"]  # (n, T)
        positions = mask[batch].bool().any(0)  # (T,)
        batch_features = {}
        for name, value in self.features.items():
            if isinstance(value, torch.Tensor) and value.shape[:1] == mask.shape[:1]:
                value = value[batch][:, positions] if value.shape[1:2] == mask.shape[1:2] else value[batch]
            batch_features[name] = value
        return batch_features


def chunks(texts: Sequence[str]) -> Iterator[list[int]]:
    """Yields chunks of indices of texts, longest first; a chunk ends where padding would take too much memory.

    Example:
        >>> list(chunks(["a", "longer"]))
        [[1, 0]]
    """
    chunk: list[int] = []
    for i in sorted(range(len(texts)), key=lambda i: -len(texts[i])):
        if chunk and (len(chunk) + 1) * len(texts[chunk[0]]) > _CHUNK_CHARACTERS:
            yield chunk
            chunk = []
        chunk.append(i)
    if chunk:
        yield chunk


def probe_texts(texts: Sequence[str]) -> tuple[str, str]:
    """Returns a short text and a longer one, made of the words of `texts`.

    Example:
        >>> probe_texts(["one two", "three"])[0]
        'one two three one two'
    """
    words = list(itertools.islice(itertools.chain.from_iterable(text.split() for text in texts), SHORT + LONG))
    cycle = list(itertools.islice(itertools.cycle(words or ["a"]), SHORT + LONG))
    return " ".join(cycle[: SHORT - 2]), " ".join(cycle[SHORT:])


def beside_reversed(features: dict[str, Any]) -> dict[str, Any] | None:
    """Returns a batch of a tokenized text and the same tokens in reverse; `None` if it is not one row of token ids.

    Args:
        features (`dict`):
            Output of a model's tokenizer for one text.
    """
    shape = getattr(features.get("attention_mask"), "shape", None)
    ids = features.get("input_ids")
    if shape is None or ids is None or ids.shape != shape or len(shape) != 2:
        return None
    rows = {
        name: torch.cat([value, value]) if isinstance(value, torch.Tensor) and value.shape[:1] == (1,) else value
        for name, value in features.items()
    }
    return rows | {"input_ids": torch.cat([ids, ids.flip(1)])}


class _WithoutConfig(nn.Module):
    """Wraps a model for `WeightsHash` with an empty configuration, since the modules are hashed separately."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.encoder = model

    @property
    def config(self) -> _WithoutConfig:
        return self

    def to_dict(self) -> dict[str, Any]:
        return {}
