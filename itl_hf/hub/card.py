"""The dataset card (README.md) of a published selection.

Its metadata is what the Hub searches and shows, and its text explains the selection to somebody who has not seen it.
Everything that comes from data or from a record is escaped by the template. The card contains text of the targets only
if the targets are published as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from huggingface_hub import DatasetCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from itl_hf.hub.escape import SafeMarkdown, code_span, escape, finalize, format_number
from itl_hf.hub.public_record import is_hub_id
from itl_hf.hub.reproduce import reproduction_script
from itl_hf.report.gains import gain_name, gain_number, information_text
from itl_hf.report.names import method_name
from itl_hf.selection.diagnosis.diagnosis import WORDS, Diagnosis
from itl_hf.selection.diagnosis.verdict import next_steps, verdict
from itl_hf.selection.diagnosis.weighting import numbers_text
from itl_hf.selection.result.columns import VARIANCE_COLUMN
from itl_hf.text import plain_text
from itl_hf.text.excerpts import excerpts

if TYPE_CHECKING:
    from itl_hf.selection.result.record import SelectionRecord
    from itl_hf.selection.result.selection import Selection

TAGS = ("itl-hf", "data-selection", "transductive-active-learning")
#: The Hub's names of dataset sizes, each with the number of rows that it is below.
SIZES = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (1e7, "1M<n<10M"))
MAX_PICKS, MIN_TARGETS, MAX_TARGETS, TEXT_LENGTH = 10, 5, 20, 120
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]*")


@dataclass(frozen=True)
class Publication:
    """Where a selection is published, and what is published with it.

    Args:
        repo_id (`str`):
            Name of the dataset on the Hub.
        revision (`str`, *optional*):
            Branch, if it is not the main one.
        source (`Mapping`):
            `dataset`, `config`, `split` and `revision` of the pool; what is not known is missing.
        license (`str` or list of them, *optional*):
            Licence of the pool, an identifier of the Hub.
        include_features (`bool`):
            Whether the features of the picks are published.
        include_targets (`bool`):
            Whether the target prompts are published.
    """

    repo_id: str
    revision: str | None = None
    source: Mapping[str, Any] = field(default_factory=dict)
    license: str | list[str] | None = None
    include_features: bool = False
    include_targets: bool = False

    @property
    def load_arguments(self) -> str:
        """The arguments with which `load_dataset` and `Selection.from_hub` load it, as Python code."""
        return ascii(self.repo_id) + (f", revision={self.revision!a}" if self.revision else "")


def write_card(selection: Selection, publication: Publication) -> str:
    """Returns the content of README.md: the metadata as YAML, then the text."""
    environment = Environment(  # nosec B701
        loader=PackageLoader("itl_hf.hub"),
        autoescape=False,  # the card is Markdown: `finalize` escapes values for Markdown and HTML
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["code"] = code_span
    diagnosis = selection.diagnose()
    script = reproduction_script(selection, publication.source, publication.load_arguments)
    text = environment.get_template("card.md.jinja").render(
        facts=card_facts(selection, diagnosis),
        publication=publication,
        load_arguments=SafeMarkdown(publication.load_arguments),
        source=hub_link(publication.source.get("dataset"), "datasets/"),
        variance_column=SafeMarkdown(VARIANCE_COLUMN),
        settings=settings_table(selection.record),
        summary=[SafeMarkdown(sentence) for sentence in diagnosis.summary().split("\n")],
        verdict=SafeMarkdown(verdict(diagnosis)),
        next_steps=[SafeMarkdown(step) for step in next_steps(diagnosis)],
        worst_targets=worst_targets_table(diagnosis, publication.include_targets),
        notices=[SafeMarkdown(notice.text) for notice in diagnosis.notices],
        first_picks=first_picks_table(selection),
        reproduction_script=SafeMarkdown(script),
    )
    return f"---\n{card_metadata(selection, publication).to_yaml()}\n---\n\n{text}"


def card_metadata(selection: Selection, publication: Publication) -> DatasetCardData:
    """Returns what the Hub searches by, and which files belong to which configuration."""
    size = next((name for limit, name in SIZES if len(selection) < limit), "n>10M")
    configs: list[dict[str, Any]] = [{"config_name": "default", "data_files": "data/*.parquet", "default": True}]
    if publication.include_features:
        configs.append({"config_name": "features", "data_files": "features/*.parquet"})
    if publication.include_targets:
        configs.append({"config_name": "targets", "data_files": "targets.parquet"})
    models = [name for name in model_names(selection.record) if is_hub_id(name)]
    base = publication.source.get("dataset")
    optional: dict[str, Any] = {"base_model": models[0] if len(models) == 1 else models} if models else {}
    return DatasetCardData(
        pretty_name=f"{card_title(selection)} by {method_name(selection.record)}",
        license=hub_license(publication.license),
        source_datasets=[base] if base and is_hub_id(base) else None,
        size_categories=[size],
        task_categories=["text-generation"],
        tags=[*TAGS, selection.record.acquisition_name],
        configs=configs,
        **optional,
    )


def card_title(selection: Selection) -> str:
    """Returns one line with the number of picks and the size of the pool."""
    return f"{len(selection):,} rows picked from {selection.pool_size:,}"


def card_facts(selection: Selection, diagnosis: Diagnosis) -> dict[str, Any]:
    """Returns the numbers and names in the first paragraph of the card."""
    record = selection.record
    models = model_names(record)
    information = information_text(selection)
    return {
        "title": SafeMarkdown(card_title(selection)),
        "method": method_name(record),
        "picks": SafeMarkdown(f"{len(selection):,}"),
        "pool": SafeMarkdown(f"{selection.pool_size:,}"),
        "targets": SafeMarkdown(f"{len(selection.targets):,}"),
        "models": SafeMarkdown(" and ".join(hub_link(name) for name in models)) if models else None,
        "left": format_number(diagnosis.left, ".0%"),
        "gain": gain_name(record),
        "information": None if information is None else SafeMarkdown(information),
    }


def settings_table(record: SelectionRecord) -> list[tuple[str, str]]:
    """Returns the settings of the selection as names and values, with the values of the record."""
    rows: list[tuple[str, Any]] = [("method", method_name(record)), ("kernel", _kernel_description(record))]
    rows.append(("standardization of the features", record.standardization_name))
    embedder = dict(record.embedder or {})
    rows.append(("embedder", embedder.pop("embedder", None)))
    rows += [(f"embedder: {key}", value) for key, value in embedder.items()]
    rows.append(("noise (standard deviation)", f"{record.noise_std:.6g}"))
    rows.append(("noise on the targets (standard deviation)", f"{record.target_noise_std:.6g}"))
    rows.append(("rule for the noise", record.noise_rule))
    rows.append(("seed", record.acquisition_options.get("seed", "none: the method is not random")))
    rows.append(("number of rows trained on before", record.already_selected))
    rows.append(("quality of the rows", numbers_text(record.quality)))
    rows.append(("weights of the targets", numbers_text(record.target_weights)))
    if record.replay is not None:  # these rows are not published
        entry = record.replay
        rows.append(("replay rows (not in this dataset)", f"{entry.get('rows')} by {entry.get('method')}"))
    rows += [(f"constraint: {key}", value) for key, value in record.constraints.items()]
    rows += [("hash of the pool", record.pool_fingerprint), ("hash of the targets", record.targets_fingerprint)]
    rows += [(f"version of {name}", value) for name, value in record.versions.items()]
    return [(escape(name), code_span(value)) for name, value in rows if value is not None]


def _kernel_description(record: SelectionRecord) -> str:
    length = record.kernel_options.get("lengthscale")
    return f"{record.kernel_name}{f' with lengthscale {length:g}' if length else ''} ({record.kernel_rule})"


def worst_targets_table(diagnosis: Diagnosis, with_text: bool) -> list[dict[str, Any]]:
    """Returns the targets out of reach of the pool, and in any case the worst ones."""
    targets = diagnosis.worst_first[: max(MIN_TARGETS, min(len(diagnosis.out_of_reach), MAX_TARGETS))]
    texts = excerpts([target.text for target in targets], TEXT_LENGTH)
    return [
        {
            "number": target.target,
            "left": format_number(target.left, ".0%"),
            "irreducible": format_number(target.irreducible, ".0%"),
            "reach": format_number(target.reach, ".2f"),
            "verdict": SafeMarkdown(WORDS[target.verdict]),
            "text": escape(text) if with_text else None,
        }
        for target, text in zip(targets, texts, strict=True)
    ]


def first_picks_table(selection: Selection) -> list[dict[str, Any]]:
    """Returns the first picks with an excerpt of their text."""
    rows = selection.dataset.select(range(min(MAX_PICKS, len(selection.dataset))))
    texts = excerpts([next((text for text in plain_text(row) if text), "") for row in rows], TEXT_LENGTH)
    return [
        {
            "rank": place + 1,
            "row": row["pool_index"],
            "gain": SafeMarkdown(gain_number(row["itl_gain"], selection.gains)),
            "similarity": format_number(row["itl_similarity"], ".2f"),
            "text": escape(text),
        }
        for place, (row, text) in enumerate(zip(rows, texts, strict=True))
    ]


def model_names(record: SelectionRecord) -> list[str]:
    """Returns the names of the models that computed the features; a combined embedder has several."""
    facts = record.embedder or {}
    return list(dict.fromkeys(str(facts[key]) for key in facts if key.rpartition(".")[2] == "model" and facts[key]))


def hub_link(name: Any, kind: str = "") -> SafeMarkdown:
    """Returns a link to a repository on the Hub, or the name alone if it is not there; empty if there is no name."""
    if not name:
        return SafeMarkdown("")
    if not is_hub_id(str(name)):
        return code_span(name)
    return SafeMarkdown(f"[{code_span(name)}](https://huggingface.co/{kind}{name})")


def hub_license(names: str | Sequence[str] | None) -> str | list[str] | None:
    """Returns licences as identifiers that the Hub accepts; `other` for anything that is not an identifier."""
    if not names:
        return None
    name_list = [names] if isinstance(names, str) else list(names)
    identifiers = [name if _LICENSE.fullmatch(name) else "other" for name in name_list]
    return identifiers[0] if len(identifiers) == 1 else identifiers
