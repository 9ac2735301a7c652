"""Groups of options in `--help`: which option stands under which heading, and how the page is laid out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints

import typer.core

#: Heading of options that are in no group: those that a command is about.
MAIN = "Options"
#: The options of each heading, in the order of the page.
GROUPS: dict[str, tuple[str, ...]] = {
    "Rows": (
        *("columns", "prompt_template", "targets_columns", "pool_split", "pool_config", "targets_split"),
        *("targets_config", "dataset_train_split", "dataset_config", "exclude", "on_bad_rows", "eval_dataset_name"),
    ),
    "Picking": (
        *("acquisition", "kernel", "standardize", "noise_std", "target_noise_std", "shortlist", "shortlist_model"),
        *("quality", "target_weights", "avoid", "avoid_weight", "replace", "replay_share", "replay_method", "seed"),
        "selection_seed",
    ),
    "Limits": ("token_budget", "costs", "groups", "group_shares", "stop_gain", "stop_variance_left"),
    "Features": (
        *("embedder", "span", "layer", "pooling", "skip_tokens", "modules", "dimension", "rank", "labels"),
        *("prompt_name", "normalize_embeddings", "url", "prefix", "batch_tokens", "embedding_column", "store"),
        *("no_store", "embedding_model", "embedding_max_length"),
    ),
    "Model": (
        *("model_name_or_path", "max_length", "packing", "compile", "dtype", "quantization", "device", "device_map"),
        *("revision", "trust_remote_code"),
    ),
    "Output": (
        *("output_dir", "overwrite", "report", "layout", "report_to", "logging_dir", "dry_run", "config", "json"),
        *("quiet", "verbose", "help"),
    ),
}
#: What is shown as the default of options that are `None` where they are left out, so that the embedder's own is used.
SHOWN_DEFAULTS = {
    "span": "prompt",
    "layer": "0.75",
    "pooling": "mean",
    "skip_tokens": "0",
    "modules": "all",
    "dimension": "8192",
    "rank": "256",
    "labels": "completion",
    "batch_tokens": "8192; for gradients 4096",
    "max_length": "the model's context, at most 2048",
    "dtype": "float32",
    "device": "the best there is",
    "embedding_model": "the one to train",
}
_GROUP_OF = {name: heading for heading, names in GROUPS.items() for name in names}
_HEADINGS = (MAIN, *GROUPS)


class Command(typer.core.TyperCommand):
    """A command whose `--help` groups the options."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Returns the words of the line of usage; braces would be taken for something to type."""
        return [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the arguments and each group of options under its heading."""
        records: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                is_argument = parameter.param_type_name == "argument"
                heading = "Arguments" if is_argument else _GROUP_OF.get(str(parameter.name), MAIN)
                records.setdefault(heading, []).append(record)
        write_groups(formatter, records, ("Arguments", *_HEADINGS))


def write_groups(
    formatter: Any, records: dict[str, list[tuple[str, str]]], headings: Sequence[str] = _HEADINGS
) -> None:
    """Writes groups of options.

    Args:
        formatter (`click.HelpFormatter`):
            Collects the page.
        records (`dict`):
            For each heading its options, each as names and explanation.
        headings (`Sequence[str]`, *optional*):
            Order of the groups.
    """
    for heading in headings:
        if heading in records:
            with formatter.section(heading):
                formatter.write_dl(records[heading])


def field_records(kind: type) -> dict[str, list[tuple[str, str]]]:
    """Returns the options that a dataclass declares, by heading.

    Args:
        kind (`type`):
            A dataclass whose fields `option` made.
    """
    types = get_type_hints(kind)
    records: dict[str, list[tuple[str, str]]] = {}
    for one in dataclasses.fields(kind):
        names = " ".join(
            [", ".join([f"--{one.name}", *one.metadata["aliases"]]), _value_name(one, types[one.name])]
        ).strip()
        default = shown_default(one)
        text = one.metadata["help"] + (f"  [default: {default}]" if default else "")
        records.setdefault(_GROUP_OF.get(one.name, MAIN), []).append((names, text))
    return records


def shown_default(one: dataclasses.Field[Any]) -> str:
    """Returns what is shown as the default of an option that a field declares; an empty text for none."""
    own_default = "" if one.default is None or one.default is False else str(one.default)
    return SHOWN_DEFAULTS.get(one.name, own_default)


def _value_name(one: dataclasses.Field[Any], annotation: Any) -> str:
    """Returns the placeholder of an option's value in the help, such as `<int>`; an empty text for a switch."""
    if annotation is bool:
        return ""
    arms = [arm for arm in (annotation, *get_args(annotation)) if get_origin(arm) is Literal]
    kinds = [arm.__name__ for arm in (annotation, *get_args(annotation)) if arm in (str, int, float)]
    default_name = f"<{'|'.join(map(str, get_args(arms[0])) if arms else kinds)}>"
    return str(one.metadata.get("metavar", default_name))
