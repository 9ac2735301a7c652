"""A selection in experiment trackers: in TensorBoard's files, and in what accelerate's other trackers get."""

from __future__ import annotations

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
