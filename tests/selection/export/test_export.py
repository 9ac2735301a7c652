"""Exports keep rows and order, never overwrite unasked, and refuse what a format would lose."""

from __future__ import annotations

import json
import typing
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import Dataset, load_dataset

from itl_hf import Selection
from itl_hf.cli import export as command
from itl_hf.cli.load_rows import load_rows
from itl_hf.selection.export.export import FORMATS, TRAINER_FORMATS
from tests.selection.export.rows import CHATS, HISTORY, PAIRS, TEXTS, TOOL_CHATS, messages_of, select


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


@pytest.mark.parametrize("pool", [PAIRS, TEXTS, CHATS, TOOL_CHATS], ids=["pairs", "texts", "chats", "tools"])
@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_plain_formats_give_the_same_rows_again(pool, format, tmp_path):
    selection = select(pool)
    (file,) = selection.export(tmp_path / f"rows.{format}", format).files
    rows = load_rows(str(file)).to_list()
    assert rows == selection.dataset.to_list()
    own = [{key: value for key, value in row.items() if key in pool[0]} for row in rows]
    assert own == [
        {key: pool[index].get(key) for key in row} for index, row in zip(selection.indices, own, strict=True)
    ]


def test_json_lines_keep_none_lone_surrogates_and_text_that_looks_like_dates(tmp_path):
    pool = [{"prompt": "a", "completion": "2024-01-01", "meta": {"a": None}, "note": "\ud800"}]
    pool.append({"prompt": "b", "completion": "c", "meta": {"b": [1, None]}, "note": "\u2028"})
    selection = select(pool)
    (file,) = selection.export(tmp_path / "rows.jsonl").files
    assert [row["meta"] for row in lines_of(file)] == [pool[index]["meta"] for index in selection.indices]
    assert [row["note"] for row in lines_of(file)] == [pool[index]["note"] for index in selection.indices]


def test_values_that_json_does_not_have_are_named(tmp_path):
    selection = select([{"text": "a", "score": float("nan")}, {"text": "b", "score": 1.0}])
    with pytest.raises(ValueError, match=r"row \d of the picks: column 'score' .* export as parquet"):
        selection.export(tmp_path / "rows.jsonl")
    assert not (tmp_path / "rows.jsonl").exists()
    selection.export(tmp_path / "rows.parquet", "parquet")


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_is_overwritten_unasked(format, tmp_path):
    selection = select(PAIRS)
    path = tmp_path / ("rows" if format in ("jsonl", "parquet") else "folder")
    files = selection.export(path, format).files
    before = [file.read_bytes() for file in files]
    with pytest.raises(FileExistsError, match="overwrite=True"):
        select(PAIRS[:3]).export(path, format)
    assert [file.read_bytes() for file in files] == before
    select(PAIRS[:3]).export(path, format, overwrite=True)
    assert files[0].read_bytes() != before[0]
    names = {file.name for file in files}
    assert {file.name for file in files[0].parent.iterdir()} == names


def test_one_file_that_is_there_keeps_all_others_from_being_written(tmp_path):
    (tmp_path / "selection.axolotl.yaml").write_text("mine")
    with pytest.raises(FileExistsError, match=r"selection\.axolotl\.yaml"):
        select(PAIRS).export(tmp_path, "axolotl")
    assert [file.name for file in tmp_path.iterdir()] == ["selection.axolotl.yaml"]


def test_dataset_info_keeps_the_entries_of_others(tmp_path):
    info = tmp_path / "dataset_info.json"
    others = {"zebra": {"file_name": "z.json"}, "identity": {"hf_hub_url": "a/b", "ranking": True}}
    info.write_text(json.dumps(others))
    select(PAIRS).export(tmp_path, "llama_factory", name="mine")
    merged = json.loads(info.read_text())
    assert list(merged) == ["zebra", "identity", "mine"]
    assert {name: merged[name] for name in others} == others
    with pytest.raises(FileExistsError, match="'mine' already"):
        select(PAIRS).export(tmp_path, "llama_factory", name="mine")
    info.write_text("{broken")
    with pytest.raises(ValueError, match=r"dataset_info\.json is no JSON"):
        select(PAIRS).export(tmp_path, "llama_factory", name="other")
    assert not (tmp_path / "other.json").exists()
    assert info.read_text() == "{broken"


def test_entries_written_at_the_same_time_are_all_there(tmp_path):
    selection = select(PAIRS)
    names = [f"set{number}" for number in range(6)]
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda name: selection.export(tmp_path, "llama_factory", name=name), names))
    assert sorted(json.loads((tmp_path / "dataset_info.json").read_text())) == names


@pytest.mark.parametrize("pool", [PAIRS, CHATS], ids=["pairs", "chats"])
@pytest.mark.parametrize("format", ["llama_factory", "axolotl", "torchtune", "unsloth", "verl_sft"])
def test_conversations_are_whole_and_in_the_order_picked(pool, format, tmp_path):
    selection = select(pool)
    file = selection.export(tmp_path, format).files[0]
    kinds = {".json": "json", ".jsonl": "json", ".parquet": "parquet"}
    rows = list(load_dataset(kinds[file.suffix], data_files=str(file), split="train", cache_dir=str(tmp_path / "c")))
    found = [[{key: one[key] for key in ("role", "content")} for one in row["messages"]] for row in rows]
    assert found == [messages_of(pool[index]) for index in selection.indices]


