"""`itl-hf explore`: click through a saved selection, on this machine or as a Space."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from itl_hf.cli.config import ConfigOption
from itl_hf.cli.load_selection import SelectionArgument, saved_selection
from itl_hf.cli.output import Outcome

if TYPE_CHECKING:
    from datasets import Dataset


def explore(
    selection: SelectionArgument,
    compare: Annotated[
        str | None, typer.Option("--compare", help="Another selection: what one has that the other lacks.")
    ] = None,
    pool: Annotated[
        str | None,
        typer.Option("--pool", "--dataset_name", help="The rows that were selected from: their text can then be read."),
    ] = None,
    pool_split: Annotated[
        str, typer.Option("--pool_split", "--dataset_train_split", help="Split of a folder or Hub dataset.")
    ] = "train",
    pool_config: Annotated[
        str | None, typer.Option("--pool_config", "--dataset_config", help="Subset of a Hub dataset.")
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(
            "--store", help="Folder of features; left out, the cache. With --pool: drop rows and select again at once."
        ),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to serve on; 0.0.0.0 lets in other machines that have the address.")
    ] = "127.0.0.1",
    port: Annotated[int | None, typer.Option("--port", help="A free one from 7860 on if left out.")] = None,
    open_browser: Annotated[bool, typer.Option("--open/--no_open", help="Open the page in a browser.")] = False,
    space: Annotated[
        Path | None,
        typer.Option("--space", help="Serve nothing; write a folder to upload as a Hugging Face Space instead."),
    ] = None,
    include_targets: Annotated[
        bool, typer.Option("--include_targets", help="With --space: put the target prompts in, which may be private.")
    ] = False,
    config: ConfigOption = None,
) -> Outcome:
    """Show a selection in the browser: the map, each target, the rows picked for it; drop rows and select again.

    Nothing leaves this machine. Stop with Ctrl-C.

    Example: itl-hf explore selected --pool pool.jsonl
    """
    if include_targets and space is None:
        raise typer.BadParameter("--include_targets goes with --space; served from here, targets are always shown")
    # Heavy imports wait until the command runs, so that --help is quick.
    from itl_hf.disk.checks import check_new_folder, expand
    from itl_hf.report import explorer

    if space is not None:
        check_new_folder(expand(space), "--space")
    else:
        explorer.check_address(host, port)
    loaded_selection = saved_selection(selection)
    if space is not None:
        from itl_hf.hub.space import upload_command, write_space

        folder = write_space(loaded_selection, space, include_targets=include_targets)
        command = upload_command(folder)
        words = f"written to {folder}, nothing published. Read its README.md; after hf auth login, type:\n{command}"
        return Outcome(words, {"path": str(folder), "upload": command})
    explorer_data = explorer.gather(
        loaded_selection,
        name=Path(selection).name,
        compare=None if compare is None else saved_selection(compare),
        compare_name="" if compare is None else Path(compare).name,
        pool=_rows(pool, pool_split, pool_config),
        store=store,
    )
    page = explorer.serve(explorer_data, host=host, port=port, inbrowser=open_browser)
    words = f"exploring {selection} at {page.local_url} (Ctrl-C to stop)"
    if explorer_data.obstacle:
        words = f"{explorer_data.obstacle}\n{words}"
    facts = {"url": page.local_url, "obstacle": explorer_data.obstacle or None}
    return Outcome(words, facts, afterwards=page.block_thread)


def _rows(name: str | None, split: str, config: str | None) -> Dataset | None:
    from itl_hf.cli.load_rows import load_rows

    return None if name is None else load_rows(name, split, config)
