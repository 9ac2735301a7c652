"""Nothing leaves this machine that is not on the list of what is published."""

from __future__ import annotations

import ast
import dataclasses
import io
import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest

from itl_hf import HiddenStates, Selection, SelectionConstraints, Selector
from itl_hf.hub.contents import MAX_SIMILARITY, public_selection
from itl_hf.hub.public_record import PUBLIC_FIELDS, public_fingerprint, public_record
from itl_hf.hub.publish import preview
from itl_hf.hub.space import write_space
from itl_hf.selection.result.record import SelectionRecord
from tests.hub.conftest import COMMIT, POOL, TARGETS, make_selection
from tests.tiny_models import tiny_model, tiny_tokenizer

#: A prompt that is also a row of the pool, which is not secret by itself: that it is a target is.
COPY = {"prompt": "the merger of acme and globex is planned for march of next year", "completion": "yes"}


@pytest.fixture(scope="module")
def contaminated():
    """All rows are picked, and one of them is a target."""
    with pytest.warns(UserWarning, match="among the picks"):
        return make_selection([*POOL, {**COPY, "source": "mail"}], [{"prompt": COPY["prompt"]}, *TARGETS], 21)


def files_of(folder):
    """The content of all files, that of tables as text."""
    contents = {}
    for path in folder.rglob("*"):
        if path.is_file() and "itl_hf" not in path.parts:
            content = path.read_bytes()
            if content[:4] == b"PAR1":
                content += json.dumps(pq.read_table(io.BytesIO(content)).to_pylist()).encode()
            contents[path.relative_to(folder).as_posix()] = content
    return contents


def assert_absent(folder, *secrets):
    for name, content in files_of(folder).items():
        for secret in secrets:
            assert secret.encode() not in content, (name, secret)


def test_no_entry_says_which_row_is_a_target(contaminated, tmp_path):
    folder = preview(contaminated, tmp_path / "preview", "me/subset")
    record = Selection.load(folder).record
    assert contaminated.screening.num_copies == record.screening["num_copies"] == 1
    assert record.screening["copies"] == []
    assert_absent(folder, contaminated.record.targets_fingerprint)
    assert "1 row of the pool is a copy of a target" in (folder / "README.md").read_text()
    rows = pq.read_table(folder / "data" / "train-00000-of-00001.parquet").to_pylist()
    assert sum(row["itl_similarity"] == MAX_SIMILARITY for row in rows) >= 1
    assert max(row["itl_similarity"] for row in rows) == MAX_SIMILARITY
    assert Selection.load(folder).reach.max() <= MAX_SIMILARITY


def test_with_the_targets_everything_about_them_is_published(contaminated, tmp_path):
    folder = preview(contaminated, tmp_path / "preview", "me/subset", include_targets=True)
    record = Selection.load(folder).record
    assert record.screening == contaminated.record.screening
    assert record.targets_fingerprint == contaminated.record.targets_fingerprint
    assert Selection.load(folder).reach.max() > MAX_SIMILARITY


def test_places_on_the_map_do_not_say_which_row_is_a_target(contaminated):
    rank = contaminated.indices.tolist().index(20)
    np.testing.assert_allclose(contaminated.layout.picks[rank], contaminated.layout.targets[0], atol=1e-5)
    public = public_selection(contaminated, with_targets=False).layout
    extent = np.ptp(public.pool, axis=0)
    distance = np.abs(public.picks[rank] - public.targets[0]) / extent
    assert 1e-4 < distance.max() < 0.05  # moved, and still where it was for the eye


def test_a_space_has_no_more_than_the_dataset(contaminated, tmp_path):
    space = write_space(contaminated, tmp_path / "space")
    assert Selection.load(space / "selection").record.screening["copies"] == []
    assert_absent(space, contaminated.record.targets_fingerprint)


def test_every_field_that_is_not_on_the_list_stays_here(selection):
    """Every field of a record is filled with a marker of its own; those that are found later are on the list."""
    marked = {}
    for one in dataclasses.fields(SelectionRecord):
        value = getattr(selection.record, one.name)
        marked[one.name] = {**value, "SECRET": f"marker {one.name}"} if isinstance(value, dict) else value
    marked["arguments"] = {"targets": "marker arguments"}
    marked["kernel_options"] = {**selection.record.kernel_options, "path": "/home/marker"}
    text = json.dumps(public_record(SelectionRecord(**marked), with_targets=False).to_json())
    # Options of acquisitions and kernels are short texts and numbers; everything else has named entries.
    leaked = set(re.findall(r"marker (\w+)", text)) - {"acquisition_options", "approximation", "unusable"}
    assert not leaked
    assert "/home" not in text
    assert "arguments" not in PUBLIC_FIELDS


