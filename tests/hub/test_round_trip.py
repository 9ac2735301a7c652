"""Pushes, loads and pushes again with the unmodified clients and a Hub on this machine."""

from __future__ import annotations

import base64
import dataclasses
import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from tests.hub import actions
from tests.hub.conftest import POOL, SECRET, TARGETS, LetterCounts, assert_same, make_selection, published
from tests.hub_server import TOKEN

COLUMNS = {"pool_index", "itl_rank", "itl_gain", "itl_variance_left", "itl_nearest_target", "itl_similarity"}


def paths(hub, name="me/subset", revision="main"):
    return set(hub.dataset(name).at(revision).files)


def num_commits(hub, name="me/subset"):
    return len(hub.dataset(name).commits)


def uploaded_bytes(hub):
    """Returns everything that was uploaded as bytes: request bodies, files in commits, and the text of the tables."""
    parts = [request.body for request in hub.requests]
    for request in hub.requests:
        if "/commit/" in request.path:
            lines = [json.loads(line)["value"] for line in request.body.splitlines()]
            parts += [base64.b64decode(line["content"]) for line in lines if "content" in line]
        if "/preupload/" in request.path:
            parts += [base64.b64decode(file["sample"]) for file in json.loads(request.body)["files"]]
    for data in hub.objects.values():
        if data[:4] == b"PAR1":
            parts.append(json.dumps(pq.read_table(io.BytesIO(data)).to_pylist()).encode())
    return b"\n".join(parts)


def test_a_pushed_selection_is_loaded_unchanged(hub, client, selection):
    commit = client(actions.push, selection)
    assert commit.oid == hub.dataset("me/subset").branches["main"]
    back, warning_texts = client(actions.pull)
    assert_same(selection, back)
    assert len(back.targets) == 2
    assert "were not published" in warning_texts[0]
    assert back.diagnose().summary() == selection.diagnose().summary()


def test_a_push_is_one_commit_with_all_files(hub, client, selection):
    client(actions.push, selection)
    assert num_commits(hub) == 2  # the first commit of the Hub, and the push
    pictures = {"pictures/map.png", "pictures/variance.png"}
    data = {"data/train-00000-of-00001.parquet", "targets.parquet", "arrays.safetensors", "selection.json"}
    assert paths(hub) == {".gitattributes", "README.md"} | pictures | data
    for picture in pictures:
        assert hub.dataset("me/subset").at("main").files[picture].startswith(b"\x89PNG")


@pytest.mark.parametrize("streaming", [False, True])
def test_datasets_loads_the_rows_with_columns_to_sort_by(hub, client, selection, streaming):
    client(actions.push, selection)
    features, rows = client(actions.load, streaming=streaming)
    assert {"prompt", "completion", "source"} | COLUMNS == set(features)
    assert all(features[name].dtype in ("int64", "float64") for name in COLUMNS)
    left = [row.pop("itl_variance_left") for row in rows]
    assert rows == published(selection).dataset.to_list()
    expected = selection.target_variance[1:].sum(1) / selection.target_variance[0].sum()
    np.testing.assert_allclose(left, expected)
    assert left == sorted(left, reverse=True)


def test_features_come_from_the_store_into_a_configuration_of_their_own(hub, client, selection, store):
    client(actions.push, selection, include_features=True, store=store)
    _, rows = client(actions.load, name="features")
    assert [row["pool_index"] for row in rows] == selection.indices.tolist()
    expected = LetterCounts().embed([POOL[index] for index in selection.indices])
    np.testing.assert_array_equal([row["features"] for row in rows], expected.numpy())
    features, _ = client(actions.load)
    assert "features" not in features


def test_features_in_memory_need_no_store(hub, client, selection):
    rows = np.arange(12, dtype=np.float16).reshape(6, 2)
    client(actions.push, dataclasses.replace(selection, features=rows), include_features=True)
    features, rows_loaded = client(actions.load, name="features")
    assert features["features"].length == 2
    np.testing.assert_array_equal([row["features"] for row in rows_loaded], rows)


def test_missing_features_are_an_error_before_anything_is_sent(hub, client, selection, tmp_path):
    selection = dataclasses.replace(selection, features=None)  # as after `Selection.load`
    with pytest.raises(ValueError, match="pass store="):
        client(actions.push, selection, include_features=True)
    with pytest.raises(ValueError, match="holds no features of this selection"):
        client(actions.push, selection, include_features=True, store=tmp_path)
    assert not hub.requests


def test_targets_are_published_only_on_request(hub, client, selection):
    client(actions.push, selection)
    assert b"zebras" not in uploaded_bytes(hub)
    assert b"secret task" not in uploaded_bytes(hub)
    client(actions.push, selection, include_targets=True)
    assert b"zebras" in uploaded_bytes(hub)  # so the search above would find it
    back, warning_texts = client(actions.pull)
    assert back.targets.to_list() == TARGETS
    assert not warning_texts
    _, rows = client(actions.load, name="targets")
    assert rows == TARGETS


