"""From datasets to a selection and back from disk, with an embedder that needs no model."""

from __future__ import annotations

import json

import datasets
import numpy as np
import pytest
import torch

from itl_hf import (
    ITL,
    Embedder,
    HiddenStates,
    Selection,
    SelectionConstraints,
    SelectionRecord,
    Selector,
    StopWhen,
    select_rows,
)
from tests.tiny_models import tiny_model, tiny_tokenizer


class CharacterCounts(Embedder):
    """A row's features are how often each letter occurs in it."""

    dimension = 26

    def __init__(self):
        self.embedded = 0

    def fingerprint(self):
        return {"embedder": "character counts"}

    def embed(self, rows, *, first_row=0, on_rows=None):
        self.embedded += len(rows)
        count = lambda text: [text.lower().count(chr(97 + letter)) for letter in range(26)]
        return torch.tensor([count(row.get("prompt") or row["text"]) for row in rows], dtype=torch.float32)


POOL = [
    {"prompt": f"{word} {other}", "completion": word, "task": word}
    for word in ("apple", "banana", "cherry", "quince")
    for other in ("river", "stone", "cloud", "window", "garden")
]
TARGETS = [{"prompt": "a banana split"}, {"prompt": "quinces and queens"}]


@pytest.fixture
def selection():
    return Selector(CharacterCounts()).select(POOL, TARGETS, 5)


def test_the_rows_are_those_of_select_rows(selection):
    embedder = CharacterCounts()
    rows = select_rows(embedder.embed(POOL), embedder.embed(TARGETS), 5)
    assert selection.indices.tolist() == rows.indices.tolist()
    assert len(selection) == 5
    assert selection.pool_size == 20
    assert selection.target_variance.shape == (6, 2)
    assert (np.diff(selection.target_variance, axis=0) <= 1e-12).all()


def test_the_dataset_says_where_each_row_came_from_and_why(selection):
    dataset = selection.dataset
    assert dataset["prompt"] == [POOL[row]["prompt"] for row in selection.indices]
    assert dataset["task"] == [POOL[row]["task"] for row in selection.indices]
    assert dataset["pool_index"] == selection.indices.tolist()
    assert dataset["itl_rank"] == list(range(1, 6))
    assert dataset["itl_gain"] == selection.gains.tolist()
    for task, target in zip(dataset["task"], dataset["itl_nearest_target"], strict=True):
        if task in ("banana", "quince"):
            assert TARGETS[target]["prompt"].find(task) >= 0


def test_the_record_is_complete_and_json(selection):
    record = SelectionRecord.from_json(json.loads(json.dumps(selection.record.to_json())))
    assert record == selection.record
    assert record.acquisition_name == "itl"
    assert record.embedder == {"embedder": "character counts"}
    assert {"noise_rule", "kernel_options", "pool_fingerprint", "versions"} <= set(record.to_json())


def test_the_map_covers_pool_targets_and_picks(selection):
    layout = selection.layout
    assert layout.pool.shape == (20, 2)
    assert layout.targets.shape == (2, 2)
    np.testing.assert_allclose(layout.picks, layout.pool[selection.indices], atol=1e-5)
    assert 0 < layout.explained[1] <= layout.explained[0] <= 1


def test_saved_and_loaded_it_is_the_same(selection, tmp_path):
    folder = selection.save(tmp_path / "out" / "selected")
    loaded = Selection.load(folder)
    assert loaded.dataset.to_list() == selection.dataset.to_list()
    assert loaded.dataset.features == selection.dataset.features
    assert loaded.targets.to_list() == selection.targets.to_list()
    assert loaded.record == selection.record
    assert loaded.pool_size == selection.pool_size
    for name in ("indices", "gains", "target_variance"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(selection, name))
    np.testing.assert_array_equal(loaded.layout.picks, selection.layout.picks)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["selected"]


def test_saving_over_a_selection_keeps_every_other_file(selection, tmp_path, monkeypatch):
    folder = selection.save(tmp_path / "selected")
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("ref")
    (folder / "data" / "mine.txt").write_text("mine")
    Selector(CharacterCounts()).select(POOL, TARGETS, 3).save(folder, overwrite=True)
    (tmp_path / "link").symlink_to(folder)
    selection.save(tmp_path / "link", overwrite=True)
    monkeypatch.chdir(folder)
    Selector(CharacterCounts()).select(POOL, TARGETS, 3).save(".", overwrite=True)
    selection.save(".", overwrite=True)
    assert (folder / ".git" / "HEAD").read_text() == "ref"
    assert (folder / "data" / "mine.txt").read_text() == "mine"
    assert (tmp_path / "link").is_symlink()
    assert {path.name for path in folder.iterdir()} == {
        *(".git", "data", "arrays.safetensors", "selection.json", "targets.parquet")
    }
    assert (Selection.load(folder).indices == selection.indices).all()


