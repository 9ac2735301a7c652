"""`reproduction_script`: writes the Python script that makes a selection again, from its record.

Values are written with `ascii`, so that nothing in a record can end a string or a block of code; the script is shown in
the card and never run here. What a record does not contain (a kernel that is a function, an embedder that is not of
this package) is written as an ellipsis, with a comment for the embedder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from itl_hf.embedding.embedders.quantization import QUANTIZATIONS
from itl_hf.hub.public_record import NOT_PUBLISHED
from itl_hf.selection.registry import ACQUISITION_NAMES, acquisition_class
from itl_hf.selection.shortlist.options import DEFAULT_SHORTLIST

if TYPE_CHECKING:
    from itl_hf.selection.result.record import SelectionRecord
    from itl_hf.selection.result.selection import Selection

#: What to import (a line, or a name of `itl_hf`), and the expression that uses it; the former is empty if not needed.
ImportAndCall = tuple[str, str]


def reproduction_script(selection: Selection, source: Mapping[str, Any], load_arguments: str) -> str:
    """Returns a Python script that selects again and compares the picks with the published ones.

    Args:
        selection (`Selection`):
            The selection, of which the record is read.
        source (`Mapping`):
            `dataset`, `config`, `split` and `revision` of the pool; what is not known is missing.
        load_arguments (`str`):
            Arguments of `Selection.from_hub` that load the published selection, as Python code.
    """
    record = selection.record
    embedder_name, embedder = embedder_call(record.embedder or {})
    shortlist_names, shortlist = shortlist_call(record)
    acquisition_import, acquisition = acquisition_call(record)
    kernel_import, kernel = kernel_call(record)
    arguments = select_arguments(record)
    class_names = ["Selection", "Selector", *shortlist_names, *([embedder_name] if embedder_name else [])]
    class_names += [
        name
        for name in ("Avoid", "Replay", "SelectionConstraints", "StopWhen")
        if any(f"{name}(" in a for a in arguments)
    ]
    lines = [
        *versions_lines(record),
        "from datasets import load_dataset",
        f"from itl_hf import {', '.join(sorted(set(class_names)))}",
        *(line for line in (kernel_import, acquisition_import) if line),
        "",
        *rows_lines(record, source, selection.pool_size, len(selection.targets)),
        f"published = Selection.from_hub({load_arguments})",
        "",
        f"embedder = {embedder}",
        "selector = Selector(",
        *(f"    {argument}," for argument in selector_arguments(record, acquisition, kernel)),
        *([f"    shortlist={shortlist},"] if shortlist else []),
        ")",
        "selection = selector.select(",
        *(f"    {line}" for line in ["pool,", "targets,", f"num_examples={len(selection)},", *arguments]),
        ")",
        "assert selection.indices.tolist() == published.indices.tolist()",
    ]
    return "\n".join(lines)


def versions_lines(record: SelectionRecord) -> list[str]:
    """Returns the versions that the selection was made with, as a comment."""
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    return [f"# selected with {ascii(versions)[1:-1]}"] if versions else []


def rows_lines(record: SelectionRecord, source: Mapping[str, Any], pool_size: int, num_targets: int) -> list[str]:
    """Returns the lines that load the pool and the targets, with an ellipsis for what is not known."""
    pool = "..."
    if source.get("dataset"):
        names = [ascii(source[key]) for key in ("dataset", "config") if source.get(key)]
        options = [f"revision={source['revision']!a}"] if source.get("revision") else []
        options.append(f"split={source.get('split') or 'train'!a}")
        pool = f"load_dataset({', '.join(names + options)})"
    hashes = [record.pool_fingerprint, record.targets_fingerprint]
    notes = ["" if value in (None, NOT_PUBLISHED) else f"; hash of their text: {value!a}" for value in hashes]
    return [f"pool = {pool}  # {pool_size} rows{notes[0]}", f"targets = ...  # {num_targets} prompts{notes[1]}"]


def shortlist_call(record: SelectionRecord) -> tuple[list[str], str]:
    """Returns what to import for the shortlist, and the shortlist; `""` where nothing has to be said.

    The size is the number of rows that the list was made for: that of `"auto"` may be another in other versions.
    """
    entry = record.shortlist
    if entry is None:
        return [], "" if DEFAULT_SHORTLIST is None else "None"
    size = entry["setting"] if entry["setting"] != "auto" else entry["first_size"]
    if "embedder" not in entry:
        return [], ascii(size)
    name, embedder = embedder_call(entry["embedder"])
    call = f"Shortlist({size!a}, {embedder if name else '...'})"
    return ["Shortlist", *([name] if name else [])], call


def embedder_call(facts: Mapping[str, Any]) -> ImportAndCall:
    """Returns the embedder with the settings in its fingerprint."""
    kind = facts.get("embedder")
    if kind == "hidden_states":
        layers = {
            "layer": _split_list(facts.get("layer"), int),
            "pooling": _split_list(facts.get("pooling"), str),
        }
        options = layers | _subset(facts, "span", "skip_tokens", "max_length", "dtype", "revision")
        # Others are properties of the model on the Hub, which need no argument.
        options |= {"quantization": name} if (name := facts.get("quantization")) in QUANTIZATIONS else {}
        return "HiddenStates", f"HiddenStates({_embedder_arguments(facts.get('model'), options)})"
    if kind == "sentence_encoder" and not facts.get("prompt"):
        options = _subset(facts, "span", "normalize_embeddings", "dtype", "revision")
        options["max_length"] = facts.get("max_seq_length")
        return "SentenceEncoder", f"SentenceEncoder({_embedder_arguments(facts.get('model'), options)})"
    return "", '...  # the embedder that selection.json describes under "embedder"'


def kernel_call(record: SelectionRecord) -> ImportAndCall:
    """Returns the kernel with its lengthscale."""
    name, options = record.kernel_name, record.kernel_options
    if name in ("linear", "cosine"):
        return "", ascii(name)
    if name == "exponential_cosine":
        call = f"ExponentialCosine({options.get('lengthscale')!a})"
        return "from itl_hf.gp.kernels import ExponentialCosine", call
    if name in ("rbf", "laplace"):
        kind = {"rbf": "RBF", "laplace": "Laplace"}[name]
        arguments = f"{options.get('lengthscale')!a}, on={options.get('on')!a}"
        return f"from itl_hf.gp.kernels import {kind}", f"{kind}({arguments})"
    return "", "..."


def acquisition_call(record: SelectionRecord) -> ImportAndCall:
    """Returns the acquisition with all its options, and with the value of the noise instead of its rule."""
    if record.acquisition_name not in ACQUISITION_NAMES:
        return "", "..."
    kind = acquisition_class(record.acquisition_name)
    options = {
        one.name: record.acquisition_options[one.name]
        for one in fields(kind)
        if one.init and one.name in record.acquisition_options
    }
    options.pop("avoid", None)  # an argument of `select`
    options |= {name: getattr(record, name) for name in ("noise_std", "target_noise_std") if name in options}
    return f"from {kind.__module__} import {kind.__name__}", f"{kind.__name__}({_keyword_arguments(options)})"


def selector_arguments(record: SelectionRecord, acquisition: str, kernel: str) -> list[str]:
    """Returns the arguments of `Selector`."""
    arguments = ["embedder", acquisition, f"kernel={kernel}"]
    standardize = record.standardization_name
    # With parts of different weight the embedder determines it by default, and no argument is needed.
    if "(" not in standardize:
        arguments.append(f"standardize={'False' if standardize == 'none' else ascii(standardize)}")
    arguments += [f"{name}={value!a}" for name, value in (record.columns or {}).items() if value]
    if record.skipped is not None:
        arguments.append("on_bad_rows='skip'")
    return arguments


def select_arguments(record: SelectionRecord) -> list[str]:
    """Returns the lines of the arguments of `select` after the pool, the targets and the number of picks."""
    lines = []
    if record.already_selected:
        lines.append(f"already_selected=...,  # the {record.already_selected} rows that were trained on before")
    if record.quality is not None:
        column = record.quality.get("column")
        lines.append("quality=...,  # a number for each row of the pool" if column is None else f"quality={column!a},")
    if record.target_weights is not None:
        lines.append(f"target_weights={_weights(record.target_weights)},")
    avoid = record.acquisition_options.get("avoid")
    if avoid is not None:
        lines.append(f"avoid=Avoid(..., weight={avoid['weight']!a}),  # the {avoid['rows']} prompts to avoid")
    if record.replay is not None:
        entry = _subset(record.replay, "share", "method", "seed")
        lines.append(f"replay_share=Replay({_keyword_arguments(entry)}),")
    if record.constraints:
        # The record has the name of a column of the pool, but not labels or costs that were passed as values.
        entries = [f"    {name}={_constraint(name, value)}," for name, value in record.constraints.items()]
        lines += ["constraints=SelectionConstraints(", *entries, "),"]
    return lines


def _weights(entry: Mapping[str, Any]) -> str:
    """Returns the targets' weights as the name of their column, or as numbers."""
    if entry.get("column") is not None:
        return ascii(entry["column"])
    return ascii([float(value) for value in entry["values"]])


def _constraint(name: str, value: Any) -> str:
    if value is None:
        return "..."
    if name == "stop_when" and isinstance(value, Mapping):
        return f"StopWhen({_keyword_arguments(value)})"
    if name == "group_shares" and isinstance(value, list):
        return ascii({label: (low, high) for label, low, high in value})
    return ascii(value)


def _subset(facts: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: facts.get(name) for name in names}


def _embedder_arguments(model: Any, options: Mapping[str, Any]) -> str:
    without_defaults = {name: value for name, value in options.items() if value is not None}
    # The name of a model that is not on the Hub is not published.
    return ", ".join([ascii(model) if model else "...", _keyword_arguments(without_defaults)])


def _keyword_arguments(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!a}" for name, value in options.items())


def _split_list(value: Any, kind: type) -> Any:
    # A fingerprint has the text `3, 5` for several layers.
    if not isinstance(value, str) or "," not in value:
        return value
    return [kind(part) for part in value.split(", ")]
