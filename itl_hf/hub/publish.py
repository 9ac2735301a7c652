"""Publishes a selection: all files are written and checked on this machine first and then sent as one commit.

A commit is applied completely or not at all, so a push that is interrupted publishes nothing, and the next push
completes it: large files that were already uploaded are not sent again. Tokens are passed to `huggingface_hub` and
never written to a file.
"""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    DatasetCard,
    HfApi,
)
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from itl_hf.disk.checks import check_new_folder, expand
from itl_hf.disk.temporary import temporary_folder
from itl_hf.disk.whole_files import new_folder
from itl_hf.hub.card import Publication, hub_license
from itl_hf.hub.card_section import merge_card
from itl_hf.hub.contents import CARD, picked_features, write_contents
from itl_hf.hub.retry import with_retries
from itl_hf.report.names import method_name
from itl_hf.selection.result.folder import FACTS

if TYPE_CHECKING:
    from itl_hf.selection.result.record import SelectionRecord
    from itl_hf.selection.result.selection import Selection

Operation = CommitOperationAdd | CommitOperationCopy | CommitOperationDelete

REPO_TYPE = "dataset"
#: Files that a push writes. Those of an earlier push that the new one does not write are deleted.
PUBLISHED_FILES = ("data/*.parquet", "features/*.parquet", "pictures/*.png", "targets.parquet")
#: A repository that has only these files counts as empty.
GENERAL_FILES = (".gitattributes", "README.md", "LICENSE")


def publish(
    selection: Selection,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    include_features: bool = False,
    include_targets: bool = False,
    store: str | os.PathLike[str] | bool | None = None,
    base_dataset: str | None = None,
    license: str | list[str] | None = None,
    commit_message: str | None = None,
    overwrite_card: bool = False,
) -> CommitInfo:
    """Publishes a selection; `Selection.push_to_hub` documents the arguments and errors."""
    validate_repo_id(repo_id)
    features = picked_features(selection, store) if include_features else None
    api = HfApi(token=token)
    if "/" not in repo_id:
        repo_id = f"{with_retries(api.whoami, 'asking who you are')['name']}/{repo_id}"
    source = pool_source(selection.record, base_dataset)
    is_license_argument = license is not None
    license = license or _license_of(api, source.get("dataset"))
    publication = Publication(repo_id, revision, source, license, include_features, include_targets)
    message = commit_message or (
        f"{len(selection)} of {selection.pool_size} rows, picked by {method_name(selection.record)} for "
        f"{len(selection.targets)} targets"
    )
    with temporary_folder("itl-hf-push") as folder:
        write_contents(selection, folder, publication, features)
        try:
            head, names = _prepare_repository(api, repo_id, private, revision)
            if CARD in names and not overwrite_card:
                _merge_into_card(api, folder / CARD, repo_id, head, license if is_license_argument else None)
            return _commit_folder(api, folder, repo_id, revision, head, message)
        except ConnectionError as error:
            raise ConnectionError(
                f"{error}. The repository holds what it held before, or all of the new version if only the last "
                "answer was lost; push again to complete it"
            ) from error


def preview(
    selection: Selection,
    directory: str | os.PathLike[str],
    repo_id: str,
    *,
    store: str | os.PathLike[str] | bool | None = None,
    base_dataset: str | None = None,
    **options: Any,
) -> Path:
    """Writes what `publish` would publish to a folder, without a connection to the Hub.

    Args:
        selection (`Selection`):
            The selection to publish.
        directory (`str` or `PathLike`):
            A folder that is empty or does not exist yet.
        repo_id (`str`):
            Name of the dataset in the card.
        store (`str`, `PathLike` or `bool`, *optional*):
            The `store=` of the selector, from which features are read; left out, the default cache.
        base_dataset (`str`, *optional*):
            Name of the pool on the Hub.
        **options:
            Further fields of `Publication`.

    Returns:
        `Path`: The folder.

    Raises:
        `FileExistsError`: If the folder is not empty, or the working directory.
    """
    folder = expand(directory)
    check_new_folder(folder, "the folder of the preview")
    validate_repo_id(repo_id)
    features = picked_features(selection, store) if options.get("include_features") else None
    publication = Publication(repo_id, source=pool_source(selection.record, base_dataset), **options)
    with new_folder(folder) as draft:
        write_contents(selection, draft, publication, features)
    return folder


def pool_source(record: SelectionRecord, base_dataset: str | None) -> dict[str, Any]:
    """Returns where the pool comes from: the base dataset if it is named, otherwise what the record says.

    Raises:
        `ValueError`: If the name of the base dataset cannot be one on the Hub, as that of a folder.
    """
    source = dict(record.pool_source or {})
    if base_dataset is None or base_dataset == source.get("dataset"):
        return source
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", base_dataset, re.ASCII):
        raise ValueError(
            f"base_dataset {base_dataset!r} is no name of a dataset on the Hub: give user/name, or leave it out"
        )
    return {"dataset": base_dataset}


