"""`--embedding_column`: vectors that come with the rows, in place of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from itl_hf.cli.without_model import embedder_without_model

if TYPE_CHECKING:
    from datasets import Dataset

    from itl_hf.cli.arguments import EmbedderArguments, ModelArguments, PickingArguments
    from itl_hf.embedding.embedders.base import Embedder


def build_embedders(
    embedding: EmbedderArguments,
    model: ModelArguments,
    column: str | None,
    rows: tuple[Dataset, Dataset],
    picking: PickingArguments,
) -> tuple[Embedder, Embedder | None]:
    """Builds the embedders of pool and targets.

    Args:
        embedding (`EmbedderArguments`):
            What is embedded and how.
        model (`ModelArguments`):
            The model, unless there is a column.
        column (`str`, *optional*):
            Column of vectors.
        rows (`tuple[Dataset, Dataset]`):
            Pool and targets.
        picking (`PickingArguments`):
            The names of columns.

    Returns:
        `tuple[Embedder, Embedder | None]`: Those of pool and targets; `None` if one embedder is for both.

    Raises:
        `ValueError`: If there are both a column and options of a model.
    """
    if column is None:
        names_model = model.model_name_or_path is not None or bool(model.settings())
        embedder = embedder_without_model(picking, embedding, names_model)
        if embedder is not None:
            return embedder, None
        return embedding.build_embedder(model.model_name_or_path, **model.settings()), None
    options = [f"--{name}" for name in {**embedding.settings(), **model.settings()} if name != "device"]
    options += ["--model_name_or_path"] if model.model_name_or_path is not None else []
    options += ["--embedder"] if embedding.embedder != "hidden_states" else []
    if options:
        raise ValueError(f"--embedding_column loads no model, so {options[0]} has no effect: leave out one of the two")
    from itl_hf.embedding.embedders.vectors import VectorEmbedder

    pool, targets = rows
    names = picking.column_arguments()
    mapping, targets_mapping, template = names["columns"], names["targets_columns"], names["prompt_template"]
    target_names = (
        {"columns": targets_mapping} if targets_mapping else {"columns": mapping, "prompt_template": template}
    )
    return (
        VectorEmbedder(pool, column, columns=mapping, prompt_template=template),
        VectorEmbedder(targets, column, **target_names, name="targets"),
    )