def test_the_token_is_in_headers_only(hub, client, selection):
    client(actions.push, selection, token=TOKEN)
    assert TOKEN.encode() not in uploaded_bytes(hub)
    assert any(TOKEN in request.headers.get("authorization", "") for request in hub.requests)
    assert not any(TOKEN in request.path for request in hub.requests)


def test_a_second_push_replaces_the_first(hub, client, selection, store):
    client(actions.push, selection, include_targets=True, include_features=True, store=store)
    client(actions.upload, "me/subset", "notes.md", b"mine")
    smaller = make_selection(POOL, TARGETS, 3)
    client(actions.push, smaller)
    assert_same(smaller, client(actions.pull)[0])
    assert len(client(actions.load)[1]) == 3
    files = hub.dataset("me/subset").at("main").files
    assert not any(path.startswith("features/") for path in files)
    assert SECRET not in json.dumps(pq.read_table(io.BytesIO(files["targets.parquet"])).to_pylist())
    assert files["notes.md"] == b"mine"


def test_pushing_the_same_again_changes_nothing(hub, client, selection):
    client(actions.push, selection)
    before = num_commits(hub)
    client(actions.push, selection)
    assert num_commits(hub) == before
    assert_same(selection, client(actions.pull)[0])


def test_by_branch_and_by_commit(hub, client, selection):
    first = client(actions.push, selection).oid
    smaller = make_selection(POOL, TARGETS, 2)
    client(actions.push, smaller, revision="small")
    assert_same(selection, client(actions.pull)[0])
    assert_same(smaller, client(actions.pull, revision="small")[0])
    assert len(client(actions.load, revision="small")[1]) == 2
    client(actions.push, smaller)
    assert_same(selection, client(actions.pull, revision=first)[0])
    assert len(client(actions.load, revision=first)[1]) == 6
    assert 'revision="small"' in hub.dataset("me/subset").at("small").files["README.md"].decode().replace("'", '"')
    with pytest.raises(RevisionNotFoundError):
        client(actions.pull, revision="nowhere")


def test_a_name_without_an_owner_belongs_to_the_user(hub, client, selection):
    client(actions.push, selection, "subset")
    assert "load_dataset('me/subset'" in hub.dataset("me/subset").at("main").files["README.md"].decode()


def test_a_private_dataset_needs_a_token_and_a_public_one_is_refused(hub, client, selection):
    client(actions.push, selection, private=True)
    assert hub.dataset("me/subset").private
    client(actions.pull)
    with pytest.raises(RepositoryNotFoundError):
        client(actions.pull, token=False)
    client(actions.make_repository, "me/open")
    with pytest.raises(ValueError, match="is public"):
        client(actions.push, selection, "me/open", private=True)
    assert num_commits(hub, "me/open") == 1


def test_a_missing_dataset_or_one_without_a_selection_is_an_error(hub, client):
    with pytest.raises(RepositoryNotFoundError):
        client(actions.pull, "me/nothing")
    client(actions.make_dataset, "me/other", [{"text": "a"}])
    with pytest.raises(FileNotFoundError, match="me/other holds no selection"):
        client(actions.pull, "me/other")


def test_a_dataset_that_is_not_a_selection_is_not_overwritten(hub, client, selection):
    client(actions.make_dataset, "me/other", [{"text": "a"}])
    before = num_commits(hub, "me/other")
    with pytest.raises(FileExistsError, match="holds no selection"):
        client(actions.push, selection, "me/other")
    assert num_commits(hub, "me/other") == before


def test_a_wrong_token_is_refused_and_not_repeated_in_the_message(hub, client, selection):
    wrong = "hf_" + "w" * 34
    with pytest.raises(HfHubHTTPError, match="401") as error:
        client(actions.push, selection, token=wrong)
    assert wrong not in str(error.value)
    assert not hub.repos
    client(actions.push, selection)
    client(actions.pull)  # now there is a copy in the cache, which must not be used after a refusal
    with pytest.raises(HfHubHTTPError, match="401"):
        client(actions.pull, token=wrong)


@pytest.mark.parametrize("where", ["repos/create", "/preupload/", "/lfs/", "/commit/", "validate-yaml"])
def test_pushing_waits_while_the_hub_is_busy(hub, client, selection, where):
    fault = hub.fail("PUT" if where == "/lfs/" else "POST", where, 429, times=2)
    client(actions.push_without_waiting, selection)
    assert fault.times == 0
    assert_same(selection, client(actions.pull)[0])


def test_loading_waits_while_the_hub_is_busy_and_uses_the_cache_without_a_connection(hub, client, selection):
    client(actions.push, selection)
    fault = hub.fail("GET", "/api/datasets/me/subset", 429)
    assert_same(selection, client(actions.pull)[0])
    assert fault.times == 0
    hub.fail("GET", "", "cut", times=99)
    hub.fail("HEAD", "", "cut", times=99)
    assert_same(selection, client(actions.pull)[0])
    with pytest.raises(ConnectionError, match="no copy of it is in the cache"):
        client(actions.pull, "me/unseen")