@pytest.mark.parametrize(
    "fingerprint",
    [
        {"model": "/home/alice/acme"},
        {"model": "clients/acme"},
        {"model": "acme"},
        {"model": "C:\\clients\\acme", "revision": COMMIT},
        {"model": "../clients/acme", "revision": COMMIT},
        {"model": "~/acme", "revision": COMMIT},
        {"model": "clients/acme", "revision": "main"},
        {"part0.model": "clients/acme", "part1.model": "a/b", "part1.revision": COMMIT},
        {"store": "clients/acme", "layer": "clients/acme", "note": "acme"},
    ],
)
def test_names_of_folders_are_not_published(fingerprint):
    assert "acme" not in json.dumps(public_fingerprint({"embedder": "hidden_states", **fingerprint}))


def test_a_model_of_the_hub_is_named_with_its_commit():
    facts = {"embedder": "combined", "part0.model": "a/b", "part0.revision": COMMIT, "part0.layer": 3}
    assert public_fingerprint(facts) == facts


@pytest.mark.parametrize("form", ["relative", "absolute"])
def test_a_model_in_a_folder_is_neither_published_nor_linked(tmp_path, monkeypatch, form):
    folder = tmp_path / "clients" / "acme-model"
    tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    monkeypatch.chdir(tmp_path)
    embedder = HiddenStates("clients/acme-model" if form == "relative" else str(folder))
    selection = Selector(embedder).select(POOL, TARGETS, 3)
    monkeypatch.chdir("/")  # where no folder of this name is
    assert_absent(preview(selection, tmp_path / "preview", "me/subset"), "acme", "clients")
    assert_absent(write_space(selection, tmp_path / "space"), "acme", "clients")


def test_replay_rows_and_hashes_of_prompts_to_avoid_are_not_published(tmp_path):
    embedder = HiddenStates(tiny_model("llama"), tokenizer=tiny_tokenizer())
    secret = "the merger of acme and globex is planned for march of next year"
    made = Selector(embedder, store=False).select(POOL[:8], TARGETS, 7, replay_share=0.1, avoid=[secret])
    assert len(made.replay) == 1
    for folder in (preview(made, tmp_path / "preview", "me/subset"), write_space(made, tmp_path / "space")):
        assert_absent(folder, made.record.acquisition_options["avoid"]["hash"])
    published = Selection.load(tmp_path / "preview")
    assert published.replay is None
    assert published.record.replay["rows"] == 1
    assert published.record.acquisition_options["avoid"] == {"rows": 1, "weight": 1.0}
    left_out = made.replay[0]["prompt"]
    assert left_out not in published.dataset["prompt"][:]
    card = (tmp_path / "preview" / "README.md").read_text()
    assert "replay rows" in card
    code = card.split("```python\n")[-1].split("```")[0]
    ast.parse(code)
    assert "avoid=Avoid(..., weight=1.0),  # the 1 prompts to avoid" in code
    assert "replay_share=Replay(share=0.1, method='random', seed=0)," in code


def test_rows_that_were_excluded_are_not_listed(selection):
    constraints = SelectionConstraints(exclude=[3, 7]).to_json()
    record = dataclasses.replace(selection.record, constraints=constraints)
    public = public_record(record, with_targets=False)
    assert public.constraints["exclude"] is None
    with pytest.raises(ValueError, match="not published"):
        public.selection_constraints()
    assert public_record(record, with_targets=True).constraints["exclude"] == [3, 7]


def test_groups_without_picks_are_counted_and_not_named(selection):
    coverage = {"column": "source", "rows": {"apple": 5, "mail of the board": 9}, "others": 0}
    record = dataclasses.replace(selection.record, coverage=coverage)
    rows = public_record(record, with_targets=False, picked_groups={"apple"}).coverage["rows"]
    assert list(rows.values()) == [5, 9]
    assert "apple" in rows
    assert "mail of the board" not in rows


def test_errors_of_skipped_rows_are_not_quoted(selection):
    kinds = [{"error": "unknown role 'boss'", "count": 1, "rows": [4]}]
    record = dataclasses.replace(selection.record, skipped={"pool": {"count": 1, "kinds": kinds}})
    assert public_record(record, with_targets=True).skipped == {"pool": {"count": 1, "kinds": []}}


def test_the_public_record_is_read_again_and_is_its_own_public_record(contaminated):
    public = public_record(contaminated.record, with_targets=False)
    assert SelectionRecord.from_json(json.loads(json.dumps(public.to_json()))) == public
    assert public_record(public, with_targets=False) == public
