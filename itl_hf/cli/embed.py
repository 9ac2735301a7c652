"""`itl-hf embed`: embeds a dataset and keeps the features in a store, where `itl-hf select` finds them."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from itl_hf.cli.arguments import EmbedderArguments, ModelArguments, with_arguments
from itl_hf.cli.config import ConfigOption
from itl_hf.cli.early_checks import check_format
from itl_hf.cli.group import call_on_each
from itl_hf.cli.output import DryRunOption, Outcome, peak_memory

if TYPE_CHECKING:
    from itl_hf.embedding.store.feature_store import FeatureStore


@with_arguments
def embed(
    store: Annotated[Path, typer.Option("--store", help="Folder that keeps the features of any number of datasets.")],
    embedding: EmbedderArguments,
    model: ModelArguments,
    data: Annotated[str | None, typer.Argument(metavar="DATA", help="Rows: a file, a folder or a Hub dataset.")] = None,
    dataset_name: Annotated[str | None, typer.Option("--dataset_name", help="Another way to give DATA.")] = None,
    dataset_train_split: Annotated[
        str, typer.Option("--dataset_train_split", "--split", help="Split of a folder or Hub dataset.")
    ] = "train",
    dataset_config: Annotated[str | None, typer.Option("--dataset_config", help="Subset of a Hub dataset.")] = None,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> Outcome | None:
    """Embed a dataset into a store, where `itl-hf select` finds it.

    Rows that are in the store already are not embedded again; an interrupted run continues where it stopped. On several
    processes: torchrun --nproc_per_node 2 -m itl_hf embed ...
    """
    start_time = time.monotonic()
    name = _one_name(data, dataset_name)
    # Heavy imports wait until the command runs, so that --help is quick.
    from itl_hf import distributed
    from itl_hf.cli.load_rows import load_rows
    from itl_hf.disk.checks import expand
    from itl_hf.embedding.embed import embed as embed_dataset
    from itl_hf.embedding.row_keys import row_keys
    from itl_hf.embedding.store.cache import is_finished
    from itl_hf.embedding.store.feature_store import FeatureStore
    from itl_hf.embedding.store.paths import feature_directory
    from itl_hf.embedding.store.store_checks import check_can_embed_into, check_store_folder

    store = expand(store)
    check_store_folder(store, "--store")
    rows = call_on_each(lambda: load_rows(name, dataset_train_split, dataset_config))
    check_format(rows, "DATA")  # before a model is loaded
    embedder = embedding.build_embedder(model.model_name_or_path, **model.settings())
    keys, fingerprint = row_keys(rows, embedder), embedder.fingerprint()
    directory = feature_directory(store, fingerprint, keys.hash)
    if dry_run:
        from itl_hf.cli.estimates import embedding_outcome
        from itl_hf.embedding.estimate import estimate

        startup = time.monotonic() - start_time
        estimate_result = estimate(rows, embedder, directory, fingerprint=fingerprint, keys=keys)
        return embedding_outcome(estimate_result, startup) if distributed.rank() == 0 else None
    check_can_embed_into(directory, "--store")
    start, there = time.monotonic(), is_finished(directory)
    embed_dataset(rows, embedder, directory, fingerprint=fingerprint, rows_hash=keys)
    seconds = time.monotonic() - start
    if distributed.rank() != 0:
        return None
    feature_store = FeatureStore.open(directory)
    message = "found in the store, nothing was embedded" if there else f"embedded in {seconds:.1f} s"
    flags = model.as_flags(embedding)
    text = _summary(feature_store, message, _pool_flags(name, dataset_train_split, dataset_config), store, flags)
    return Outcome(text, _facts(feature_store, there, seconds))


def _one_name(data: str | None, dataset_name: str | None) -> str:
    if (data is None) == (dataset_name is None):
        raise typer.BadParameter("give the rows once: as DATA, or with --dataset_name")
    return str(dataset_name if data is None else data)


def _pool_flags(name: str, split: str, subset: str | None) -> list[str]:
    words = ["--pool", name]
    words += [] if split == "train" else ["--pool_split", split]
    return words + ([] if subset is None else ["--pool_config", subset])


def _facts(feature_store: FeatureStore, there: bool, seconds: float) -> dict[str, Any]:
    return {
        "rows": feature_store.num_rows,
        "distinct_rows": feature_store.stored_rows,
        "dimension": feature_store.dimension,
        "directory": str(feature_store.directory),
        "found": there,
        "tokens": _tokens(feature_store),
        "seconds": seconds,
        "disk_bytes": sum(path.stat().st_size for path in feature_store.directory.iterdir()),
        "memory_bytes": peak_memory(),
    }


def _tokens(feature_store: FeatureStore) -> int | None:
    """Returns the number of tokens that the model read, equal rows once; `None` if the embedder does not count."""
    from itl_hf.embedding.row_keys import distinct_rows

    try:
        tokens = feature_store.column("tokens")  # (N,)
    except ValueError:
        return None
    return int(tokens[distinct_rows(feature_store.index, len(tokens))].sum())


def _summary(feature_store: FeatureStore, message: str, pool: list[str], store: Path, flags: str) -> str:
    command = shlex.join(["itl-hf", "select", *pool, "--store", str(store)])
    return (
        f"{feature_store.num_rows:,} rows ({feature_store.stored_rows:,} distinct), "
        f"{feature_store.dimension:,} numbers each; {message}\n"
        f"in {feature_store.directory}\n"
        f"to pick from them: {command}{' ' * bool(flags)}{flags} --targets ... --num_examples ... --output_dir ...\n"
        f"in Python: FeatureStore.open({str(feature_store.directory)!r}).features()"
    )