@pytest.mark.parametrize("name", ["arrays.safetensors", "targets.parquet", "data/train-00000-of-00001.parquet"])
def test_files_of_two_selections_are_not_read_as_one(selection, name, tmp_path):
    folder = selection.save(tmp_path / "selected")
    other = Selector(CharacterCounts()).select(POOL, TARGETS[:1], 3).save(tmp_path / "other")
    (folder / name).write_bytes((other / name).read_bytes())
    with pytest.raises(ValueError, match="checksum differs"):
        Selection.load(folder)


@pytest.mark.parametrize("kind", ["dataset", "rows", "strings"])
def test_texts_are_excluded(kind):
    first = Selector(CharacterCounts()).select(POOL, TARGETS, 6)
    prompts = [f"  {POOL[row]['prompt'].upper()} " for row in first.indices[:2]]
    rows = [{"prompt": prompt} for prompt in prompts]
    exclude = {"dataset": datasets.Dataset.from_list(rows), "rows": rows, "strings": prompts}[kind]
    constraints = SelectionConstraints(exclude=exclude)
    again = Selector(CharacterCounts()).select(POOL, TARGETS, 6, constraints=constraints)
    texts = {POOL[row]["prompt"] for row in first.indices[:2]}
    assert not texts & {POOL[row]["prompt"] for row in again.indices}
    assert {POOL[row]["prompt"] for row in again.record.constraints["exclude"]} == texts
    assert not {POOL[row]["prompt"] for row in again.extend(3).indices} & texts


def test_texts_to_exclude_that_cannot_be_read_are_refused_by_name():
    constraints = SelectionConstraints(exclude=[{"question": "apple"}])
    embedder = CharacterCounts()
    with pytest.raises(ValueError, match=r"^exclude: no format is known for .* of the rows to exclude: question"):
        Selector(embedder).select(POOL, TARGETS, 3, constraints=constraints)
    assert embedder.embedded == 0


def test_plain_datasets_opens_a_saved_selection(selection, tmp_path):
    selection.save(tmp_path / "selected")
    opened = datasets.load_dataset(str(tmp_path / "selected"), split="train", cache_dir=str(tmp_path / "cache"))
    assert opened.to_list() == selection.dataset.to_list()


