"""Images that a pool names by a path are saved and published with their content, and no path of this machine."""

from __future__ import annotations

import shutil

import datasets
import numpy as np
import pytest

from itl_hf import Selection, Selector
from itl_hf.hub.publish import preview
from itl_hf.report.explorer.export import write_parquet
from tests.selection.result.test_folder import POOL, Lengths

PIL = pytest.importorskip("PIL.Image")


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "private-folder-of-alice"
    folder.mkdir()
    for number in range(len(POOL)):
        PIL.new("RGB", (4, 4), (40 * number, 0, 0)).save(folder / f"{number}.png")
    return folder


def pool_of(images):
    paths = [str(images / f"{number}.png") for number in range(len(POOL))]
    rows = {"prompt": [row["prompt"] for row in POOL], "image": paths, "pages": [[path, path] for path in paths]}
    dataset = datasets.Dataset.from_dict({**rows, "none": [None] * len(POOL)})
    dataset = dataset.cast_column("image", datasets.Image()).cast_column("none", datasets.Image())
    return dataset.cast_column("pages", datasets.List(datasets.Image()))


def test_they_are_read_again_elsewhere_and_no_path_is_published(images, tmp_path):
    selection = Selector(Lengths()).select(pool_of(images), [{"prompt": "an apple"}], 3)
    selection.save(tmp_path / "selected")
    preview(selection, tmp_path / "preview", "me/x")
    write_parquet(selection.dataset, tmp_path / "export.parquet")
    shutil.move(images, tmp_path / "elsewhere")
    for folder in ("selected", "preview"):
        loaded = Selection.load(tmp_path / folder)
        for row, index in zip(loaded.dataset, loaded.indices, strict=True):
            for image in (row["image"], *row["pages"]):
                assert np.asarray(image)[0, 0].tolist() == [40 * index, 0, 0]
            assert row["none"] is None
        for file in (tmp_path / folder).rglob("*"):
            assert not file.is_file() or b"private-folder-of-alice" not in file.read_bytes(), file
    assert b"private-folder-of-alice" not in (tmp_path / "export.parquet").read_bytes()


def test_images_that_are_gone_are_named_before_anything_is_written(images, tmp_path):
    selection = Selector(Lengths()).select(pool_of(images), [{"prompt": "an apple"}], 3)
    shutil.rmtree(images)
    for call in (lambda: selection.save(tmp_path / "out"), lambda: preview(selection, tmp_path / "out", "me/x")):
        with pytest.raises(FileNotFoundError, match=r"column 'image' names the file .*\.png.*remove_columns"):
            call()
        assert not (tmp_path / "out").exists()


def test_targets_with_images(images, tmp_path):
    targets = pool_of(images).select([2])
    selection = Selector(Lengths()).select(POOL, targets, 3)
    selection.save(tmp_path / "selected")
    shutil.rmtree(images)
    assert np.asarray(Selection.load(tmp_path / "selected").targets[0]["image"])[0, 0].tolist() == [80, 0, 0]


def test_empty_dictionaries_come_back(tmp_path):
    calls = [[{"name": "now", "arguments": {}}], [], None, [{"name": "é", "arguments": {}}], []]
    features = {"prompt": datasets.Value("string"), "calls": [{"name": datasets.Value("string"), "arguments": {}}]}
    rows = {"prompt": [row["prompt"] for row in POOL], "calls": calls, "x": [{}] * len(POOL)}
    pool = datasets.Dataset.from_dict(rows, features=datasets.Features({**features, "x": {}}))
    selection = Selector(Lengths()).select(pool, [{"prompt": "an apple"}], 5)
    loaded = Selection.load(selection.save(tmp_path / "selected"))
    assert loaded.dataset.to_list() == selection.dataset.to_list()
    assert [loaded.dataset[rank]["calls"] for rank in range(5)] == [calls[row] for row in loaded.indices]


def test_columns_that_cannot_be_saved_are_refused_before_the_model_runs():
    class Asleep(Lengths):
        def embed(self, rows, *, first_row=0, on_rows=None):
            raise AssertionError("the model ran")

    rows = {"prompt": [row["prompt"] for row in POOL]}
    features = datasets.Features({"prompt": datasets.Value("string"), "x": {"a": {}, "b": datasets.Value("binary")}})
    bytes_rows = datasets.Dataset.from_dict({**rows, "x": [{"a": {}, "b": b"1"}] * len(POOL)}, features=features)
    with pytest.raises(ValueError, match=r"pool cannot be saved as Parquet: .*x \(struct<.*remove_columns"):
        Selector(Asleep()).select(bytes_rows, [{"prompt": "an apple"}], 3)
    with pytest.raises(ValueError, match=r"targets cannot be saved as Parquet"):
        Selector(Asleep()).select(POOL, bytes_rows, 3)
    for column in ("itl_variance_left", "pool_index", "itl_gain"):
        with pytest.raises(ValueError, match=f"pool already has the columns .*{column}"):
            Selector(Asleep()).select([{**row, column: 1} for row in POOL], [{"prompt": "an apple"}], 3)
    with pytest.raises(ValueError, match="placeholders of prompts that were not published"):
        Selector(Asleep()).select(POOL, [{"prompt": "target 0", "itl_withheld": True}], 3)


def test_a_store_that_cannot_be_a_folder_is_refused_before_the_model_runs(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError, match="is a file, not a folder"):
        Selector(Lengths(), store=tmp_path / "file").select(POOL, [{"prompt": "an apple"}], 3)
