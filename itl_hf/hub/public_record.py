"""What a published record may contain: a list of the fields that are allowed. Everything else stays on this machine.

A field of `SelectionRecord` that is not in `PUBLIC_FIELDS` is not published, so a field that is added later is private
until somebody allows it here. Without the target prompts nothing is published that names a row of the pool as a copy
of a prompt, and no hash of the prompts, by which a guessed prompt could be confirmed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itl_hf.selection.result.record import JsonDict, SelectionRecord

#: Shape of a name of a model or dataset on the Hub, and of a commit there.
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
#: Strings with these characters may be paths.
_PATH_SEPARATORS = re.compile(r"[/\\~]")
_MAX_CHARACTERS = 300
#: Entries of a fingerprint that are allowed; a part of a combined embedder has them after `part0.` and so on.
EMBEDDER_ENTRIES = frozenset(
    [
        "embedder",
        "weights",
        "layer",
        "layers",
        "pooling",
        "skip_tokens",
        "labels",
        "dimension",
        "rank",
        "seed",
        "sketch",
        "normalize",
        "adam",
        "dtype",
        "quantization",
        "span",
        "max_length",
        "tokenizer",
        "chat_template",
        "template_date",
        "modules",
        "architecture",
        "prompt",
        "max_seq_length",
        "truncate_dim",
        "normalize_embeddings",
        "parts",
        "unit_norm",
        "weight",
    ]
)
#: What stands in the place of a text that is not published.
NOT_PUBLISHED = "(not published)"
PACKAGES = ("itl_hf", "python", "torch", "transformers", "datasets", "peft")


@dataclass(frozen=True)
class _Context:
    """What decides how much of a field is published: the groups of the picks, and whether the targets are."""

    with_targets: bool
    picked_groups: frozenset[str]


_Rule = Callable[[Any, _Context], Any]


def public_record(
    record: SelectionRecord, *, with_targets: bool, picked_groups: Collection[str] = ()
) -> SelectionRecord:
    """Returns the record with the fields that are allowed in a published selection, and no others.

    Args:
        record (`SelectionRecord`):
            The record as it is on this machine.
        with_targets (`bool`):
            Whether the target prompts are published too.
        picked_groups (`Collection[str]`, *optional*):
            Names of groups that are among the picks; those of other groups are replaced by numbers.
    """
    context = _Context(with_targets, frozenset(picked_groups))
    entries = record.to_json()
    public = {name: rule(entries[name], context) for name, rule in PUBLIC_FIELDS.items() if name in entries}
    return SelectionRecord.from_json({name: value for name, value in public.items() if value is not None})


def is_hub_id(name: str) -> bool:
    """Returns whether a name can be that of a repository on the Hub, and is not that of a folder here."""
    return bool(_HUB_ID.fullmatch(name)) and not Path(name).exists()


def public_fingerprint(fingerprint: Mapping[str, Any]) -> JsonDict:
    """Returns the entries of an embedder's fingerprint that are allowed.

    A model's name is published only if its commit on the Hub is known as well. A folder given as `clients/model` has
    the form of a name on the Hub, where it may be the name of somebody else's model.

    Example:
        >>> public_fingerprint({"embedder": "hidden_states", "model": "clients/model", "layer": 3, "store": "/home/me"})
        {'embedder': 'hidden_states', 'layer': 3}
    """
    public = {}
    for key, value in fingerprint.items():
        prefix, dot, last = key.rpartition(".")
        if last in ("model", "revision"):
            if _is_hub_commit(fingerprint.get(f"{prefix}{dot}model"), fingerprint.get(f"{prefix}{dot}revision")):
                public[key] = value
        elif last in EMBEDDER_ENTRIES and re.fullmatch(r"(part\d+\.)*", prefix + dot):
            public[key] = value if _is_plain(value) else NOT_PUBLISHED
    return public


def _is_hub_commit(model: Any, revision: Any) -> bool:
    names = isinstance(model, str) and isinstance(revision, str)
    # Old models such as `gpt2` have names without an owner.
    is_name = names and (is_hub_id(model) or (bool(re.fullmatch(r"[\w.-]+", model)) and not Path(model).exists()))
    return is_name and bool(_COMMIT.fullmatch(revision))


def _is_plain(value: Any) -> bool:
    """Whether a value is a number, or a short text that cannot be a path."""
    if isinstance(value, str):
        return len(value) <= _MAX_CHARACTERS and not _PATH_SEPARATORS.search(value)
    return value is None or isinstance(value, bool | int | float)


def _plain(value: Any, context: _Context) -> Any:
    """Keeps numbers and short texts, also in lists and mappings; drops every text that may be a path."""
    if isinstance(value, Mapping):
        return {
            key: _plain(item, context) for key, item in value.items() if not isinstance(item, str) or _is_plain(item)
        }
    if isinstance(value, list | tuple):
        return [_plain(item, context) for item in value if not isinstance(item, str) or _is_plain(item)]
    return value if _is_plain(value) else None


def _as_it_is(value: Any, context: _Context) -> Any:
    """For numbers, and for sentences that this package writes itself."""
    return value


def _entries(*names: str) -> _Rule:
    """Returns a rule that keeps the entries of these names."""

    def keep(value: Mapping[str, Any], context: _Context) -> JsonDict:
        return {name: _plain(value[name], context) for name in names if name in value}

    return keep


def _kernel(value: Mapping[str, Any], context: _Context) -> JsonDict:
    return {"kernel": NOT_PUBLISHED, **dict(_plain(value, context))}


def _embedder(value: Mapping[str, Any], context: _Context) -> JsonDict:
    return public_fingerprint(value)


def _shortlist(value: Mapping[str, Any], context: _Context) -> JsonDict:
    names = (
        "setting",
        "factor",
        "share",
        "first_size",
        "size",
        "near_duplicates",
        "near_duplicate_cosine",
        "index",
        "parts",
    )
    entries: JsonDict = {name: value[name] for name in names if name in value}
    return entries if "embedder" not in value else {**entries, "embedder": public_fingerprint(value["embedder"])}


def _constraints(value: Mapping[str, Any], context: _Context) -> JsonDict:
    names = ("replace", "exclude", "costs", "token_budget", "groups", "group_shares", "stop_when")
    entries: JsonDict = {name: value[name] for name in names if name in value}
    if "exclude" in entries and not context.with_targets:
        entries["exclude"] = None  # these rows are often copies of targets; `None` says that there were some
    return entries


def _target_weights(value: Mapping[str, Any], context: _Context) -> JsonDict:
    names = ("smallest", "mean", "largest", "values", *(("column",) if context.with_targets else ()))
    return {name: value[name] for name in names if name in value}


def _screening(value: Mapping[str, Any], context: _Context) -> JsonDict:
    """Keeps copies among the picks, which are published; which row is a copy of a target only with the targets."""
    entries = {name: value[name] for name in ("copies", "duplicates", "num_copies", "num_duplicates")}
    return entries if context.with_targets else {**entries, "copies": []}


def _shift(value: Mapping[str, Any], context: _Context) -> JsonDict:
    """Keeps numbers; the entry `texts` holds numbers about the texts."""
    numbers = {name: number for name, number in value.items() if isinstance(number, int | float)}
    texts = {name: number for name, number in value.get("texts", {}).items() if isinstance(number, int | float)}
    return {**numbers, "texts": texts}


def _coverage(value: Mapping[str, Any], context: _Context) -> JsonDict:
    """Keeps the sizes of all groups, and the names of those that are among the picks."""
    rows = {
        name if name in context.picked_groups else f"(group {number}, none picked)": count
        for number, (name, count) in enumerate(value["rows"].items())
    }
    return {"column": value["column"], "rows": rows, "others": value["others"]}


def _counts_of_bad_rows(value: Mapping[str, Any], context: _Context) -> JsonDict:
    """Keeps how many rows could not be read: messages of errors may quote them."""
    return {side: {"count": value[side]["count"], "kinds": []} for side in ("pool", "targets") if side in value}


def _targets_fingerprint(value: str, context: _Context) -> str:
    return value if context.with_targets else NOT_PUBLISHED


def _acquisition_options(value: Mapping[str, Any], context: _Context) -> Any:
    """Keeps what is plain; of prompts to avoid the number and the weight, not the hash, by which others know them."""
    avoid = value.get("avoid")
    if isinstance(avoid, Mapping):
        value = {**value, "avoid": {name: avoid[name] for name in ("rows", "weight") if name in avoid}}
    return _plain(value, context)


def _formats(value: Mapping[str, Any], context: _Context) -> JsonDict:
    return {
        side: value[side] for side in ("pool", "targets") if side in value and (side == "pool" or context.with_targets)
    }


def _columns(value: Mapping[str, Any], context: _Context) -> JsonDict:
    return {name: value[name] for name in ("columns", "prompt_template") if name in value}


def _pool_source(value: Mapping[str, Any], context: _Context) -> JsonDict | None:
    """Keeps the name of a dataset on the Hub; a folder's name is not published."""
    if not is_hub_id(str(value.get("dataset"))):
        return None
    return {name: value[name] for name in ("dataset", "config", "split", "revision") if name in value}