def test_calls_of_tools_and_none_within_them_are_kept(tmp_path):
    selection = select(TOOL_CHATS)
    for format in ("axolotl", "unsloth"):
        rows = lines_of(selection.export(tmp_path / format, format).files[0])
        assert [json.loads(row["messages"]) for row in rows] == [TOOL_CHATS[i]["messages"] for i in selection.indices]
        tools = [row["tools"] and json.loads(row["tools"]) for row in rows]
        assert tools == [TOOL_CHATS[i].get("tools") for i in selection.indices]
    rows = json.loads(selection.export(tmp_path / "llama", "llama_factory").files[0].read_text(encoding="utf-8"))
    row = rows[selection.indices.tolist().index(1)]
    assert [one["role"] for one in row["messages"]] == ["user", "function_call", "observation", "assistant"]
    assert json.loads(row["messages"][1]["content"]) == [
        {"name": "sum", "arguments": {"numbers": [1, 2], "round": None}},
        {"name": "date", "arguments": {"zone": "UTC"}},
    ]


@pytest.mark.parametrize("format", ["torchtune", "verl", "verl_sft"])
def test_rows_that_a_trainer_would_cut_are_refused_or_left_out(format, tmp_path):
    selection = select(TOOL_CHATS)
    with pytest.raises(ValueError, match=r"2 of 3 rows cannot be read(.|\n)*on_bad_rows='skip'"):
        selection.export(tmp_path, format)
    assert list(tmp_path.iterdir()) == []
    with pytest.warns(UserWarning, match="left out"):
        result = selection.export(tmp_path, format, on_bad_rows="skip")
    assert (result.num_rows, result.skipped["count"]) == (1, 2)


def test_rows_that_no_trainer_learns_from_are_refused(tmp_path):
    prompts = select([{"prompt": "a b"}, {"prompt": "c"}])
    for format in TRAINER_FORMATS:
        if format != "verl":
            with pytest.raises(ValueError, match="nothing is to be learned"):
                prompts.export(tmp_path, format)
    table = pq.read_table(prompts.export(tmp_path, "verl").files[0]).to_pylist()
    assert [row["reward_model"]["ground_truth"] for row in table] == [None, None]
    with pytest.raises(ValueError, match="text without a prompt"):
        select(TEXTS).export(tmp_path, "verl_sft")
    bad = {"messages": [{"role": role, "content": "x"} for role in ("user", "user", "assistant")]}
    selection = select([bad, *CHATS])
    with pytest.raises(ValueError, match="do not take turns"):
        selection.export(tmp_path, "llama_factory")


def test_answers_within_a_prompt_are_not_learned(tmp_path):
    selection = select(HISTORY)
    rows = lines_of(selection.export(tmp_path, "axolotl").files[0])
    row = rows[selection.indices.tolist().index(0)]
    assert [message["training"] for message in row["messages"]] == [False, False, False, True]
    (entry,) = yaml.safe_load((tmp_path / "selection.axolotl.yaml").read_text())["datasets"]
    assert entry["message_field_training"] == "training"
    assert "--mask_history true" in selection.export(tmp_path, "llama_factory").usage
    for format in ("torchtune", "verl_sft"):
        with pytest.raises(ValueError, match="would learn too"):
            selection.export(tmp_path, format)


def test_weights(tmp_path):
    selection = select(PAIRS)
    rows = lines_of(selection.export(tmp_path / "a.jsonl", weights="gains").files[0])
    weights = np.array([row["weight"] for row in rows])
    np.testing.assert_allclose(weights, selection.gains / selection.gains.mean(), rtol=1e-12)
    table = pq.read_table(selection.export(tmp_path, "verl", weights=range(6)).files[0]).to_pylist()
    assert [row["extra_info"]["weight"] for row in table] == [0, 1, 2, 3, 4, 5]
    assert [row["extra_info"]["index"] for row in table] == selection.indices.tolist()
    for bad in ("loss", [1.0], [1, 2, 3, 4, 5, -1], [1, 2, 3, 4, 5, float("inf")]):
        with pytest.raises(ValueError, match="weights"):
            selection.export(tmp_path / "b.jsonl", weights=bad)
    with pytest.raises(ValueError, match="takes no weights"):
        selection.export(tmp_path, "axolotl", weights="gains")
    with pytest.raises(ValueError, match="column 'weight' already"):
        select([{"text": "a", "weight": 1}, {"text": "b", "weight": 2}]).export(tmp_path / "c.jsonl", weights="gains")


def test_columns_that_were_named_are_read_after_saving_too(tmp_path):
    pool = [{"frage": f"{a} + 2 =", "antwort": f"{a + 2}"} for a in range(3)]
    selection = select(pool, columns={"prompt": "frage", "completion": "antwort"})
    selection.save(tmp_path / "selected")
    file = Selection.load(tmp_path / "selected").export(tmp_path / "out", "axolotl").files[0]
    assert [row["messages"][0]["content"] for row in lines_of(file)] == [pool[i]["frage"] for i in selection.indices]


def test_mistakes_are_sentences(tmp_path):
    selection = select(PAIRS)
    for format, words in (("csv", "not offered"), ("sharegpt", "choose one of jsonl, parquet, llama_factory")):
        with pytest.raises(ValueError, match=words):
            selection.export(tmp_path / "x", format)
    for name in ("", "../x", "a b", ".hidden"):
        with pytest.raises(ValueError, match="letters, digits"):
            selection.export(tmp_path, "axolotl", name=name)
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        selection.export(tmp_path / "file", "axolotl")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_dataset_with_a_torch_format_is_exported_as_it_is_stored(tmp_path):
    import dataclasses

    selection = select(Dataset.from_list(PAIRS))
    formatted = dataclasses.replace(selection, dataset=selection.dataset.with_format("numpy"))
    for format in ("jsonl", "axolotl"):
        one, other = (
            s.export(tmp_path / f"{format}{i}", format).files[0] for i, s in enumerate((selection, formatted))
        )
        assert one.read_bytes() == other.read_bytes()


def test_the_command_offers_the_same_formats():
    assert typing.get_args(command.Format) == FORMATS