def test_saving_replaces_a_selection_and_nothing_else(selection, tmp_path):
    selection.save(tmp_path / "selected")
    selection.save(tmp_path / "selected")  # the same
    other = Selector(CharacterCounts()).select(POOL, TARGETS, 3)
    with pytest.raises(FileExistsError, match=r"holds a selection already: .* overwrite=True"):
        other.save(tmp_path / "selected")
    assert len(Selection.load(tmp_path / "selected")) == len(selection)
    other.save(tmp_path / "selected", overwrite=True)
    assert len(Selection.load(tmp_path / "selected")) == 3
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"holds no selection but other files \(thesis.tex\)"):
        selection.save(tmp_path / "mine")
    with pytest.raises(FileNotFoundError, match="holds no selection"):
        Selection.load(tmp_path / "mine")
    selection.save(tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"
    assert len(Selection.load(tmp_path / "mine")) == len(selection)


def test_with_a_store_nothing_is_embedded_twice(tmp_path):
    first, second = CharacterCounts(), CharacterCounts()
    one = Selector(first, store=tmp_path).select(POOL, TARGETS, 5)
    two = Selector(second, store=tmp_path).select(POOL, TARGETS, 5)
    assert (first.embedded, second.embedded) == (22, 0)
    assert one.indices.tolist() == two.indices.tolist()
    Selector(second, store=tmp_path).select(POOL[:-1], TARGETS, 5)
    assert second.embedded == 19  # another pool, the same targets


def test_strings_and_splits_are_rows_too():
    texts = [row["prompt"] for row in POOL]
    splits = datasets.DatasetDict({"train": datasets.Dataset.from_dict({"text": texts})})
    selector = Selector(CharacterCounts(), ITL(noise_std=1.0))
    plain = selector.select(texts, ["banana"], 4)
    split = selector.select(splits, ["banana"], 4, pool_split="train")
    assert plain.indices.tolist() == split.indices.tolist()


@pytest.mark.parametrize("acquisition", ["itl", "vtl", "cosine", "random"])
def test_extended_it_is_one_longer_selection(acquisition):
    selector = Selector(CharacterCounts(), acquisition, noise_std=0.8)
    whole, extended = selector.select(POOL, TARGETS, 9), selector.select(POOL, TARGETS, 3).extend(4).extend(2)
    assert extended.indices.tolist() == whole.indices.tolist()
    assert extended.dataset["itl_rank"] == list(range(1, 10))
    np.testing.assert_allclose(extended.gains, whole.gains, rtol=1e-9)
    np.testing.assert_allclose(extended.target_variance, whole.target_variance, atol=1e-12)


def test_what_cannot_be_extended_says_why(selection, tmp_path):
    with pytest.raises(ValueError, match=r"already_selected=selection\.indices"):
        Selection.load(selection.save(tmp_path / "selected")).extend(2)


def test_columns_name_costs_and_groups():
    pool = [{**row, "tokens": 3 + place % 4} for place, row in enumerate(POOL)]
    limited = Selector(CharacterCounts()).select(
        pool,
        TARGETS,
        8,
        constraints=SelectionConstraints(
            costs="tokens", token_budget=21, groups="task", group_shares={"banana": (0.0, 0.25)}
        ),
    )
    assert sum(limited.dataset["tokens"]) <= 21
    assert limited.dataset["task"].count("banana") <= 2
    with pytest.raises(ValueError, match="no column 'source'"):
        Selector(CharacterCounts()).select(
            pool, TARGETS, 8, constraints=SelectionConstraints(groups="source", group_shares=0.5)
        )


BAD = {
    "empty pool": (dict(pool=[]), "pool"),
    "empty targets": (dict(targets=[]), "targets"),
    "more picks than rows": (dict(num_examples=21), "more than the 20 rows"),
    "no text column": (dict(pool=[{"question": "why?"}] * 9), "question"),
    "a column in the way": (dict(pool=[{"text": "a", "itl_gain": 1.0}] * 9), "itl_gain"),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD.keys())
def test_bad_rows_are_refused_before_anything_is_embedded(changes, message):
    embedder = CharacterCounts()
    with pytest.raises(ValueError, match=message):
        Selector(embedder).select(**{"pool": POOL, "targets": TARGETS, "num_examples": 5, **changes})
    assert embedder.embedded == 0


@pytest.mark.parametrize("options", [{"acquisition": "itll"}, {"kernel": "cubic"}, {"noise_std": -1.0}])
def test_bad_options_are_refused_at_once(options):
    with pytest.raises(ValueError, match=r"unknown|positive"):
        Selector(CharacterCounts(), **options)


def test_whole_conversations_beside_bare_prompts_are_pointed_out():
    pool = [{"prompt": f"{a} + {b} =", "completion": f" {a + b}"} for a, b in [(1, 2), (3, 4), (5, 6), (7, 8)]]
    embedder = HiddenStates(tiny_model("llama"), tokenizer=tiny_tokenizer(), span="whole")
    with pytest.warns(UserWarning, match="embedded with their completions and the targets have none"):
        Selector(embedder).select(pool, [{"prompt": "2 + 2 ="}], 2)


def test_the_record_keeps_the_limits_that_were_asked_for():
    pool = datasets.Dataset.from_dict({"text": ["a b", "c d", "e f", "g h"], "tokens": [1.0, 2.0, 3.0, 4.0]})
    stop = StopWhen(variance_left=0.01)
    selection = Selector(CharacterCounts()).select(
        pool,
        ["a c"],
        3,
        constraints=SelectionConstraints(
            costs="tokens", token_budget=8, groups=[0, 1, 0, 1], group_shares=0.9, stop_when=stop
        ),
    )
    assert selection.record.constraints == {
        "costs": "tokens",
        "token_budget": 8,
        "groups": None,
        "group_shares": 0.9,
        "stop_when": {"gain": None, "variance_left": 0.01},
    }
    np.testing.assert_array_equal(
        selection.features, [CharacterCounts().embed([pool[int(i)]])[0] for i in selection.indices]
    )
    assert Selector(CharacterCounts()).select(pool, ["a c"], 2).record.constraints == {}
