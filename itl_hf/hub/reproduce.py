"""The selection as a program: from its record, the few lines of Python that make it again.

Values are written with `ascii`, so that nothing in a record can end a string or a block of code; the program is shown
to people and never run here. What a record does not hold (a kernel given as a function, an embedder of one's own) stays
an ellipsis with a comment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from itl_hf.selection.registry import ACQUISITION_NAMES, acquisition_class

if TYPE_CHECKING:
    from itl_hf.selection.result.record import SelectionRecord
    from itl_hf.selection.result.selection import Selection

Call = tuple[str, str]  # the import that it needs, the expression


def program(selection: Selection, source: Mapping[str, Any], where: str) -> str:
    """Python that selects again and compares.

    Args:
        selection (`Selection`):
            What was selected; its record is read.
        source (`Mapping`):
            `dataset`, `config`, `split`, `revision` of the pool, as far as they are known.
        where (`str`):
            Arguments that load what is published.
    """
    record = selection.record
    embedder_name, embedder = embedder_call(record)
    acquisition_import, acquisition = acquisition_call(record)
    kernel_import, kernel = kernel_call(record)
    arguments = select_arguments(record)
    used_names = ["Selection", "Selector"]
    used_names += [name for name in ("SelectionConstraints", "StopWhen") if any(f"{name}(" in a for a in arguments)]
    lines = [
        *versions_lines(record),
        "from datasets import load_dataset",
        f"from itl_hf import {embedder_name}{', '.join(sorted(used_names))}",
        *(line for line in (kernel_import, acquisition_import) if line),
        "",
        *rows_lines(record, source, selection.pool_size, len(selection.targets)),
        f"published = Selection.from_hub({where})",
        "",
        f"embedder = {embedder}",
        "selector = Selector(",
        *(f"    {argument}," for argument in selector_arguments(record, acquisition, kernel)),
        ")",
        "selection = selector.select(",
        *(f"    {line}" for line in ["pool,", "targets,", f"num_examples={len(selection)},", *arguments]),
        ")",
        "assert selection.indices.tolist() == published.indices.tolist()",
    ]
    return "\n".join(lines)


def versions_lines(record: SelectionRecord) -> list[str]:
    """What the picks were made with, as a comment."""
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    return [f"# made with {ascii(versions)[1:-1]}"] if versions else []


def rows_lines(record: SelectionRecord, source: Mapping[str, Any], pool_size: int, targets: int) -> list[str]:
    """Where pool and targets come from, as far as that is known."""
    pool = "..."
    if source.get("dataset"):
        names = [ascii(source[key]) for key in ("dataset", "config") if source.get(key)]
        options = [f"revision={source['revision']!a}"] if source.get("revision") else []
        options.append(f"split={source.get('split') or 'train'!a}")
        pool = f"load_dataset({', '.join(names + options)})"
    hashes = [ascii(record.pool_fingerprint), ascii(record.targets_fingerprint)]
    return [
        f"pool = {pool}  # {pool_size} rows; hash of their text: {hashes[0]}",
        f"targets = ...  # {targets} prompts; hash of their text: {hashes[1]}",
    ]


def embedder_call(record: SelectionRecord) -> Call:
    """The embedder with the settings of its fingerprint."""
    facts = record.embedder or {}
    kind = facts.get("embedder")
    if kind == "hidden_states":
        several = {
            "layer": _listed(facts.get("layer"), int),
            "pooling": _listed(facts.get("pooling"), str),
        }
        given = several | _chosen(facts, "span", "skip_tokens", "max_length", "dtype", "revision")
        return "HiddenStates, ", f"HiddenStates({_arguments(facts.get('model'), given)})"
    if kind == "sentence_encoder" and not facts.get("prompt"):
        given = _chosen(facts, "span", "normalize_embeddings", "dtype", "revision")
        given["max_length"] = facts.get("max_seq_length")
        return "SentenceEncoder, ", f"SentenceEncoder({_arguments(facts.get('model'), given)})"
    return "", '...  # the one that "embedder" in selection.json describes'


def kernel_call(record: SelectionRecord) -> Call:
    """The kernel with its lengthscale."""
    name, options = record.kernel_name, record.kernel_options
    if name in ("linear", "cosine"):
        return "", ascii(name)
    if name in ("rbf", "laplace"):
        kind = {"rbf": "RBF", "laplace": "Laplace"}[name]
        arguments = f"{options.get('lengthscale')!a}, on={options.get('on')!a}"
        return f"from itl_hf.gp.kernels import {kind}", f"{kind}({arguments})"
    return "", "..."


def acquisition_call(record: SelectionRecord) -> Call:
    """The acquisition with all its options, the noise as it was found."""
    if record.acquisition_name not in ACQUISITION_NAMES:
        return "", "..."
    kind = acquisition_class(record.acquisition_name)
    options = {
        one.name: record.acquisition_options[one.name]
        for one in fields(kind)
        if one.init and one.name in record.acquisition_options
    }
    options |= {name: getattr(record, name) for name in ("noise_std", "target_noise_std") if name in options}
    return f"from {kind.__module__} import {kind.__name__}", f"{kind.__name__}({_options(options)})"


def selector_arguments(record: SelectionRecord, acquisition: str, kernel: str) -> list[str]:
    """What `Selector` is given beside pool and targets."""
    parts = ["embedder", acquisition, f"kernel={kernel}"]
    prepared = record.standardization_name
    # With parts of different weight it is the embedder's own choice, which needs no argument.
    if "(" not in prepared:
        parts.append(f"standardize={'False' if prepared == 'none' else ascii(prepared)}")
    return parts


def select_arguments(record: SelectionRecord) -> list[str]:
    """What `select` is given beside pool, targets and the number of picks, a line each."""
    lines = []
    if record.already_selected:
        lines.append(f"already_selected=...,  # the {record.already_selected} rows that were trained on before")
    if record.constraints:
        # A column of the pool has a name; labels and costs that were given as values are not in the record.
        entries = [f"    {name}={_constraint(name, value)}," for name, value in record.constraints.items()]
        lines += ["constraints=SelectionConstraints(", *entries, "),"]
    return lines


def _constraint(name: str, value: Any) -> str:
    if value is None:
        return "..."
    if name == "stop_when" and isinstance(value, Mapping):
        return f"StopWhen({_options(value)})"
    if name == "group_shares" and isinstance(value, list):
        return ascii({label: (low, high) for label, low, high in value})
    return ascii(value)


def _chosen(facts: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: facts.get(name) for name in names}


def _arguments(model: Any, given: Mapping[str, Any]) -> str:
    return ", ".join([ascii(model), _options({key: value for key, value in given.items() if value is not None})])


def _options(given: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value!a}" for key, value in given.items())


def _listed(value: Any, kind: type) -> Any:
    """Fingerprints hold `3, 5` for several layers."""
    if not isinstance(value, str) or "," not in value:
        return value
    return [kind(part) for part in value.split(", ")]
