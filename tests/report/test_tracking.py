"""A selection in experiment trackers: in TensorBoard's files, and in what accelerate's other trackers get."""

from __future__ import annotations

import json
import sqlite3

import numpy as np
import pytest

from itl_hf import log_selection
from itl_hf.report import tracking
from tests.training import tiny


@pytest.fixture(scope="module")
def selection():
    return tiny.select(tiny.pool(text=True), 6)


class Tracker:
    """A tracker of accelerate's interface that keeps what it gets."""

    name = "fake"
    requires_logging_directory = True
    runs = []  # noqa: RUF012

    def __init__(self, run_name, logging_dir, **options):
        self.run_name, self.logging_dir, self.options = run_name, logging_dir, options
        self.entries, self.tables, self.is_finished = [], [], False
        Tracker.runs.append(self)

    def store_init_configuration(self, values):
        self.configuration = values

    def log(self, values, step=None):
        self.entries.append((step, values))

    def finish(self):
        self.is_finished = True


@pytest.fixture
def registered(monkeypatch):
    from accelerate import tracking as accelerate_tracking

    monkeypatch.setitem(accelerate_tracking.LOGGER_TYPE_TO_CLASS, "fake", Tracker)
    monkeypatch.setattr(accelerate_tracking, "get_available_trackers", lambda: ["fake"])
    Tracker.runs.clear()


def test_record_curve_and_table_are_logged(selection, registered, tmp_path):
    log_selection(selection, "fake", run_name="mine", logging_dir=tmp_path, tracker_options={"fake": {"entity": "me"}})
    (run,) = Tracker.runs
    assert (run.run_name, run.logging_dir, run.options) == ("mine", str(tmp_path), {"entity": "me"})
    assert run.configuration["itl/noise_std"] == selection.record.noise_std
    assert run.configuration["itl/picks"] == 6
    assert run.configuration["itl/embedder/layer"] == selection.record.embedder["layer"]
    assert all(isinstance(value, bool | int | float | str) for value in run.configuration.values())
    steps = [(step, values) for step, values in run.entries if step is not None]
    assert [step for step, _ in steps] == list(range(7))
    np.testing.assert_allclose([values["itl/gain"] for _, values in steps[1:]], selection.gains)
    np.testing.assert_allclose(
        [values["itl/target_variance"] for _, values in steps], selection.target_variance.mean(1)
    )
    assert steps[-1][1]["itl/total"] == pytest.approx(selection.gains.sum())
    (text,) = [values["itl/picks"] for step, values in run.entries if step is None]
    assert len(text.splitlines()) == 8
    assert "row" not in text.split("\n", 2)[2]  # no text of the rows
    assert run.is_finished


def test_text_is_logged_when_asked_for_and_escaped(selection, registered, tmp_path, monkeypatch):
    monkeypatch.setattr(
        Tracker, "log_table", lambda self, name, columns, data: self.tables.append((columns, data)), raising=False
    )
    log_selection(selection, ["fake"], logging_dir=tmp_path, max_rows=2, include_text=True)
    ((columns, rows),) = Tracker.runs[0].tables
    assert columns[-1] == "prompt"
    assert [row[-1] for row in rows] == selection.dataset["prompt"][:2]
    assert [row[:2] for row in rows] == [[1, selection.indices[0]], [2, selection.indices[1]]]
    cell = tracking.markdown_table(["x"], [["<script>|`a`\n![x](y)"]]).splitlines()[-1]
    assert not set("<`![") & set(cell)


def test_trackers_that_are_not_there_are_refused(monkeypatch):
    from accelerate import tracking as accelerate_tracking

    monkeypatch.setattr(accelerate_tracking, "get_available_trackers", lambda: [])
    with pytest.raises(ValueError, match=r"accelerate has no tracker 'tensorbord'; it has .*tensorboard"):
        tracking.check_trackers("tensorbord")
    with pytest.raises(ValueError, match="wandb is not installed: pip install wandb"):
        tracking.check_trackers("none, wandb")
    assert tracking.check_trackers(["none"]) == []


def test_tensorboard_holds_them(selection, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log_selection(selection, "tensorboard", run_name="run", logging_dir=tmp_path)
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    gains = events.Scalars("itl/gain")
    assert [event.step for event in gains] == list(range(1, 7))
    np.testing.assert_allclose([event.value for event in gains], selection.gains, rtol=1e-5)
    (text,) = events.Tensors("itl/picks/text_summary")
    assert text.tensor_proto.string_val[0].decode().count("\n") == 7
    (settings,) = tmp_path.glob("run/*/hparams.yml")
    assert f"itl/noise_std: {selection.record.noise_std}" in settings.read_text()


def test_wandb_holds_them(selection, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    log_selection(selection, "wandb", run_name="run", logging_dir=tmp_path)
    (path,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    data, start, gains, settings = path.read_bytes(), 7, [], {}
    while start < len(data):  # each record: checksum, length and type in 7 bytes, then the message
        length = int.from_bytes(data[start + 4 : start + 6], "little")
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data[start + 7 : start + 7 + length])
        start += 7 + length
        for update in (*record.run.config.update, *record.config.update):
            settings[update.key] = update.value_json
        values = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
        gains += [float(values["itl/gain"])] if "itl/gain" in values else []
    np.testing.assert_allclose(gains, selection.gains)
    assert float(settings["itl/noise_std"]) == selection.record.noise_std
    (table,) = tmp_path.glob("wandb/offline-run-*/files/media/table/itl/picks*.table.json")
    assert len(json.loads(table.read_text())["data"]) == 6


def test_mlflow_holds_them(selection, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tmp_path.as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    log_selection(selection, "mlflow", run_name="run")
    client = mlflow.MlflowClient(tmp_path.as_uri())
    (experiment,) = client.search_experiments(filter_string="name = 'run'")
    (run,) = client.search_runs([experiment.experiment_id])
    gains = client.get_metric_history(run.info.run_id, "itl/gain")
    np.testing.assert_allclose([one.value for one in gains], selection.gains)
    assert run.data.params["itl/noise_std"] == str(selection.record.noise_std)
    (table,) = tmp_path.glob("*/*/artifacts/itl/picks.md")
    assert table.read_text().count("\n") == 7
    assert run.info.status == "FINISHED"


def test_trackio_holds_them(selection, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    pytest.importorskip("trackio")
    log_selection(selection, "trackio", run_name="run")
    with sqlite3.connect(tmp_path / "run.db") as connection:
        entries = [json.loads(text) for (text,) in connection.execute("select metrics from metrics order by id")]
        (settings,) = (json.loads(text) for (text,) in connection.execute("select config from configs"))
    np.testing.assert_allclose([entry["itl/gain"] for entry in entries if "itl/gain" in entry], selection.gains)
    assert settings["itl/noise_std"] == selection.record.noise_std
    assert sum("itl/picks" in entry for entry in entries) == 1
