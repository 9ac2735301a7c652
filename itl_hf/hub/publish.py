"""Publishing a selection: everything is written and checked here first, then goes to the Hub as one commit.

A commit is there whole or not at all, so a push that breaks off has published nothing, and the next one completes it:
large files that had arrived are not sent again. Tokens are handed to `huggingface_hub` and written nowhere.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from itl_hf.hub.card import Published, method
from itl_hf.hub.contents import picked_features, write_contents
from itl_hf.hub.retry import ask
from itl_hf.selection.result.files import FACTS

if TYPE_CHECKING:
    from itl_hf.selection.result.record import SelectionRecord
    from itl_hf.selection.result.selection import Selection

Operation = CommitOperationAdd | CommitOperationCopy | CommitOperationDelete

KIND = "dataset"
#: Files of an earlier push; those that the new one lacks are deleted with it.
OURS = ("data/*.parquet", "features/*.parquet", "pictures/*.png", "targets.parquet")
#: A repository with nothing else is as good as empty.
HARMLESS = (".gitattributes", "README.md", "LICENSE")


def publish(
    selection: Selection,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    include_features: bool = False,
    include_targets: bool = False,
    store: str | os.PathLike[str] | None = None,
    base_dataset: str | None = None,
    license: str | list[str] | None = None,
    commit_message: str | None = None,
) -> CommitInfo:
    """Publishes a selection; see `Selection.push_to_hub`."""
    validate_repo_id(repo_id)
    features = picked_features(selection, store) if include_features else None
    api = HfApi(token=token)
    if "/" not in repo_id:
        repo_id = f"{ask(api.whoami, 'asking who you are')['name']}/{repo_id}"
    source = known_source(selection.record, base_dataset)
    license = license or _license_of(api, source.get("dataset"))
    published = Published(repo_id, revision, source, license, features is not None, include_targets)
    message = commit_message or (
        f"{len(selection)} of {selection.pool_size} rows, picked by {method(selection.record)} for "
        f"{len(selection.targets)} targets"
    )
    with tempfile.TemporaryDirectory(prefix="itl-hf-") as parent:
        folder = write_contents(selection, Path(parent) / "repository", published, features)
        try:
            head = _open(api, repo_id, private, revision)
            return _commit(api, folder, repo_id, revision, head, message)
        except ConnectionError as error:
            raise ConnectionError(
                f"{error}. What is there is what was there before, or all of the new version if only the last answer "
                "was lost; push again to complete it"
            ) from error


def preview(
    selection: Selection,
    directory: str | os.PathLike[str],
    repo_id: str,
    *,
    store: str | os.PathLike[str] | None = None,
    base_dataset: str | None = None,
    **options: Any,
) -> Path:
    """Writes what `publish` would publish into a folder, and asks the Hub nothing.

    Args:
        selection (`Selection`):
            What to publish.
        directory (`str` or `PathLike`):
            A folder that is empty or not there yet.
        repo_id (`str`):
            Name that the card shall give.
        store (`str` or `PathLike`, *optional*):
            Where features are looked for.
        base_dataset (`str`, *optional*):
            See `Selection.push_to_hub`.
        **options:
            Further fields of `Published`.

    Raises:
        `FileExistsError`: The folder holds something.
    """
    folder = Path(directory)
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; choose another folder for the preview")
    validate_repo_id(repo_id)
    features = picked_features(selection, store) if options.get("features") else None
    published = Published(repo_id, source=known_source(selection.record, base_dataset), **options)
    return write_contents(selection, folder, published, features)


def known_source(record: SelectionRecord, base_dataset: str | None) -> dict[str, Any]:
    """Where the pool comes from: as told, else as recorded."""
    recorded = dict(record.pool_source or {})
    if base_dataset is None or base_dataset == recorded.get("dataset"):
        return recorded
    return {"dataset": base_dataset}


def _license_of(api: HfApi, dataset: str | None) -> str | list[str] | None:
    """What the base dataset's own card says; nothing where it cannot be asked."""
    if not dataset:
        return None
    with contextlib.suppress(OSError, ValueError):
        card = ask(lambda: api.dataset_info(dataset), "reading the base dataset's licence").card_data
        return None if card is None else card.get("license")
    return None


def _open(api: HfApi, repo_id: str, private: bool | None, revision: str | None) -> str:
    """Makes repository and branch where they are missing; returns the commit that the new one will follow."""
    ask(lambda: api.create_repo(repo_id, repo_type=KIND, private=private, exist_ok=True), f"creating {repo_id}")
    if revision is not None and not revision.startswith("refs/"):
        ask(
            lambda: api.create_branch(repo_id, repo_type=KIND, branch=revision, exist_ok=True),
            f"creating the branch {revision}",
        )
    info = ask(lambda: api.dataset_info(repo_id, revision=revision), f"looking at {repo_id}")
    if private and not info.private:
        raise ValueError(
            f"{repo_id} exists and is public: make it private in its settings first, or choose another name"
        )
    names = [file.rfilename for file in info.siblings or []]
    if FACTS not in names and set(names) - set(HARMLESS):
        raise FileExistsError(
            f"{repo_id} exists and holds no selection but {len(names)} other files; choose another name or empty it"
        )
    return str(info.sha)


def _commit(api: HfApi, folder: Path, repo_id: str, revision: str | None, head: str, message: str) -> CommitInfo:
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    there = ask(lambda: api.list_repo_files(repo_id, repo_type=KIND, revision=head), f"listing {repo_id}")
    gone = [name for name in there if name not in paths and any(fnmatch(name, ours) for ours in OURS)]
    operations: list[Operation] = [
        *(CommitOperationAdd(name, path) for name, path in paths.items()),
        *(CommitOperationDelete(name) for name in gone),
    ]

    def commit() -> CommitInfo:
        return api.create_commit(
            repo_id, operations, repo_type=KIND, revision=revision, commit_message=message, parent_commit=head
        )

    return ask(commit, f"publishing {repo_id}")