def _license_of(api: HfApi, dataset: str | None) -> str | list[str] | None:
    """Returns the licence in the card of the base dataset, or `None` if that cannot be read."""
    if not dataset:
        return None
    with contextlib.suppress(OSError, ValueError):
        card = with_retries(lambda: api.dataset_info(dataset), "reading the base dataset's licence").card_data
        return None if card is None else card.get("license")
    return None


def _prepare_repository(api: HfApi, repo_id: str, private: bool | None, revision: str | None) -> tuple[str, list[str]]:
    """Creates the repository and the branch if they do not exist.

    Returns:
        `tuple[str, list[str]]`: The parent of the new commit, and the files in it.
    """
    with_retries(
        lambda: api.create_repo(repo_id, repo_type=REPO_TYPE, private=private, exist_ok=True), f"creating {repo_id}"
    )
    if revision is not None and not revision.startswith("refs/"):
        with_retries(
            lambda: api.create_branch(repo_id, repo_type=REPO_TYPE, branch=revision, exist_ok=True),
            f"creating the branch {revision}",
        )
    info = with_retries(lambda: api.dataset_info(repo_id, revision=revision), f"looking at {repo_id}")
    if private is False and info.private:
        raise ValueError(
            f"{repo_id} exists and is private, and a push does not change that: make it public in its settings, or "
            "leave out --public (private=False)"
        )
    if private and not info.private:
        raise ValueError(
            f"{repo_id} exists and is public: make it private in its settings first, or choose another name"
        )
    names = [file.rfilename for file in info.siblings or []]
    if FACTS not in names and set(names) - set(GENERAL_FILES):
        raise FileExistsError(
            f"{repo_id} exists and holds no selection but {len(names)} other files; choose another name or empty it"
        )
    return str(info.sha), names


def _merge_into_card(api: HfApi, path: Path, repo_id: str, head: str, license: str | list[str] | None) -> None:
    """Makes the card a section of the repository's own README.md.

    Args:
        api (`HfApi`):
            The Hub.
        path (`Path`):
            The card, which is replaced by the whole README.md.
        repo_id (`str`):
            The repository.
        head (`str`):
            The commit whose README.md is kept.
        license (`str` or list of them, *optional*):
            The licence that was asked for.

    Raises:
        `ValueError`: If the README.md cannot be read.
    """
    download = lambda: api.hf_hub_download(repo_id, CARD, repo_type=REPO_TYPE, revision=head)
    existing_card = Path(with_retries(download, f"reading {CARD} of {repo_id}")).read_bytes()
    try:
        merged_card = merge_card(existing_card.decode("utf-8"), path.read_text(encoding="utf-8"))
    except ValueError as error:
        remedy = "" if "overwrite_card" in str(error) else "; replace it with overwrite_card=True (--overwrite_card)"
        raise ValueError(f"{repo_id}: {error}{remedy}") from error
    path.write_bytes(merged_card.encode("utf-8"))
    kept_license = DatasetCard(merged_card, ignore_metadata_errors=True).data.get("license")
    if license is not None and kept_license != hub_license(license):
        warnings.warn(
            f"the README.md of {repo_id} has the license {kept_license!r}, which is kept; overwrite_card=True "
            "(--overwrite_card) replaces the whole README.md",
            stacklevel=4,
        )


def _commit_folder(api: HfApi, folder: Path, repo_id: str, revision: str | None, head: str, message: str) -> CommitInfo:
    """Adds the files of the folder and deletes other files of an earlier push, in one commit."""
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    names = with_retries(lambda: api.list_repo_files(repo_id, repo_type=REPO_TYPE, revision=head), f"listing {repo_id}")
    outdated_files = [
        name for name in names if name not in paths and any(fnmatch(name, pattern) for pattern in PUBLISHED_FILES)
    ]
    operations: list[Operation] = [
        *(CommitOperationAdd(name, path) for name, path in paths.items()),
        *(CommitOperationDelete(name) for name in outdated_files),
    ]

    def commit() -> CommitInfo:
        return api.create_commit(
            repo_id, operations, repo_type=REPO_TYPE, revision=revision, commit_message=message, parent_commit=head
        )

    return with_retries(commit, f"publishing {repo_id}")


def visibility(repo_id: str, token: str | bool | None = None) -> str:
    """Returns who can see a dataset on the Hub: `"private"`, `"public"`, or `"unknown"` if the Hub does not answer."""
    with contextlib.suppress(OSError, ValueError):
        return "private" if HfApi(token=token).dataset_info(repo_id).private else "public"
    return "unknown"