def test_an_interrupted_download_is_completed(hub, client, selection):
    client(actions.push, selection, "me/large")
    hub.fail("GET", "/resolve/", "cut")
    assert_same(selection, client(actions.pull, "me/large")[0])


def test_a_hub_that_stays_busy_is_an_error(hub, client, selection):
    hub.fail("POST", "/commit/", 429, times=99)
    with pytest.raises(HfHubHTTPError, match="429"):
        client(actions.push_without_waiting, selection)
    assert num_commits(hub) == 1


def test_one_broken_connection_during_an_upload_is_repaired(hub, client, selection):
    fault = hub.fail("PUT", "/lfs/", "cut")
    client(actions.push_without_waiting, selection)
    assert fault.times == 0
    assert_same(selection, client(actions.pull)[0])


@pytest.mark.parametrize(("method", "where"), [("PUT", "/lfs/"), ("POST", "/commit/"), ("POST", "/preupload/")])
def test_an_interrupted_push_publishes_nothing_and_the_next_one_completes_it(hub, client, selection, method, where):
    client(actions.push, make_selection(POOL, TARGETS, 2))
    before = paths(hub), num_commits(hub)
    fault = hub.fail(method, where, "cut", times=99)
    with pytest.raises(ConnectionError, match="push again"):
        client(actions.push_without_waiting, selection)
    assert (paths(hub), num_commits(hub)) == before
    assert len(client(actions.pull)[0]) == 2
    fault.times = 0
    client(actions.push, selection)
    assert_same(selection, client(actions.pull)[0])


def test_a_lost_answer_is_an_error_and_the_next_push_changes_nothing(hub, client, selection):
    hub.fail("POST", "/commit/", "cut after")
    with pytest.raises(ConnectionError, match="only the last answer was lost"):
        client(actions.push, selection)
    before = num_commits(hub)
    client(actions.push, selection)
    assert num_commits(hub) == before
    assert_same(selection, client(actions.pull)[0])


def test_a_damaged_selection_is_an_error(hub, client, selection):
    client(actions.push, selection)
    smaller = make_selection(POOL, TARGETS, 2)
    client(actions.push, smaller, "me/smaller")
    arrays = hub.dataset("me/smaller").at("main").files["arrays.safetensors"]
    client(actions.upload, "me/subset", "arrays.safetensors", arrays)
    with pytest.raises(ValueError, match="damaged selection"):
        client(actions.pull)
    client(actions.upload, "me/subset", "arrays.safetensors", b"no tensors")
    with pytest.raises(ValueError, match="damaged selection"):
        client(actions.pull)


def test_targets_that_were_withheld_cannot_be_published_later(hub, client, selection):
    client(actions.push, selection)
    back, _ = client(actions.pull)
    with pytest.raises(ValueError, match="without its target prompts"):
        client(actions.push, back, "me/again", include_targets=True)
    client(actions.push, back, "me/again")
    assert_same(selection, client(actions.pull, "me/again")[0])


MY_CARD = (
    b"---\nlicense: cc-by-nc-4.0\nextra_gated_prompt: You agree not to re-identify people.\n---\n# My careful card\n"
)


def test_the_readme_of_a_repository_is_kept(hub, client, selection):
    client(actions.make_repository, "me/mine")
    client(actions.upload, "me/mine", "README.md", MY_CARD)
    for pushed in (selection, make_selection(POOL, TARGETS, 3)):
        client(actions.push, pushed, "me/mine")
        card = hub.dataset("me/mine").at("main").files["README.md"].decode()
        for words in ("license: cc-by-nc-4.0", "extra_gated_prompt: You agree", "# My careful card", "itl-hf"):
            assert card.count(words) >= 1
        assert f"# {len(pushed)} rows picked from 20" in card
        assert card.count("<!-- itl-hf:begin") == 1
        assert len(client(actions.load, "me/mine")[1]) == len(pushed)
        assert_same(pushed, client(actions.pull, "me/mine")[0])
    before = num_commits(hub, "me/mine")
    client(actions.push, pushed, "me/mine")
    assert num_commits(hub, "me/mine") == before
    client(actions.push, pushed, "me/mine", overwrite_card=True)
    assert "careful" not in hub.dataset("me/mine").at("main").files["README.md"].decode()


def test_a_licence_that_is_not_written_is_said(hub, client, selection):
    client(actions.make_repository, "me/mine")
    client(actions.upload, "me/mine", "README.md", MY_CARD)
    said = client(actions.push_with_warnings, selection, "me/mine", license="mit")
    assert any("has the license 'cc-by-nc-4.0', which is kept; overwrite_card" in text for text in said)
    client(actions.upload, "me/mine", "README.md", b"---\nlicense: mit\n---\n<!-- itl-hf:begin -->\n")
    with pytest.raises(ValueError, match=r"me/mine: README\.md has comments .*overwrite_card"):
        client(actions.push, selection, "me/mine")