#: Every field of the record that is published, with the rule that says what of it. A field that is not here is private:
#: at present that is `arguments`, which holds names of files.
PUBLIC_FIELDS: dict[str, _Rule] = {
    **dict.fromkeys(("acquisition_name", "kernel_rule", "standardization_name", "noise_rule"), _as_it_is),
    **dict.fromkeys(("noise_std", "target_noise_std", "effective_rank", "undirected"), _as_it_is),
    **dict.fromkeys(("pool_rows", "target_rows", "dimension", "already_selected", "num_candidates"), _as_it_is),
    "pool_fingerprint": _as_it_is,
    "targets_fingerprint": _targets_fingerprint,
    "acquisition_options": _acquisition_options,
    **dict.fromkeys(("approximation", "unusable"), _plain),
    "kernel_options": _kernel,
    "constraints": _constraints,
    "shortlist": _shortlist,
    "quality": _entries("smallest", "mean", "largest", "column"),
    "target_weights": _target_weights,
    "embedder": _embedder,
    "targets_embedder": _embedder,
    "exactness": _entries("tolerance", "count", "first", "largest"),
    "many_targets": _entries("targets", "pivots", "lost"),
    "pool_source": _pool_source,
    "versions": _entries(*PACKAGES),
    "attainable": _entries("rows", "exact", "pool_effective_rank", "usual_reach"),
    "screening": _screening,
    "shift": _shift,
    "coverage": _coverage,
    "formats": _formats,
    "columns": _columns,
    "skipped": _counts_of_bad_rows,
    "replay": _entries("share", "method", "seed", "rows"),
}
