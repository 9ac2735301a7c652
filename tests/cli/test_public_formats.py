"""Every public format: `itl-hf select`, then `itl-hf train`, as it comes."""

from __future__ import annotations

import json

import pytest

from itl_hf.selection.result.selection import Selection
from tests.text.template import TOOL_TEMPLATE
from tests.text.test_formats import FORMATS
from tests.tiny_models import tiny_model, tiny_tokenizer

#: Rows without an answer, which nothing can be learned from.
PROMPTS_ONLY = ("SQuAD none",)


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("formats") / "model"
    tiny_model("llama", max_position_embeddings=1024).save_pretrained(folder)
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TOOL_TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


def numbered(row, number):
    """The row with a number in its texts, so that rows differ."""
    return json.loads(
        json.dumps(row).replace("What is it?", f"What is it, {number}?").replace("Add.", f"Add {number}.")
    )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "row"), [one[:2] for one in FORMATS], ids=[name for name, *_ in FORMATS])
def test_select_then_train(run, chat_model, tmp_path, name, row):
    rows = [numbered(row, number) for number in range(5)]
    (tmp_path / "pool.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    (tmp_path / "targets.txt").write_text("What is it, 3?\n", encoding="utf-8")
    data = ("--targets", tmp_path / "targets.txt", "--num_examples", 3)
    result = run(
        *("select", "--pool", tmp_path / "pool.jsonl", *data, "--model", chat_model),
        *("--output_dir", tmp_path / "selected", "--quiet"),
    )
    assert result.exit_code == 0, result.exception
    selection = Selection.load(tmp_path / "selected")
    assert [{key: picked[key] for key in rows[0]} for picked in selection.dataset] == [
        rows[int(i)] for i in selection.indices
    ]
    result = run(
        *("train", "--dataset_name", tmp_path / "pool.jsonl", *data, "--model_name_or_path", chat_model),
        *("--output_dir", tmp_path / "trained", "--use_cpu", "--max_steps", 1, "--per_device_train_batch_size", 1),
        *("--report_to", "none", "--save_strategy", "no", "--quiet"),
    )
    if name in PROMPTS_ONLY:
        assert "prompts and no completions" in str(result.exception)
        assert not (tmp_path / "trained/selection").exists()
    else:
        assert result.exit_code == 0, result.exception
