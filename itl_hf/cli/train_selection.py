"""The selection that `itl-hf train` trains on: that of an earlier run, or a new one that is saved beside the model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itl_hf.cli.group import call_on_each, call_on_first
from itl_hf.cli.output import say_note
from itl_hf.cli.train_arguments import SelectionArguments
from itl_hf.cli.train_data import TrainingData
from itl_hf.cli.without_model import embedder_without_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from trl import ModelConfig, SFTConfig

    from itl_hf.embedding.embedders.base import Embedder
    from itl_hf.selection.result.selection import Selection


def load_or_select(
    picking: SelectionArguments, data: TrainingData, training: SFTConfig, model: ModelConfig
) -> Selection:
    """Loads the selection of an earlier run, or makes a new one and saves it beside the model."""
    from accelerate.utils import release_memory

    from itl_hf import distributed
    from itl_hf.selection.result.assemble import package_versions
    from itl_hf.selection.result.folder import check_selection_folder, complete_selection
    from itl_hf.selection.result.selection import Selection
    from itl_hf.selection.result.transfer import load_from_first

    if picking.selection is not None:
        return call_on_each(lambda: Selection.load(str(picking.selection)))
    folder = Path(str(training.output_dir)) / "selection"
    settings = {**picking.decisive(), "model": model.model_name_or_path, **_pool_settings(data)}

    def find_earlier() -> bool:
        """Whether a selection is there that this run goes on with; raises if one is there that it must not replace."""
        earlier = _earlier_selection(folder)
        if training.resume_from_checkpoint and earlier is not None and earlier.record.arguments == settings:
            complete_selection(folder)
            return True
        # The same arguments, rows and versions give the same selection, which may be saved again.
        same = (settings, package_versions())
        if earlier is None or (earlier.record.arguments, earlier.record.versions) != same:
            check_selection_folder(folder, picking.overwrite, "output_dir/selection:")
        return False

    if call_on_first(find_earlier):  # other machines may have disks of their own
        return load_from_first(folder)
    selection = _select(picking, data, training, model)
    selection = dataclasses.replace(selection, record=dataclasses.replace(selection.record, arguments=settings))
    release_memory()  # the embedder's model: another one is loaded to be trained
    call_on_first(lambda: selection.save(folder, overwrite=picking.overwrite))
    if distributed.rank() == 0:
        say_note(f"{selection!r}\nsaved to {folder}")
    elif training.save_on_each_node and training.local_process_index == 0:
        selection.save(folder, overwrite=picking.overwrite)
    return selection


def _earlier_selection(folder: Path) -> Selection | None:
    """Returns the selection of an earlier run; `None` if there is none, or it is damaged."""
    from itl_hf.selection.result.selection import Selection

    try:
        return Selection.load(folder)
    except (FileNotFoundError, ValueError):
        return None


def _pool_settings(data: TrainingData) -> dict[str, Any]:
    script, mixture = data.script, data.mixture
    pool = {name: getattr(script, name) for name in ("dataset_name", "dataset_config", "dataset_train_split")}
    return pool if mixture is None else {**pool, "mixture": dataclasses.asdict(mixture)}


def _select(picking: SelectionArguments, data: TrainingData, training: SFTConfig, model: ModelConfig) -> Selection:
    from itl_hf.text import check_trainable

    pool, targets = call_on_each(lambda: (data.pool(), data.targets()))
    say_note(picking.formats(pool, targets))
    check_trainable(pool, picking.mapping)
    selector = picking.selector(build_embedder(picking, training, model))
    selection = selector.select(
        pool,
        targets,
        int(picking.num_examples or 0),
        constraints=picking.constraints(),
        quality=picking.quality,
        target_weights=picking.target_weights,
        replay_share=picking.replay(picking.selection_seed),
        avoid=picking.avoid_argument(),
    )
    # What `extend` needs would keep the embedder's model in memory while another one is trained.
    return dataclasses.replace(selection, extend_fn=None)


def build_embedder(picking: SelectionArguments, training: SFTConfig, model: ModelConfig) -> Embedder:
    """Builds the embedder with a model of its own, which is released before the model to train is loaded."""
    embedder = embedder_without_model(picking, picking, names_model=picking.embedding_model is not None)
    if embedder is not None:
        return embedder
    hub: dict[str, Any] = {"trust_remote_code": training.trust_remote_code}
    if picking.embedding_model is None:
        quantization = "4bit" if model.load_in_4bit else "8bit" if model.load_in_8bit else None
        hub |= {"revision": model.model_revision, "quantization": quantization}
        hub |= {"dtype": model.dtype} if model.dtype in ("bfloat16", "float16") else {}
        if training.chat_template_path is not None and picking.embedder != "sentence_encoder":
            hub["tokenizer"] = _tokenizer_with_template(training, model)
    return picking.build_embedder(picking.embedding_model or str(model.model_name_or_path), **hub)


def _tokenizer_with_template(training: SFTConfig, model: ModelConfig) -> PreTrainedTokenizerBase:
    """Returns the model's tokenizer with the chat template that training uses: of a file, or of another model.

    `SFTTrainer` also adds the other model's special tokens to the model. Their embeddings are untrained when rows are
    selected, so that they are read as ordinary text there.
    """
    from transformers import AutoTokenizer

    options = {"trust_remote_code": training.trust_remote_code}
    tokenizer = AutoTokenizer.from_pretrained(str(model.model_name_or_path), revision=model.model_revision, **options)
    path = Path(str(training.chat_template_path))
    if path.suffix in (".jinja", ".j2") and path.is_file():
        tokenizer.chat_template = path.read_text(encoding="utf-8")
    else:
        tokenizer.chat_template = AutoTokenizer.from_pretrained(str(path), **options).chat_template
    return tokenizer
