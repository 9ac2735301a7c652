"""The card can be parsed, its facts are right, text of rows is escaped, and its script selects the same rows."""

from __future__ import annotations

import dataclasses
import html.parser
import re

import pytest
from huggingface_hub import DatasetCard
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from itl_hf import ITL, HiddenStates, Selection, SelectionConstraints, Selector, Shortlist
from itl_hf.hub.card import Publication, write_card
from itl_hf.hub.contents import public_selection
from itl_hf.hub.escape import code_span, escape
from itl_hf.hub.publish import preview
from itl_hf.selection.diagnosis.verdict import verdict
from tests.hub import actions
from tests.hub.conftest import POOL, TARGETS, make_selection
from tests.tiny_models import SENTENCES, tiny_model, tiny_tokenizer

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "![p](https://evil.example/p.png)",
    "[click](javascript:alert(1))",
    "| a | b |",
    "`` ` ``` code",
    "# heading",
    "https://evil.example www.evil.example me@evil.example @user #1 $$x$$ :smile:",
    "1. one\n---\n- two\n\n    four\n***bold***",
    "&lt;b&gt; &#60;i&#62;",
    "{{ 7 * 7 }} {% raw %}",
    "\u202egnp.exe\x00\x1b[31m",
    '"><svg onload=alert(1)>',
    "\\`\\[",
    "1) one",
    "12. one",
    "=== --- +++",
    "+ plus",
    "_a_ __b__ a_b_ _c",
    "![a] (b) ![a](c) (d)[e]: f",
    ": term :a: :b : c::d: http://x.y ftp://a.b",
    "evil.example 1.a www.1.2 a.b.",
]


