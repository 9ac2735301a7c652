"""What `SentenceEncoder` asks of the library sentence-transformers: models, their prompts, their inputs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from torch import nn

from itl_hf.embedding.embedders.model_loading import short_hash
from itl_hf.embedding.embedders.weights_hash import WeightsIdentity, stable_json

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_CHUNK_CHARACTERS = 1 << 20


def load_encoder(name: str | Path, **options: Any) -> SentenceTransformer:
    """A model by Hub id or folder.

    Args:
        name (`str` or `Path`):
            A Hub id or a folder.
        options:
            `device`, `revision`, `trust_remote_code` and others of `SentenceTransformer`.

    Raises:
        `ImportError`: Sentence-transformers is not installed.
        `ValueError`: No such model.
    """
    try:
        return _library()(str(name), **options)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"no sentence-transformers model at {str(name)!r}, neither as a folder nor on the Hub: {error}"
        ) from error


def checked_encoder(model: Any) -> SentenceTransformer:
    """`model` itself, or a `TypeError` that says what is accepted."""
    if not isinstance(model, _library()):
        raise TypeError(
            f"model must be a SentenceTransformer, a folder or a Hub id, got {type(model).__name__}. For a model of "
            "transformers use HiddenStates."
        )
    return model


def _library() -> type[SentenceTransformer]:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ImportError(
            "SentenceEncoder needs sentence-transformers: pip install 'itl-hf[sentence-transformers]'"
        ) from error
    return SentenceTransformer


def resolve_prompt(model: SentenceTransformer, name: str | None) -> str:
    """The text that the model puts before each input: its prompt of this name, else its default, else nothing.

    Raises:
        `ValueError`: The model has no prompt of this name.
    """
    name = model.default_prompt_name if name is None else name
    if name is None:
        return ""
    if name not in model.prompts:
        raise ValueError(f"the model has no prompt {name!r}; its prompts are {sorted(model.prompts)}.")
    return model.prompts[name] or ""


def tokenizer_of(model: SentenceTransformer) -> transformers.PreTrainedTokenizerBase | None:
    """The model's tokenizer if it is one of transformers."""
    tokenizer = getattr(model, "tokenizer", None)
    return tokenizer if isinstance(tokenizer, transformers.PreTrainedTokenizerBase) else None


def name_of(model: SentenceTransformer) -> str:
    """Where the model's transformer came from, or what kind of module it is."""
    config = getattr(getattr(model[0], "auto_model", None), "config", None)
    return str(getattr(config, "_name_or_path", "") or type(model[0]).__name__)


def describe_modules(model: SentenceTransformer) -> list[tuple[str, dict[str, Any]]]:
    """Class and configuration of each module, in the order in which they run; those without one have an empty one."""
    described = []
    modules: list[Any] = list(model.children())
    for module in modules:
        settings = dict(module.get_config_dict()) if hasattr(module, "get_config_dict") else {}
        config = getattr(getattr(module, "auto_model", None), "config", None)
        if config is not None:
            settings["transformer"] = json.loads(stable_json(config.to_dict()))
        described.append((type(module).__name__, settings))
    return described


class EncoderIdentity:
    """Hashes of a sentence-transformers model, for the fingerprint of its features.

    Args:
        model (`SentenceTransformer`):
            May be in training; it is looked at anew at each call.
    """

    def __init__(self, model: SentenceTransformer) -> None:
        self._model = model
        self._weights = WeightsIdentity(_Bare(model))

    def modules(self) -> str:
        """Of `describe_modules`."""
        return short_hash(json.dumps(describe_modules(self._model), sort_keys=True, default=str))

    def weights(self) -> str:
        """Of the weights that the embedding depends on.

        The pooler of a BERT that nothing reads is left out: checkpoints without one get a random one at each load.
        """
        read = "pooler" in json.dumps(describe_modules(self._model), default=str)
        return self._weights(lambda name: read or "pooler" not in name.split("."))


@dataclass(frozen=True)
class Chunk:
    """Texts of one shard, tokenized together.

    Args:
        places (`list[int]`):
            Where the texts stand among the rows that were prepared.
        texts (`list[str]`):
            Without the encoder's prompt.
        lengths (`list[int]`):
            Tokens of each, or a guess where there is no table of them.
        features (`dict`, *optional*):
            What the model's tokenizer made of them, padded to the longest.
    """

    places: list[int]
    texts: list[str]
    lengths: list[int]
    features: dict[str, Any] | None

    def rows(self, batch: list[int]) -> dict[str, Any] | None:
        """The features of some of the texts, without the columns that are padding in all of them."""
        if self.features is None:
            return None
        table = self.features["attention_mask"]  # (n, T)
        kept = table[batch].bool().any(0)  # (T,)
        chosen = {}
        for name, value in self.features.items():
            if isinstance(value, torch.Tensor) and value.shape[:1] == table.shape[:1]:
                value = value[batch][:, kept] if value.shape[1:2] == table.shape[1:2] else value[batch]
            chosen[name] = value
        return chosen


def chunks(texts: Sequence[str]) -> Iterator[list[int]]:
    """Places of texts, longest first, cut where padding to the longest would take too much memory.

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


class _Bare(nn.Module):
    """A model as `WeightsIdentity` takes it, with a configuration that says nothing: the modules are hashed apart."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.encoder = model

    @property
    def config(self) -> _Bare:
        return self

    def to_dict(self) -> dict[str, Any]:
        return {}
