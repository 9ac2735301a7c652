"""`itl-hf push`: what it publishes, previews and refuses."""

from __future__ import annotations

import pytest
import typer
from huggingface_hub import DatasetCard
from typer.testing import CliRunner

from itl_hf import Selection
from itl_hf.cli.output import with_output
from itl_hf.cli.push import push

APP = typer.Typer(rich_markup_mode=None)
APP.command()(with_output(push))


def run(*arguments):
    result = CliRunner().invoke(APP, [str(argument) for argument in arguments])
    return result.exit_code, result.output, result.exception


@pytest.fixture
def saved(selection, tmp_path):
    return selection.save(tmp_path / "selected")


def test_it_publishes_a_saved_selection(hub, client, saved, store):
    status, output, error = client(run, saved, "me/subset", "--private", "--include_features", "--store", store)
    assert status == 0, error
    assert f"published: {hub.url}" in output
    assert hub.dataset("me/subset").private
    files = hub.dataset("me/subset").at("main").files
    assert {"README.md", "features/train-00000-of-00001.parquet"} <= set(files)


def test_branch_message_and_targets(hub, client, saved):
    options = ["--revision", "v2", "--commit_message", "hello", "--include_targets", "--license", "mit"]
    status, _, error = client(run, saved, "me/subset", *options)
    assert status == 0, error
    commit = hub.dataset("me/subset").at("v2")
    assert commit.title == "hello"
    card = DatasetCard(commit.files["README.md"].decode())
    assert card.data.license == "mit"
    assert [config["config_name"] for config in card.data.configs] == ["default", "targets"]


def test_options_may_stand_in_a_file(hub, client, saved, tmp_path):
    config = tmp_path / "push.yaml"
    config.write_text("private: true\ncommit_message: from a file\n", encoding="utf-8")
    status, _, error = client(run, saved, "me/subset", "--config", config)
    assert status == 0, error
    assert hub.dataset("me/subset").private
    assert hub.dataset("me/subset").commits[-1].title == "from a file"


def test_a_preview_publishes_nothing(hub, client, saved, tmp_path):
    status, output, error = client(run, saved, "me/subset", "--preview", tmp_path / "preview")
    assert status == 0, error
    assert "nothing published" in output
    assert not hub.requests
    assert len(Selection.load(tmp_path / "preview")) == 6
    assert "zebras" not in (tmp_path / "preview" / "README.md").read_text(encoding="utf-8")


def test_mistakes_are_errors_that_the_command_line_says_in_a_sentence(hub, client, tmp_path, saved):
    assert isinstance(client(run, tmp_path / "nowhere", "me/subset")[2], FileNotFoundError)
    assert isinstance(client(run, saved, "me/sub set")[2], ValueError)
    assert isinstance(client(run, saved, "me/subset", "--include_features")[2], ValueError)
    hub.fail("POST", "/commit/", "cut")
    assert isinstance(client(run, saved, "me/subset")[2], ConnectionError)
