"""`itl-hf push`: a saved selection onto the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from itl_hf.cli.config import ConfigOption
from itl_hf.cli.output import Outcome


def push(
    selection: Annotated[Path, typer.Argument(metavar="SELECTION", help="Folder that `itl-hf select` wrote.")],
    repo_id: Annotated[
        str, typer.Argument(metavar="REPO_ID", help="Dataset on the Hub: user/name, or a name of yours.")
    ],
    private: Annotated[
        bool | None, typer.Option("--private/--public", help="Visibility of a new dataset; your account's default.")
    ] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="Branch to publish to.")] = None,
    include_features: Annotated[
        bool, typer.Option("--include_features", help="Publish the picks' features too.")
    ] = False,
    include_targets: Annotated[
        bool, typer.Option("--include_targets", help="Publish the target prompts too, which may be private.")
    ] = False,
    store: Annotated[
        Path | None,
        typer.Option("--store", help="Folder of features, as for `itl-hf select`; left out, the cache."),
    ] = None,
    base_dataset: Annotated[
        str | None, typer.Option("--base_dataset", "--dataset_name", help="The pool's name on the Hub, for the card.")
    ] = None,
    license: Annotated[
        str | None, typer.Option("--license", help="The pool's licence, such as cc-by-4.0; its own card is asked.")
    ] = None,
    commit_message: Annotated[str | None, typer.Option("--commit_message", help="Made from the numbers.")] = None,
    overwrite_card: Annotated[
        bool,
        typer.Option("--overwrite_card", help="Replace the repository's README.md; else the card is a section of it."),
    ] = False,
    preview: Annotated[
        Path | None, typer.Option("--preview", help="Write what would be published into this folder; publish nothing.")
    ] = None,
    config: ConfigOption = None,
) -> Outcome:
    """Publish a selection as a dataset with a card, in one commit. Log in first: `hf auth login`, or set HF_TOKEN.

    Target prompts are not published unless --include_targets is given. --preview FOLDER writes everything to a folder.
    """
    # Heavy imports wait until the command runs, so that --help is quick.
    from itl_hf.cli.load_selection import local_selection
    from itl_hf.disk.checks import check_new_folder, expand

    if preview is not None:
        check_new_folder(expand(preview), "--preview")
    to_publish = local_selection(str(selection))
    if preview is not None:
        from itl_hf.hub import publish

        options = {
            "revision": revision,
            "license": license,
            "include_features": include_features,
            "include_targets": include_targets,
        }
        folder = publish.preview(to_publish, preview, repo_id, store=store, base_dataset=base_dataset, **options)
        text = f"written to {folder}, nothing published; read its README.md first"
        return Outcome(text, {"preview": str(folder), "published": False})
    commit_info = to_publish.push_to_hub(
        repo_id,
        private=private,
        revision=revision,
        include_features=include_features,
        include_targets=include_targets,
        store=store,
        base_dataset=base_dataset,
        license=license,
        commit_message=commit_message,
        overwrite_card=overwrite_card,
    )
    from itl_hf.hub.publish import visibility

    seen_by = visibility(commit_info.repo_url.repo_id)
    facts = {"published": True, "repo_id": repo_id, "url": str(commit_info.commit_url), "commit": str(commit_info.oid)}
    words = {"public": "public: everybody can read it", "private": "private", "unknown": "of unknown visibility"}
    return Outcome(f"published: {commit_info.commit_url} ({words[seen_by]})", {**facts, "visibility": seen_by})