class Page(html.parser.HTMLParser):
    """Tags, links and text of a page as a browser would get it."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("href", "src")]
        assert not any(name.startswith("on") for name, _ in attributes)

    def handle_data(self, data):
        self.text += data


def page(markdown):
    """Renders Markdown like a site that allows HTML and tables."""
    return Page(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown))


def card_of(selection, **options):
    publication = Publication("me/subset", **options)
    return DatasetCard(write_card(public_selection(selection, publication.include_targets), publication))


def with_record(selection, **changes):
    return dataclasses.replace(selection, record=dataclasses.replace(selection.record, **changes))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_displayed_and_not_interpreted(text):
    html_page = page(f"{escape(text)}\n\n| a |\n|---|\n| {escape(text)} |\n")
    assert html_page.tags == ["p", "table", "thead", "tr", "th", "tbody", "tr", "td"]
    assert not html_page.links
    assert "\u202e" not in html_page.text
    words = re.findall(r"\w+", text.replace("\u202e", "").replace("\x1b", ""))
    assert all(word in html_page.text for word in words)
    if text.isprintable():
        assert html_page.text.count(text) == 2
    # Extensions of Markdown (links without brackets, mentions, formulas) look for these.
    assert not re.search(r"https?:|www\.|@|\$|:\w+:", escape(text))


@given(st.text(alphabet="ab1 .:)(-+=_*#!'\"|<>&[]`~@$\\/\n", max_size=24))
def test_no_text_becomes_more_than_text(text):
    for markdown in (str(escape(text)), f"- {escape(text)}", f"before\n{escape(text)}"):
        html_page = page(markdown)
        assert set(html_page.tags) <= {"p", "ul", "li"}
        assert not html_page.links
    assert not re.search(r"https?://|www\.\w|@|\$|:\w+:|\w\.[a-z]", escape(text))
    assert " ".join(page(f"x {escape(text)}").text.split()) == " ".join(f"x {text}".split())


@pytest.mark.parametrize(
    "text",
    [
        "Solve the following problem. Reverse this list: a, b",
        "Keep all numbers larger than -49.5 (in this list): 'x', \"y\"!",
        "word_sequence_reversal = 1.5",
    ],
)
def test_ordinary_sentences_are_not_changed(text):
    assert escape(text) == text


@pytest.mark.parametrize("text", HOSTILE)
def test_names_that_are_not_ordinary_are_escaped_too(text):
    assert not page(str(code_span(text))).links
    assert set(page(str(code_span(text))).tags) <= {"p", "code"}


def test_a_card_of_hostile_rows_has_the_tags_of_an_ordinary_one(selection):
    plain = page(card_of(selection, include_targets=True).text)
    hostile = selection.dataset.remove_columns(["prompt", "source"])
    hostile = hostile.add_column("prompt", HOSTILE[:6]).add_column("source", HOSTILE[6:12])
    targets = selection.targets.remove_columns("prompt").add_column("prompt", HOSTILE[:2])
    embedder = {"embedder": HOSTILE[0], "note": HOSTILE[8]}
    record = dataclasses.replace(selection.record, embedder=embedder, noise_rule=HOSTILE[2])
    worse = dataclasses.replace(selection, dataset=hostile, targets=targets, record=record)
    html_page = page(card_of(worse, include_targets=True, license=HOSTILE[1], source={"dataset": HOSTILE[3]}).text)
    assert set(html_page.tags) <= set(plain.tags)
    assert html_page.tags.count("img") == 2
    assert all(link.startswith(("pictures/", "https://huggingface.co/")) for link in html_page.links)
    assert "<script>alert(1)</script>" in html_page.text


def test_a_record_cannot_end_the_block_of_code(selection):
    quoted = 'x"\n```\n<script>'
    embedder = {"embedder": "hidden_states", "model": quoted, "span": quoted}
    html_page = page(card_of(with_record(selection, embedder=embedder)).text)
    assert "script" not in html_page.tags


def test_metadata_is_what_the_hub_searches_by(selection):
    data = card_of(
        selection, source={"dataset": "some/pool"}, license="cc-by-4.0", include_features=True
    ).data.to_dict()
    assert data["license"] == "cc-by-4.0"
    assert data["source_datasets"] == ["some/pool"]
    assert data["base_model"] == "someone/letters"
    assert data["size_categories"] == ["n<1K"]
    assert "itl" in data["tags"]
    assert [config["config_name"] for config in data["configs"]] == ["default", "features"]


def test_unknown_facts_are_not_in_the_metadata(selection):
    data = card_of(with_record(selection, embedder={"model": "a-folder"})).data.to_dict()
    assert not {"license", "source_datasets", "base_model"} & set(data)
    assert card_of(selection, license="Do what you like!").data.license == "other"


def test_the_card_contains_the_facts_of_the_selection(selection):
    text = page(card_of(selection).text).text
    record = selection.record
    assert "6 rows, picked by ITL from a pool of 20 for 2 target prompts" in text
    for fact in (record.pool_fingerprint, record.noise_rule, f"{record.noise_std:.6g}", record.versions["torch"]):
        assert fact in text
    for line in selection.diagnose().summary().split("\n"):
        assert line in text
    assert "zebras" not in text
    assert POOL[selection.indices[0]]["prompt"] in text


def test_only_the_card_of_itl_explains_itl_and_gains_of_vtl_are_not_called_nats(selection):
    text = page(card_of(selection).text).text
    assert "ITL picks the rows whose answers" in text
    assert re.search(r"together they give \d\.\d\d of \d\.\d\d nats of information about the targets", text)
    for acquisition, unit in (("vtl", False), ("random", True)):
        text = page(card_of(make_selection(POOL, TARGETS, 6, acquisition=acquisition)).text).text
        assert "ITL picks the rows whose answers" not in text
        assert ("nats of information about the targets" in text) is unit


def test_targets_out_of_reach_are_listed_with_their_text_only_if_published(selection):
    far = make_selection(POOL, [{"prompt": "banana river"}, {"prompt": "zzz jjj zzz"}], 6)
    assert [target.target for target in far.diagnose().unteachable] == [1]
    assert "zzz jjj" not in page(card_of(far).text).text
    assert "zzz jjj zzz" in page(card_of(far, include_targets=True).text).text
    assert "this pool cannot teach it" in page(card_of(far).text).text


def test_the_card_says_first_how_well_the_targets_are_taught_and_counts_ranks_from_1(selection):
    text = card_of(selection).text
    assert text.index(verdict(selection.diagnose())) < text.index("## How well the targets are taught")
    assert text.index("What to do next") < text.index("## Load the dataset")
    assert "| embedder | `" in text
    assert "embedder: embedder" not in text
    first_picks = text.partition("## The first picks")[2].partition("##")[0]
    assert re.findall(r"^\| (\d+) \|", first_picks, re.MULTILINE) == ["1", "2", "3", "4", "5", "6"]
    assert "\n\n\n\n" not in text
    for heading, body in re.findall(r"^(## .*)\n+((?:(?!## ).*\n)*)", text, re.MULTILINE):
        assert body.strip(), heading


def test_a_preview_needs_an_empty_folder(selection, tmp_path):
    preview(selection, tmp_path, "me/subset")
    with pytest.raises(FileExistsError, match="not empty"):
        preview(selection, tmp_path, "me/subset")


def test_a_dataset_that_already_has_the_column_is_an_error(selection):
    with_column = dataclasses.replace(selection, dataset=selection.dataset.rename_column("source", "itl_variance_left"))
    with pytest.raises(ValueError, match="itl_variance_left"):
        card_of(with_column)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("embedder", "options", "picking"),
    [
        ({"layer": 1}, {}, {}),
        ({"layer": [1, 2], "pooling": ["mean", "last"]}, {"kernel": "linear"}, {}),
        (
            {"skip_tokens": 1, "max_length": 100},
            {"acquisition": "vtl", "noise_std": 0.3},
            {"constraints": SelectionConstraints(replace=True)},
        ),
        ({"layer": 0.5}, {"acquisition": "random", "seed": 7, "standardize": False}, {}),
        ({}, {"kernel": "laplace", "standardize": "whiten-8-unit", "acquisition": ITL(target_noise_std=0.1)}, {}),
        ({}, {"acquisition": "cosine", "kernel": "cosine"}, {"already_selected": [3, 4]}),
        ({"layer": 1}, {"shortlist": "auto"}, {}),
        ({"layer": 2}, {"shortlist": "another embedder"}, {}),
    ],
)
def test_the_script_of_the_card_selects_the_same_rows(model, monkeypatch, embedder, options, picking):
    pool = [{"prompt": f"{text} {n}", "completion": "yes"} for n in range(5) for text in SENTENCES]
    targets = [{"prompt": text} for text in SENTENCES[:2]]
    if options.get("shortlist") == "another embedder":
        options = {**options, "shortlist": Shortlist(12, HiddenStates(model, layer=1))}
    selection = Selector(HiddenStates(model, **embedder), **options).select(pool, targets, 8, **picking)
    text = card_of(selection, source={}).text
    script = next(block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "assert" in block)
    # The reader fills in what the script leaves open: the rows and the path of the model.
    script = script.replace("pool = ...", "pool = POOL").replace("targets = ...", "targets = TARGETS")
    script = script.replace("HiddenStates(...", f"HiddenStates({str(model)!a}")
    if "already_selected" in picking:
        script = script.replace("already_selected=...", "already_selected=[3, 4]")
    assert "..." not in script
    monkeypatch.setattr(Selection, "from_hub", classmethod(lambda cls, *_, **__: selection))
    again = {"POOL": pool, "TARGETS": targets}
    exec(compile(script, "card", "exec"), again)
    assert again["selection"].indices.tolist() == selection.indices.tolist()
    assert again["selection"].gains.tolist() == selection.gains.tolist()
    other = {"POOL": pool[:5:-1], "TARGETS": targets}
    with pytest.raises(AssertionError):
        exec(compile(script, "card", "exec"), other)


def test_constraints_in_the_record_are_in_the_script(selection):
    stop_when = {"gain": 0.1, "variance_left": None}
    constraints = {"token_budget": 100, "costs": "cost", "groups": None, "stop_when": stop_when}
    text = card_of(with_record(selection, constraints=constraints)).text
    for line in (
        "token_budget=100,",
        "costs='cost',",
        "groups=...,",
        "stop_when=StopWhen(gain=0.1, variance_left=None)",
    ):
        assert line in text


def test_the_hub_accepts_the_card_and_its_licence_is_that_of_the_base_dataset(hub, client, selection):
    client(actions.make_dataset, "me/pool", POOL, "---\nlicense: cc-by-sa-4.0\n---\n# Pool\n")
    client(actions.push, selection, base_dataset="me/pool")
    data, text = client(actions.load_card)
    assert data["license"] == "cc-by-sa-4.0"
    assert data["source_datasets"] == ["me/pool"]
    assert "load_dataset('me/pool', split='train')" in text
    client(actions.push, selection, base_dataset="me/nothing")
    assert "license" not in client(actions.load_card)[0]
    client(actions.push, selection, base_dataset="me/pool", license="mit")
    assert client(actions.load_card)[0]["license"] == "mit"
    assert make_selection(POOL, TARGETS, 6).record.pool_fingerprint in text
