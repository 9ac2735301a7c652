"""Puts the card of a selection into a README.md that a repository has already, as a section between two comments.

What its owner wrote, such as a licence, conditions of access and prose, is kept. Only the section, and entries of the
metadata that an earlier push wrote and nobody changed since, are replaced. The first comment holds these entries.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

_METADATA = re.compile(r"\A\ufeff?\s*---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_SECTION = re.compile(r"<!-- itl-hf:begin (\{.*?\}) -->\r?\n.*?\r?\n<!-- itl-hf:end -->", re.DOTALL)
_MARK = "<!-- itl-hf:"
_REMEDY = "mend it, or replace it with overwrite_card=True (--overwrite_card)"

Entries = dict[str, Any]


def with_marks(card: str) -> str:
    """Returns a card whose text is between two comments, the first of which holds its metadata.

    Args:
        card (`str`):
            Metadata as YAML between two lines `---`, then text.
    """
    metadata, text = _split(card)
    entries = _parse(metadata)
    return f"---\n{metadata}\n---\n\n{_section(entries, text)}\n"


def merge_card(existing_card: str, card: str) -> str:
    """Returns a README.md with the card of a selection as a section of it.

    Args:
        existing_card (`str`):
            The README.md of the repository.
        card (`str`):
            The card of the selection, from `with_marks`.

    Raises:
        `ValueError`: If the metadata or the section of `existing_card` cannot be read.
    """
    if not existing_card.strip():
        return card
    metadata, text = _split(existing_card)
    own_metadata, own_text = _split(card)
    sections = _SECTION.findall(text)
    if len(sections) != min(text.count(_MARK), 1) or text.count(_MARK) > 2:
        raise ValueError(f"README.md has comments {_MARK}... that do not mark one section: {_REMEDY}")
    entries = _parse(metadata)
    new_entries, own_entries = _merge(entries, _parse_json(sections[0]) if sections else {}, _parse(own_metadata))
    match = _SECTION.search(own_text)
    section = _section(own_entries, "" if match is None else _inner_text(match[0]))
    text = _SECTION.sub(lambda _: section, text) if sections else f"{text.rstrip()}\n\n{section}\n"
    return f"---\n{_metadata_text(metadata, entries, new_entries)}\n---\n\n{text.lstrip()}"


def _merge(entries: Entries, earlier: Mapping[str, Any], card: Entries) -> tuple[Entries, Entries]:
    """Returns the metadata of README.md, and the part of it that is of the selection.

    Args:
        entries (`dict`):
            Metadata in README.md.
        earlier (`Mapping`):
            The part that an earlier push wrote.
        card (`dict`):
            Metadata of the selection's card.
    """
    entries_now = {key: value for key, value in entries.items() if key not in earlier or earlier[key] != value}
    own: Entries = {}
    for key, value in card.items():
        if key in ("tags", "configs"):
            own[key] = value
            others = [one for one in _as_list(entries_now.get(key)) if one not in _as_list(earlier.get(key))]
            entries_now[key] = _merge_lists(others, value)
        elif key not in entries_now:
            entries_now[key] = own[key] = value
    if "dataset_info" in entries_now:  # describes files that are not there any more
        names = {config["config_name"] for config in card.get("configs", [])}
        infos = _as_list(entries_now.pop("dataset_info"))
        infos = [one for one in infos if not isinstance(one, dict) or one.get("config_name", "default") not in names]
        entries_now |= {"dataset_info": infos} if infos else {}
    return entries_now, own


def _merge_lists(others: list[Any], own: list[Any]) -> list[Any]:
    if not all(isinstance(one, dict) for one in own):
        return [*others, *(one for one in own if one not in others)]
    names = {one["config_name"] for one in own}
    others = [one for one in others if not isinstance(one, dict) or one.get("config_name", "default") not in names]
    has_default = any(isinstance(one, dict) and one.get("default") for one in others)
    own = [{key: value for key, value in one.items() if key != "default" or not has_default} for one in own]
    return [*others, *own]


def _metadata_text(text: str, entries: Entries, new_entries: Entries) -> str:
    """Returns the metadata as YAML; entries that do not change keep their lines, and comments stay."""
    if entries == new_entries:
        return text
    changes = {key: value for key, value in new_entries.items() if key not in entries or entries[key] != value}
    left_out = {*changes, *(key for key in entries if key not in new_entries)}
    lines, is_left_out = [], False
    for line in text.splitlines():
        key = re.match(r"""(?:"([^"]+)"|'([^']+)'|([^\s#'"\-][^:#]*?))\s*:(?:\s|$)""", line)
        if key is not None:
            is_left_out = next(part for part in key.groups() if part is not None) in left_out
        elif line.startswith("#"):
            is_left_out = False
        if not is_left_out:
            lines.append(line)
    result = "\n".join([*lines, _dump(changes)]) if changes else "\n".join(lines)
    try:
        is_same = yaml.safe_load(result) == new_entries
    except yaml.YAMLError:
        is_same = False
    return result if is_same else _dump(new_entries)


def _split(card: str) -> tuple[str, str]:
    """Returns the metadata without the lines `---`, and the text."""
    match = _METADATA.match(card)
    return ("", card) if match is None else (match[1], card[match.end() :])


def _parse(metadata: str) -> Entries:
    try:
        entries = yaml.safe_load(metadata) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"the metadata of README.md cannot be read as YAML: {error}; {_REMEDY}") from error
    if not isinstance(entries, dict):
        raise ValueError(f"the metadata of README.md is no YAML mapping: {_REMEDY}")
    return entries


def _parse_json(text: str) -> Entries:
    try:
        entries: Entries = json.loads(text)
    except ValueError as error:
        raise ValueError(f"a comment {_MARK}... of README.md was changed: {_REMEDY}") from error
    return entries


def _section(entries: Entries, text: str) -> str:
    facts = json.dumps(entries, default=str)
    for character in "-<>":  # nothing in it may end the comment
        facts = facts.replace(character, f"\\u{ord(character):04x}")
    text = text.strip("\n").replace(_MARK, _MARK.replace("<", "&lt;"))
    return f"<!-- itl-hf:begin {facts} -->\n\n{text}\n\n<!-- itl-hf:end -->"


def _inner_text(section: str) -> str:
    return section.partition("\n")[2].rpartition("\n")[0]


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _dump(entries: Entries) -> str:
    text = yaml.safe_dump(entries, sort_keys=False, allow_unicode=True)
    if yaml.safe_load(text) != entries:  # it holds line ends other than \n, which are read as spaces
        text = yaml.safe_dump(entries, sort_keys=False)
    return text.rstrip("\n")
