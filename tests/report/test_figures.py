"""The contents of the figures, read from their matplotlib artists."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from itl_hf.report.figures import MAX_LINES, gain_figure, map_figure, variance_figure, variance_left
from itl_hf.report.gains import GAINS, gain_name
from tests.report.standin import selection


@pytest.mark.parametrize("narrow", [False, True])
def test_the_map_draws_every_point_and_labels_its_parts(narrow: bool) -> None:
    stand_in = selection(picks=7, targets=3, pool=40)
    axes = map_figure(stand_in.layout, narrow=narrow).axes[0]
    offsets = [np.asarray(points.get_offsets()) for points in axes.collections]
    for expected in (stand_in.layout.pool, stand_in.layout.picks, stand_in.layout.targets):
        assert any(points.shape == expected.shape and np.allclose(points, expected) for points in offsets)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["pool: 40", "targets: 3", "picks: 7"]
    # Picks are drawn last, over the crosses of the targets, and the axes have no values.
    assert np.allclose(np.asarray(axes.collections[-1].get_offsets()), stand_in.layout.picks)
    for axis in (axes.xaxis, axes.yaxis):
        assert not any(tick.label1.get_visible() for tick in axis.get_major_ticks())
    assert "40% of variance" in axes.get_xlabel()
    assert "10% of variance" in axes.get_ylabel()


def test_the_maps_picks_are_coloured_by_rank() -> None:
    axes = map_figure(selection(picks=7).layout).axes[0]
    colours = [points.get_array() for points in axes.collections if points.get_array() is not None]
    assert len(colours) == 1
    assert list(colours[0]) == [1, 2, 3, 4, 5, 6, 7]


def test_the_legend_of_the_map_says_if_it_draws_a_sample() -> None:
    axes = map_figure(selection(pool=40).layout, pool_size=1_000_000).axes[0]
    assert axes.get_legend().get_texts()[0].get_text() == "pool: 1,000,000 (40 drawn)"


def test_variance_is_a_share_of_each_targets_own_prior() -> None:
    left = variance_left(np.array([[4.0, 1.0, 0.0], [1.0, 0.5, 0.0]]))
    assert left.tolist() == [[1.0, 1.0, 0.0], [0.25, 0.5, 0.0]]


def test_few_targets_have_one_line_each_and_the_mean() -> None:
    variance = np.array([[2.0, 1.0], [1.0, 0.25]])
    lines = variance_figure(variance).axes[0].get_lines()
    assert [list(line.get_ydata()) for line in lines] == [[1.0, 0.5], [1.0, 0.25], [1.0, 0.375]]


def test_the_axes_of_a_umap_map_have_no_shares() -> None:
    layout = selection().layout
    layout.method = "umap"
    axes = map_figure(layout).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("UMAP 1", "UMAP 2")


def test_the_floor_is_drawn_on_average_and_at_each_target() -> None:
    axes = variance_figure(np.array([[2.0, 1.0], [1.0, 0.5]]), np.array([0.5, 0.75])).axes[0]
    assert list(axes.get_lines()[-1].get_ydata()) == [0.5, 0.5]  # mean of 0.25 and 0.75
    ticks = [segment[0, 1] for segment in axes.collections[-1].get_segments()]
    assert ticks == [0.25, 0.75]


def test_many_targets_are_drawn_as_percentiles() -> None:
    axes = variance_figure(np.ones((4, MAX_LINES + 1))).axes[0]
    assert len(axes.get_lines()) == 1
    assert len(axes.collections) == 1
    assert "percentile" in axes.get_legend().get_texts()[0].get_text()


def test_gains_are_drawn_from_zero_in_the_order_picked() -> None:
    axes = gain_figure(np.array([3.0, 1.0, 2.0])).axes[0]
    assert list(axes.get_lines()[0].get_ydata()) == [3.0, 1.0, 2.0]
    assert axes.get_ylim()[0] == 0
    assert "nats" in axes.get_ylabel()


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("name", ["itl", *GAINS])
def test_the_label_of_the_gains_fits_the_figure(name: str, narrow: bool) -> None:
    record = dataclasses.replace(selection().record, acquisition_name=name)
    figure = gain_figure(np.array([3.0, 1.0]), label=gain_name(record), narrow=narrow)
    figure.canvas.draw()
    extent = figure.axes[0].yaxis.label.get_window_extent()
    assert extent.y0 >= 0
    assert extent.y1 <= figure.bbox.height


@pytest.mark.parametrize("narrow", [False, True])
def test_figures_can_be_drawn_for_one_pick_one_target_and_one_row(narrow: bool) -> None:
    stand_in = selection(picks=1, targets=1, pool=1)
    for figure in (
        map_figure(stand_in.layout, narrow=narrow),
        variance_figure(stand_in.target_variance, narrow=narrow),
        gain_figure(stand_in.gains, narrow=narrow),
    ):
        figure.canvas.draw()


def test_pyplot_is_never_imported() -> None:
    code = (
        "import sys; from tests.report.standin import selection; from itl_hf.report import map_figure; "
        "map_figure(selection().layout); sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
