"""What the base class gives an embedder that defines nothing but its dimension, its fingerprint and its features."""

import datasets
import pytest
import torch

import itl_hf
from itl_hf import Combined, Embedder, HiddenStates, Selector, embed
from itl_hf.embedding.estimate import estimate
from itl_hf.embedding.row_reading import read_dataset

TEXTS = ["a", "four", "seven 7", "ten letters", "a", "two words"]


class TextLength(Embedder):
    dimension = 2

    def __init__(self, bad_text=None):
        self.bad_text = bad_text

    def fingerprint(self):
        return {"embedder": "text length"}

    def embed(self, rows, *, first_row=0, on_rows=None):
        for number, row in enumerate(rows, first_row):
            if row["text"] == self.bad_text:
                raise ValueError(f"row {number} is refused")
        return torch.tensor([[float(len(row["text"])), 1.0] for row in rows])

    def check(self, rows, first_row=0):
        for number, row in enumerate(rows, first_row):
            if row["text"] == self.bad_text:
                raise ValueError(f"row {number} is refused by check")


class DuckTyped:
    dimension = 2
    fingerprint = TextLength.fingerprint
    embed = TextLength.embed


def dataset(texts=TEXTS):
    return datasets.Dataset.from_dict({"text": texts})


def test_it_is_a_public_name():
    assert itl_hf.Embedder is Embedder


def test_the_defaults_do_nothing():
    embedder = TextLength()
    rows = list(dataset())
    assert (embedder.tokenizer, embedder.storage_dtype, embedder.preparation) == (None, "float32", True)
    assert embedder.token_counts(rows) is None
    assert embedder.for_targets(rows) is embedder
    assert embedder.report_truncation() is None
    torch.testing.assert_close(embedder.embed_prepared(embedder.prepare(rows)), embedder.embed(rows))


def test_the_default_preparation_keeps_row_numbers():
    embedder = TextLength(bad_text="four")
    with pytest.raises(ValueError, match="row 8 is refused"):
        embedder.embed_prepared(embedder.prepare(list(dataset()), first_row=7))


def test_three_members_are_enough_for_everything(tmp_path):
    rows = dataset([f"{'x' * number} {number}" for number in range(12)])
    features = embed(rows, TextLength(), tmp_path)
    assert features.shape == (12, 2)
    assert len(Selector(TextLength()).select(rows, TEXTS[1:3], 3)) == 3
    assert Combined([TextLength(), TextLength()]).embed(list(rows)).shape == (12, 4)
    assert estimate(rows, TextLength()).tokens is None
    with pytest.raises(ValueError, match="TextLength has none of a language model"):
        read_dataset(rows, TextLength(), count_tokens=True)


def test_an_error_names_the_row_of_the_dataset_where_equal_rows_are_left_out():
    rows = dataset(["a", "a", "b", "bad"])
    with pytest.raises(ValueError, match="row 3 is refused by check"):
        embed(rows, TextLength(bad_text="bad"), rows_hash=itl_hf.embedding.rows_fingerprint(rows))


def test_a_class_without_features_cannot_be_made():
    class Unfinished(Embedder):
        dimension = 1

    with pytest.raises(TypeError, match="abstract class Unfinished"):
        Unfinished()


@pytest.mark.parametrize("wrong", [DuckTyped(), "HuggingFaceTB/SmolLM2-135M-Instruct", None, torch.nn.Linear(1, 1)])
def test_anything_else_is_refused_with_what_to_do(wrong):
    message = rf"must be an itl_hf.Embedder .* got {type(wrong).__name__}\. .* subclass itl_hf.Embedder"
    with pytest.raises(TypeError, match=f"^embedder {message}"):
        Selector(wrong)
    with pytest.raises(TypeError, match=f"^embedder {message}"):
        embed(dataset(), wrong)
    with pytest.raises(TypeError, match=f"^part 1 {message}"):
        Combined([TextLength(), wrong])
    if wrong is not None:
        with pytest.raises(TypeError, match=f"^targets_embedder {message}"):
            Selector(TextLength(), targets_embedder=wrong)


@pytest.mark.parametrize("kind", [TextLength, HiddenStates])
def test_a_class_in_place_of_an_instance_is_refused(kind):
    message = rf"is the class {kind.__name__}: pass an instance, {kind.__name__}\(\.\.\.\)"
    with pytest.raises(TypeError, match=f"embedder {message}"):
        Selector(kind)
    with pytest.raises(TypeError, match=f"embedder {message}"):
        embed(dataset(), kind)
