"""The card of a published selection: metadata that the Hub searches and shows, and prose that a stranger can judge by.

Everything that comes from data or from a record is escaped by the template. Text of targets is in it only where the
targets are published as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import DatasetCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from itl_hf.hub.escape import Safe, code, escape, finalize, number
from itl_hf.hub.reproduce import program
from itl_hf.hub.restore import VARIANCE_COLUMN
from itl_hf.report.sections import METHODS
from itl_hf.selection.diagnosis.diagnosis import WORDS, Diagnosis
from itl_hf.text import plain_text

if TYPE_CHECKING:
    from itl_hf.selection.result.record import SelectionRecord
    from itl_hf.selection.result.selection import Selection

TAGS = ("itl-hf", "data-selection", "transductive-active-learning")
SIZES = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (1e7, "1M<n<10M"))
SHOWN_PICKS, SHOWN_TARGETS = 10, 20
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]*")


@dataclass(frozen=True)
class Published:
    """What is published, beside the selection itself.

    Args:
        repo_id (`str`):
            Name on the Hub.
        revision (`str`, *optional*):
            Branch, where it is not the main one.
        source (`Mapping`):
            `dataset`, `config`, `split`, `revision` of the pool, as far as they are known.
        license (`str` or list of them, *optional*):
            Of the pool, an identifier of the Hub.
        features (`bool`):
            Whether the picks' features are there.
        targets (`bool`):
            Whether the target prompts are there.
    """

    repo_id: str
    revision: str | None = None
    source: Mapping[str, Any] = field(default_factory=dict)
    license: str | list[str] | None = None
    features: bool = False
    targets: bool = False

    @property
    def where(self) -> str:
        """Arguments of a function that loads it."""
        return ascii(self.repo_id) + (f", revision={self.revision!a}" if self.revision else "")


def write_card(selection: Selection, published: Published) -> str:
    """The text of README.md, metadata first."""
    environment = Environment(
        loader=PackageLoader("itl_hf.hub"),
        autoescape=False,  # Markdown: `finalize` escapes, for HTML as well
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["code"] = code
    diagnosis = selection.diagnose()
    text = environment.get_template("card.md.jinja").render(
        facts=card_facts(selection, diagnosis),
        published=published,
        where=Safe(published.where),
        source=hub_link(published.source.get("dataset"), "datasets/"),
        license=published.license,
        variance_column=Safe(VARIANCE_COLUMN),
        settings=settings(selection.record),
        summary=[Safe(sentence) for sentence in diagnosis.summary().split("\n")],
        hopeless=hopeless(diagnosis, published.targets),
        notices=[Safe(notice.text) for notice in diagnosis.notices],
        picks=picks(selection),
        program=Safe(program(selection, published.source, published.where)),
    )
    return f"---\n{metadata(selection, published).to_yaml()}\n---\n\n{text}"


def metadata(selection: Selection, published: Published) -> DatasetCardData:
    """What the Hub searches by, and which files are which configuration."""
    size = next((name for limit, name in SIZES if len(selection) < limit), "n>10M")
    configs: list[dict[str, Any]] = [{"config_name": "default", "data_files": "data/*.parquet", "default": True}]
    if published.features:
        configs.append({"config_name": "features", "data_files": "features/*.parquet"})
    if published.targets:
        configs.append({"config_name": "targets", "data_files": "targets.parquet"})
    models = [name for name in model_names(selection.record) if is_hub_id(name)]
    base = published.source.get("dataset")
    more: dict[str, Any] = {"base_model": models[0] if len(models) == 1 else models} if models else {}
    return DatasetCardData(
        pretty_name=title(selection),
        license=known_license(published.license),
        source_datasets=[base] if base and is_hub_id(base) else None,
        size_categories=[size],
        task_categories=["text-generation"],
        tags=[*TAGS, selection.record.acquisition_name],
        configs=configs,
        **more,
    )


def title(selection: Selection) -> str:
    """One line of numbers and the method."""
    return f"{len(selection):,} rows picked from {selection.pool_size:,} by {method(selection.record)}"


def method(record: SelectionRecord) -> str:
    """The acquisition as people call it."""
    return METHODS.get(record.acquisition_name, record.acquisition_name)


def card_facts(selection: Selection, diagnosis: Diagnosis) -> dict[str, Any]:
    """The numbers of the first lines."""
    record = selection.record
    models = model_names(record)
    return {
        "title": Safe(f"{len(selection):,} rows picked from {selection.pool_size:,}"),
        "method": method(record),
        "picks": Safe(f"{len(selection):,}"),
        "pool": Safe(f"{selection.pool_size:,}"),
        "targets": Safe(f"{len(selection.targets):,}"),
        "models": Safe(" and ".join(hub_link(name) for name in models)) if models else Safe("the embedder"),
        "left": number(diagnosis.left, ".0%"),
        "nats": number(float(selection.gains.sum()), ".3g"),
    }


def settings(record: SelectionRecord) -> list[tuple[str, str]]:
    """How it was made, line by line; every value as it stands in the record."""
    rows: list[tuple[str, Any]] = [("method", method(record)), ("kernel", _kernel(record))]
    rows.append(("preparation of features", record.standardization_name))
    rows += [(f"embedder: {key}", value) for key, value in (record.embedder or {}).items()]
    rows.append(("noise (standard deviation)", f"{record.noise_std:.6g}"))
    rows.append(("noise on the targets", f"{record.target_noise_std:.6g}"))
    rows.append(("how the noise was chosen", record.noise_rule))
    rows.append(("seed", record.acquisition_options.get("seed", "none: nothing is drawn")))
    rows.append(("rows trained on before", record.already_selected))
    rows += [(f"constraint: {key}", value) for key, value in record.constraints.items()]
    rows += [("hash of the pool", record.pool_fingerprint), ("hash of the targets", record.targets_fingerprint)]
    rows += [(f"version of {name}", value) for name, value in record.versions.items()]
    return [(escape(name), code(value)) for name, value in rows if value is not None]


def _kernel(record: SelectionRecord) -> str:
    length = record.kernel_options.get("lengthscale")
    return f"{record.kernel_name}{f' with lengthscale {length:g}' if length else ''} ({record.kernel_rule})"


def hopeless(diagnosis: Diagnosis, with_text: bool) -> list[dict[str, Any]]:
    """Targets that the pool cannot teach, or that no row is near."""
    return [
        {
            "number": target.target,
            "left": number(target.left, ".0%"),
            "irreducible": number(target.irreducible, ".0%"),
            "reach": number(target.reach, ".2f"),
            "verdict": Safe(WORDS[target.verdict]),
            "text": escape(target.text, 120) if with_text else None,
        }
        for target in [*diagnosis.unteachable, *diagnosis.far][:SHOWN_TARGETS]
    ]


def picks(selection: Selection) -> list[dict[str, Any]]:
    """The first picks, with the beginning of their text."""
    shown = selection.dataset.select(range(min(SHOWN_PICKS, len(selection.dataset))))
    return [
        {
            "rank": row["itl_rank"],
            "row": row["pool_index"],
            "gain": number(row["itl_gain"], ".3g"),
            "similarity": number(row["itl_similarity"], ".2f"),
            "text": escape(next((text for text in plain_text(row) if text), ""), 120),
        }
        for row in shown
    ]


def model_names(record: SelectionRecord) -> list[str]:
    """Models that made the features, those of a combined embedder too."""
    facts = record.embedder or {}
    return list(dict.fromkeys(str(facts[key]) for key in facts if key.rpartition(".")[2] == "model" and facts[key]))


def is_hub_id(name: str) -> bool:
    """Whether a name is that of a repository rather than of a folder."""
    return bool(_HUB_ID.fullmatch(name)) and not Path(name).exists()


def hub_link(name: Any, kind: str = "") -> Safe:
    """A link where the name is one of the Hub, else the name alone; empty where there is none."""
    if not name:
        return Safe("")
    known = is_hub_id(str(name))
    return Safe(f"[{code(name)}](https://huggingface.co/{kind}{name})") if known else code(name)


def known_license(names: str | Sequence[str] | None) -> str | list[str] | None:
    """What the Hub takes for a licence; terms in words are `other`."""
    if not names:
        return None
    listed = [names] if isinstance(names, str) else list(names)
    checked = [name if _LICENSE.fullmatch(name) else "other" for name in listed]
    return checked[0] if len(checked) == 1 else checked
