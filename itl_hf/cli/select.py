"""`itl-hf select`: pool and targets in, a folder with the picked rows out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from itl_hf.cli.config import load_config


class Pooling(StrEnum):
    """How token states become one row."""

    mean = "mean"
    last = "last"
    weighted_mean = "weighted_mean"


class Span(StrEnum):
    """The part of a row that is embedded."""

    prompt = "prompt"
    completion = "completion"
    whole = "whole"


def noise(text: str) -> float | str:
    """A number, or "auto"."""
    return text if text == "auto" else float(text)


def layer_number(text: str) -> int | float:
    """`22` is the layer of that index, `0.75` a fraction of the depth."""
    return float(text) if "." in text else int(text)


def select(
    pool: Annotated[str, typer.Option("--pool", help="Rows to pick from: a file, a folder or a Hub dataset.")],
    targets: Annotated[str, typer.Option("--targets", help="The task's prompts: a file, a folder or a Hub dataset.")],
    num_examples: Annotated[int, typer.Option("--num_examples", help="Rows to pick.")],
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Folder for the selection.")],
    model_name_or_path: Annotated[
        str, typer.Option("--model_name_or_path", help="Model whose hidden states are the features.")
    ] = "HuggingFaceTB/SmolLM2-135M-Instruct",
    pool_split: Annotated[str, typer.Option("--pool_split")] = "train",
    pool_config: Annotated[str | None, typer.Option("--pool_config", help="Subset of a Hub dataset.")] = None,
    targets_split: Annotated[str, typer.Option("--targets_split")] = "train",
    targets_config: Annotated[str | None, typer.Option("--targets_config")] = None,
    acquisition: Annotated[str, typer.Option("--acquisition", help="itl, vtl, ctl, ..., cosine or random.")] = "itl",
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
    layer: Annotated[
        float, typer.Option("--layer", parser=layer_number, metavar="INT|FRACTION", help="Layer to read.")
    ] = "0.75",  # type: ignore[assignment]
    pooling: Annotated[Pooling, typer.Option("--pooling")] = Pooling.mean,
    span: Annotated[Span, typer.Option("--span", help="Part of a row that is embedded.")] = Span.prompt,
    max_length: Annotated[int | None, typer.Option("--max_length", help="Tokens of a row that are read.")] = None,
    batch_tokens: Annotated[int, typer.Option("--batch_tokens", help="Tokens in a batch, padding included.")] = 8192,
    dtype: Annotated[str, typer.Option("--dtype")] = "float32",
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, cuda:0, ...; the best there is if left out.")
    ] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="Revision of the model.")] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust_remote_code", help="Run the model repository's code.")
    ] = False,
    store: Annotated[
        Path | None, typer.Option("--store", help="Folder that keeps features: nothing is embedded twice.")
    ] = None,
    report: Annotated[Path | None, typer.Option("--report", help="Write a report page (HTML) as well.")] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", callback=load_config, is_eager=True, help="YAML with these options; flags override it."
        ),
    ] = None,
) -> None:
    """Pick the examples that teach a model most about the targets.

    Example: itl-hf select --pool pool.jsonl --targets prompts.jsonl --num_examples 1000 --output_dir selected
    """
    # Heavy imports wait until the command runs, so that --help is quick.
    from itl_hf.cli.rows import load_rows
    from itl_hf.embedding.hidden_states import HiddenStates
    from itl_hf.selection.selector import Selector

    if report is not None:
        import itl_hf.report.page  # noqa: F401  (a missing extra is reported before hours are spent)

    pool_rows, target_rows = load_rows(pool, pool_split, pool_config), load_rows(targets, targets_split, targets_config)
    embedder = HiddenStates(
        model_name_or_path,
        layer=layer,
        pooling=pooling.value,
        span=span.value,
        max_length=max_length,
        batch_tokens=batch_tokens,
        dtype=dtype,
        device=device,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
    selector = Selector(
        embedder,
        acquisition,
        kernel=kernel,
        standardize={"auto": True, "none": False}.get(standardize, standardize),
        noise_std=noise_std,
        target_noise_std=target_noise_std,
        seed=seed,
        store=store,
    )
    selection = selector.select(pool_rows, target_rows, num_examples, replace=replace)
    folder = selection.save(output_dir)
    typer.echo(f"{selection!r}\nsaved to {folder}")
    if report is not None:
        typer.echo(f"report at {selection.report(report)}")
