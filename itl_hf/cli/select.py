"""`itl-hf select`: pool and targets in, a folder with the picked rows out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from itl_hf.cli import models
from itl_hf.cli.config import ConfigOption
from itl_hf.cli.models import EmbedderName

if TYPE_CHECKING:
    from itl_hf.selection.constraints import StopWhen


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
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Folder for the selection.")],
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
        float | None, typer.Option("--token_budget", help="What all picks may cost together; with --costs_column.")
    ] = None,
    costs_column: Annotated[
        str | None, typer.Option("--costs_column", help="Column of the pool with each row's cost, such as its tokens.")
    ] = None,
    groups_column: Annotated[
        str | None,
        typer.Option("--groups_column", help="Column of the pool with each row's group, such as its source."),
    ] = None,
    max_group_share: Annotated[
        float | None,
        typer.Option("--max_group_share", help="Largest share of the picks that a group may have, 0 to 1."),
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
    store: Annotated[
        Path | None, typer.Option("--store", help="Folder that keeps features (`itl-hf embed`): none is made twice.")
    ] = None,
    report: Annotated[Path | None, typer.Option("--report", help="Write a report page (HTML) as well.")] = None,
    config: ConfigOption = None,
) -> None:
    """Pick the examples that teach a model most about the targets.

    Example: itl-hf select --pool pool.jsonl --targets prompts.jsonl --num_examples 1000 --output_dir selected
    """
    settings = models.given(locals())
    limits = _limits(token_budget, costs_column, groups_column, max_group_share)
    # Heavy imports wait until the command runs, so that --help is quick.
    from itl_hf import distributed
    from itl_hf.cli.rows import load_rows
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
        store=store,
    )
    selection = selector.select(pool_rows, target_rows, num_examples, replace=replace, stop_when=stop, **limits)
    if distributed.rank() != 0:  # all processes picked the same rows
        return
    folder = selection.save(output_dir)
    typer.echo(f"{selection!r}\nsaved to {folder}")
    if report is not None:
        typer.echo(f"report at {selection.report(report)}")


def _limits(
    token_budget: float | None, costs_column: str | None, groups_column: str | None, max_group_share: float | None
) -> dict[str, Any]:
    if (token_budget is None) != (costs_column is None):
        raise typer.BadParameter("--token_budget and --costs_column go together: how much, and of what")
    if (groups_column is None) != (max_group_share is None):
        raise typer.BadParameter(
            "--groups_column and --max_group_share go together: groups of what, and how much of it"
        )
    return {
        "token_budget": token_budget,
        "costs": costs_column,
        "groups": groups_column,
        "group_shares": max_group_share,
    }


def _stop(gain: float | None, variance_left: float | None) -> StopWhen | None:
    if gain is None and variance_left is None:
        return None
    from itl_hf.selection.constraints import StopWhen

    return StopWhen(gain=gain, variance_left=variance_left)
