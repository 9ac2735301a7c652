"""`itl-hf select`: picks rows of a pool for the targets and writes them to a folder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from itl_hf.cli.arguments import EmbedderArguments, ModelArguments, PickingArguments, store_argument, with_arguments
from itl_hf.cli.config import ConfigOption
from itl_hf.cli.early_checks import check_picking_fits
from itl_hf.cli.group import call_on_each, call_on_first
from itl_hf.cli.output import DryRunOption, Outcome, peak_memory
from itl_hf.cli.vector_column import build_embedders

if TYPE_CHECKING:
    from itl_hf.selection.result.selection import Selection


@with_arguments
def select(
    pool: Annotated[
        str, typer.Option("--pool", "--dataset_name", help="Rows to pick from: a file, a folder or a Hub dataset.")
    ],
    targets: Annotated[str, typer.Option("--targets", help="The task's prompts: a file, a folder or a Hub dataset.")],
    num_examples: Annotated[int, typer.Option("--num_examples", help="Rows to pick.")],
    picking: PickingArguments,
    embedding: EmbedderArguments,
    model: ModelArguments,
    output_dir: Annotated[
        Path | None, typer.Option("--output_dir", help="Folder for the selection; needed except with --dry_run.")
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace a selection in --output_dir, or write beside other files there."),
    ] = False,
    pool_split: Annotated[
        str, typer.Option("--pool_split", "--dataset_train_split", help="Split of a folder or Hub dataset.")
    ] = "train",
    pool_config: Annotated[
        str | None, typer.Option("--pool_config", "--dataset_config", help="Subset of a Hub dataset.")
    ] = None,
    targets_split: Annotated[str, typer.Option("--targets_split", help="Split of the targets.")] = "train",
    targets_config: Annotated[str | None, typer.Option("--targets_config", help="Subset of the targets.")] = None,
    embedding_column: Annotated[
        str | None,
        typer.Option("--embedding_column", help="Column of pool and targets with vectors made elsewhere; no model."),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of --acquisition random.")] = None,
    layout: Annotated[str, typer.Option("--layout", help="Map of the report: pca, or umap (extra umap).")] = "pca",
    store: Annotated[
        Path | None,
        typer.Option(
            "--store", help="Folder that keeps features (`itl-hf embed`): none is made twice. Left out: the cache."
        ),
    ] = None,
    no_store: Annotated[bool, typer.Option("--no_store", help="Keep no features, not in the cache either.")] = False,
    report: Annotated[Path | None, typer.Option("--report", help="Write a report page (HTML) as well.")] = None,
    report_to: Annotated[
        str, typer.Option("--report_to", help="Trackers that get record, curve and table: tensorboard, wandb, ...")
    ] = "none",
    logging_dir: Annotated[
        Path, typer.Option("--logging_dir", help="With --report_to: folder of trackers that write files.")
    ] = Path("runs"),
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> Outcome | None:
    """Pick the examples that teach a model most about the targets."""
    start_time = time.monotonic()
    if output_dir is None and not dry_run:
        raise typer.BadParameter("--output_dir is missing: the folder for the selection")
    try:
        picking.check_picking()
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if num_examples < 1:
        raise typer.BadParameter(f"--num_examples must be at least 1, got {num_examples}")
    if not dry_run:
        paths = output_dir, report, store
        output_dir, report = call_on_first(lambda: _check_output(*paths, overwrite))  # other disks may hold other files
    # Heavy imports wait until the command runs, so that --help is quick.
    from itl_hf import distributed
    from itl_hf.cli.load_rows import load_rows
    from itl_hf.selection.defaults import resolve_kernel_spec
    from itl_hf.selection.diagnosis.shortlist_sentence import shortlist_sentence
    from itl_hf.selection.result.umap_layout import check_layout
    from itl_hf.selection.selector import Selector

    if report is not None:
        import itl_hf.report.page  # noqa: F401  (a missing extra is reported before hours are spent)
    if report_to != "none":
        from itl_hf.report.tracking import check_trackers

        check_trackers(report_to)
    acquisition = picking.acquisition_object(seed)
    constraints, avoid, pool_rows, target_rows = call_on_each(
        lambda: (
            picking.constraints(),
            picking.avoid_argument(),
            load_rows(pool, pool_split, pool_config),
            load_rows(targets, targets_split, targets_config),
        )
    )
    formats = picking.formats(pool_rows, target_rows)  # before a model is loaded
    rows_to_exclude = constraints.exclude if picking.exclude is not None else None
    check_picking_fits(picking, pool_rows, target_rows, num_examples, rows_to_exclude)
    check_layout(layout)
    resolve_kernel_spec(picking.kernel, picking.standardize_argument)
    embedders = build_embedders(embedding, model, embedding_column, (pool_rows, target_rows), picking)
    selector = Selector(
        embedders[0],
        acquisition,
        targets_embedder=embedders[1],
        kernel=picking.kernel,
        standardize=picking.standardize_argument,
        layout=layout,  # type: ignore[arg-type]  # the selector checks it
        store=store_argument(store, no_store),
        shortlist=picking.shortlist_argument(model.device),
        on_bad_rows=picking.on_bad_rows,
        **picking.column_arguments(),
    )
    if dry_run:
        from itl_hf.cli.estimates import selection_outcome
        from itl_hf.selection.estimate import estimate_selection

        startup = time.monotonic() - start_time
        estimate = estimate_selection(selector, pool_rows, target_rows, num_examples)
        return selection_outcome(estimate, startup) if distributed.rank() == 0 else None
    selection = selector.select(
        pool_rows,
        target_rows,
        num_examples,
        constraints=constraints,
        quality=picking.quality,
        target_weights=picking.target_weights,
        replay_share=picking.replay(seed),
        avoid=avoid,
    )
    if distributed.rank() != 0:  # all processes picked the same rows
        return None
    folder, page = _write(selection, str(output_dir), report, overwrite)
    if report_to != "none":  # after the selection is saved: a tracker may be a server that does not answer
        from itl_hf.report.tracking import log_selection

        log_selection(selection, report_to, run_name=folder.name, logging_dir=logging_dir)
    lines = [formats, repr(selection), f"saved to {folder}", *([] if page is None else [f"report at {page}"])]
    lines[2:2] = [sentence for sentence in (shortlist_sentence(selection.record),) if sentence]
    if picking.exclude is not None:  # none at all may mean that the texts are written differently
        lines.insert(2, f"{_num_excluded(selection):,} rows of the pool were excluded because of {picking.exclude}")
    facts = {
        **_facts(selection),
        "output_dir": str(folder),
        "report": None if page is None else str(page),
        "seconds": time.monotonic() - start_time,
        "memory_bytes": peak_memory(),
    }
    return Outcome("\n".join(lines), facts)


def _check_output(
    output_dir: Path | None, report: Path | None, store: Path | None, overwrite: bool
) -> tuple[Path, Path | None]:
    """Returns the paths that will be written, after checking that they can be."""
    from itl_hf.disk.checks import check_output_file, expand
    from itl_hf.embedding.store.store_checks import check_store_folder
    from itl_hf.selection.result.folder import check_selection_folder

    folder = expand(str(output_dir))
    check_selection_folder(folder, overwrite, "--output_dir")
    if store is not None:
        check_store_folder(expand(store), "--store")
    if report is None:
        return folder, None
    report = expand(report)
    check_output_file(report, "--report")
    return folder, report


def _write(selection: Selection, output_dir: str, report: Path | None, overwrite: bool) -> tuple[Path, Path | None]:
    """Writes the report, then the selection: the same command runs again until there is a selection in the folder."""
    page = None
    if report is not None:
        try:
            page = selection.report(report)
        except OSError:  # such as a full disk
            raise
        except Exception:
            selection.save(output_dir, overwrite=overwrite)
            raise
    return selection.save(output_dir, overwrite=overwrite), page


def _facts(selection: Selection) -> dict[str, Any]:
    diagnosis = selection.diagnose()
    return {
        "picks": len(selection),
        "pool_size": selection.pool_size,
        "targets": len(selection.targets),
        "shortlist": selection.record.shortlist,
        "excluded": _num_excluded(selection),
        "acquisition": selection.record.acquisition_name,
        "kernel": selection.record.kernel_name,
        "noise_std": selection.record.noise_std,
        "variance_left": diagnosis.left,
        "unteachable": [target.target for target in diagnosis.unteachable],
        "notices": [notice.text for notice in diagnosis.notices],
        "indices": selection.indices.tolist(),
    }


def _num_excluded(selection: Selection) -> int:
    return len(selection.record.constraints.get("exclude") or ())
