"""`itl-hf select`: pool and targets in, a folder with the picked rows out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from itl_hf.cli import embedder_options as models
from itl_hf.cli.config import ConfigOption
from itl_hf.cli.embedder_options import EmbedderName
from itl_hf.cli.output import Outcome, peak_memory

if TYPE_CHECKING:
    from itl_hf.selection.constraints import StopWhen
    from itl_hf.selection.result.selection import Selection


def noise(text: str) -> float | str:
    """A number, or "auto"."""
    try:
        return text if text == "auto" else float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither `auto` nor a number") from None


def select(
    pool: Annotated[
        str, typer.Option("--pool", "--dataset_name", help="Rows to pick from: a file, a folder or a Hub dataset.")
    ],
    targets: Annotated[str, typer.Option("--targets", help="The task's prompts: a file, a folder or a Hub dataset.")],
    num_examples: Annotated[int, typer.Option("--num_examples", help="Rows to pick.")],
    output_dir: Annotated[
        Path | None, typer.Option("--output_dir", help="Folder for the selection; needed except with --dry_run.")
    ] = None,
    pool_split: Annotated[
        str, typer.Option("--pool_split", "--dataset_train_split", help="Split of a folder or Hub dataset.")
    ] = "train",
    pool_config: Annotated[
        str | None, typer.Option("--pool_config", "--dataset_config", help="Subset of a Hub dataset.")
    ] = None,
    targets_split: Annotated[str, typer.Option("--targets_split", help="Split of the targets.")] = "train",
    targets_config: Annotated[str | None, typer.Option("--targets_config", help="Subset of the targets.")] = None,
    acquisition: Annotated[
        str,
        typer.Option(
            "--acquisition",
            help="itl, vtl (sift), ctl, undirected, ...; or a rival: random, cosine, round_robin, bm25...",
        ),
    ] = "itl",
    kernel: Annotated[str, typer.Option("--kernel", help="auto, linear, rbf, laplace or cosine.")] = "auto",
    standardize: Annotated[
        str,
        typer.Option("--standardize", help="Preparation of the features: auto, none, scale, dimensions, whiten-64..."),
    ] = "auto",
    noise_std: Annotated[
        float, typer.Option("--noise_std", parser=noise, metavar="auto|FLOAT", help="Small: variety; large: relevance.")
    ] = "auto",  # type: ignore[assignment]
    target_noise_std: Annotated[
        float | None, typer.Option("--target_noise_std", help="Equal to noise_std if left out.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of --acquisition random.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Allow a row to be picked again.")] = False,
    token_budget: Annotated[
        float | None,
        typer.Option("--token_budget", help="What all picks may cost together: tokens by the model's tokenizer."),
    ] = None,
    costs: Annotated[
        str | None,
        typer.Option("--costs", "--costs_column", help="With --token_budget: column of the pool with each row's cost."),
    ] = None,
    groups: Annotated[
        str | None,
        typer.Option("--groups", "--groups_column", help="Column of the pool with each row's group, as its source."),
    ] = None,
    group_shares: Annotated[
        float | None,
        typer.Option(
            "--group_shares", "--max_group_share", help="Largest share of the picks that a group may have, 0 to 1."
        ),
    ] = None,
    stop_gain: Annotated[
        float | None, typer.Option("--stop_gain", help="Stop when a pick's gain would be below this.")
    ] = None,
    stop_variance_left: Annotated[
        float | None,
        typer.Option(
            "--stop_variance_left",
            help="Stop when this share of the targets' variance is left that the pool can teach, 0 to 1.",
        ),
    ] = None,
    embedder: models.EmbedderOption = EmbedderName.hidden_states,
    model_name_or_path: models.ModelOption = None,
    span: models.SpanOption = None,
    layer: models.LayerOption = None,
    pooling: models.PoolingOption = None,
    skip_tokens: models.SkipOption = None,
    packing: models.PackingOption = False,
    compile: models.CompileOption = False,
    modules: models.ModulesOption = None,
    dimension: models.DimensionOption = None,
    rank: models.RankOption = None,
    labels: models.LabelsOption = None,
    prompt_name: models.PromptOption = None,
    normalize_embeddings: models.NormalizeOption = False,
    max_length: models.LengthOption = None,
    batch_tokens: models.BatchOption = None,
    dtype: models.DtypeOption = None,
    load_in_4bit: models.FourBitOption = False,
    device: models.DeviceOption = None,
    revision: models.RevisionOption = None,
    trust_remote_code: models.TrustOption = False,
    layout: Annotated[str, typer.Option("--layout", help="Map of the report: pca, or umap (extra umap).")] = "pca",
    store: Annotated[
        Path | None, typer.Option("--store", help="Folder that keeps features (`itl-hf embed`): none is made twice.")
    ] = None,
    report: Annotated[Path | None, typer.Option("--report", help="Write a report page (HTML) as well.")] = None,
    dry_run: models.DryRunOption = False,
    config: ConfigOption = None,
) -> Outcome | None:
    """Pick the examples that teach a model most about the targets."""
    began, settings = time.monotonic(), models.given(locals())
    if output_dir is None and not dry_run:
        raise typer.BadParameter("--output_dir is missing: the folder for the selection")
    limits = _limits(token_budget, costs, groups, group_shares)
    # Heavy imports wait until the command runs, so that --help is quick.
    from itl_hf import distributed
    from itl_hf.cli.load_rows import load_rows
    from itl_hf.selection.selector import Selector

    if report is not None:
        import itl_hf.report.page  # noqa: F401  (a missing extra is reported before hours are spent)

    stop = _stop(stop_gain, stop_variance_left)
    pool_rows, target_rows = load_rows(pool, pool_split, pool_config), load_rows(targets, targets_split, targets_config)
    selector = Selector(
        models.build_embedder(embedder, model_name_or_path, settings),
        acquisition,
        kernel=kernel,
        standardize={"auto": True, "none": False}.get(standardize, standardize),
        noise_std=noise_std,
        target_noise_std=target_noise_std,
        seed=seed,
        layout=layout,  # type: ignore[arg-type]  # the selector checks it
        store=store,
    )
    if dry_run:
        from itl_hf.cli.estimates import selection_outcome
        from itl_hf.selection.estimate import estimate_selection

        startup = time.monotonic() - began
        found = estimate_selection(selector, pool_rows, target_rows, num_examples)
        return selection_outcome(found, startup) if distributed.rank() == 0 else None
    selection = selector.select(pool_rows, target_rows, num_examples, replace=replace, stop_when=stop, **limits)
    if distributed.rank() != 0:  # all processes picked the same rows
        return None
    folder = selection.save(str(output_dir))
    page = None if report is None else selection.report(report)
    lines = [repr(selection), f"saved to {folder}", *([] if page is None else [f"report at {page}"])]
    facts = {
        **_facts(selection),
        "output_dir": str(folder),
        "report": None if page is None else str(page),
        "seconds": time.monotonic() - began,
        "memory_bytes": peak_memory(),
    }
    return Outcome("\n".join(lines), facts)


def _facts(selection: Selection) -> dict[str, Any]:
    diagnosis = selection.diagnose()
    return {
        "picks": len(selection),
        "pool_size": selection.pool_size,
        "targets": len(selection.targets),
        "acquisition": selection.record["acquisition"],
        "kernel": selection.record["kernel"],
        "noise_std": selection.record["noise_std"],
        "variance_left": diagnosis.left,
        "unteachable": [target.target for target in diagnosis.unteachable],
        "notices": [notice.text for notice in diagnosis.notices],
        "indices": selection.indices.tolist(),
    }


def _limits(
    token_budget: float | None, costs: str | None, groups: str | None, group_shares: float | None
) -> dict[str, Any]:
    if costs is not None and token_budget is None:
        raise typer.BadParameter("--costs goes with --token_budget: of what, and how much")
    if (groups is None) != (group_shares is None):
        raise typer.BadParameter("--groups and --group_shares go together: groups of what, and how much of it")
    return {"token_budget": token_budget, "costs": costs, "groups": groups, "group_shares": group_shares}


def _stop(gain: float | None, variance_left: float | None) -> StopWhen | None:
    if gain is None and variance_left is None:
        return None
    from itl_hf.selection.constraints import StopWhen

    return StopWhen(gain=gain, variance_left=variance_left)
