"""The components of the page and what their events do. What they show is made in `view`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from itl_hf.report.explorer import drawing
from itl_hf.report.explorer.column_colors import colored_columns
from itl_hf.report.explorer.export import write_files
from itl_hf.report.explorer.reselect import weighs_targets
from itl_hf.report.explorer.row_table import group_column, group_names
from itl_hf.report.explorer.row_text import pool_rows, tooltip
from itl_hf.report.explorer.session import (
    WEIGHTS,
    Filters,
    Session,
    apply_action,
    choose_target,
    reselect,
    set_filters,
    weigh_target,
    weight_before,
)
from itl_hf.report.explorer.view import View, summary, target_names, view
from itl_hf.report.text import visible

if TYPE_CHECKING:
    from itl_hf.report.explorer.explorer_data import ExplorerData

State = tuple[Session, View]

STATIC = Path(__file__).parent / "static"
#: Labels of the ways to colour the map, by `Session.mode`. A column is chosen by its name after this prefix.
MODES = {"rank": "rank of the pick", "other": "comparison with {}", "before": "comparison with the first selection"}
COLUMN_PREFIX = "column:"
#: Parts of the view that are panels of HTML, in the order of the outputs.
PANELS = ("card", "target", "picks", "hits", "dropped_rows", "comparison")


class Components:
    """The components of the page and their event handlers."""

    def __init__(self, data: ExplorerData, folder: Path) -> None:
        self.data, self.folder = data, folder
        self.first_view = view(data, Session())
        self.columns = colored_columns(data)
        self.weighs_targets = weighs_targets(data)

    def lay_out(self) -> None:
        """Creates the components, then connects their events."""
        # The state holds the view too, so that only the parts that a click changes are sent.
        self.session = gr.State((Session(), self.first_view))
        gr.HTML(summary(self.data))
        with gr.Row(elem_id="itl-columns"):
            with gr.Column(scale=3, min_width=320, elem_id="itl-main"):
                self._map()
                with gr.Tab("Picks"):
                    self._picks()
                with gr.Tab("Compare"):
                    self.comparison = self._panel(self.first_view.comparison)
                with gr.Tab("Export"):
                    self._export()
            # Stays in sight while the list is scrolled; on a phone the card is a sheet at the lower edge.
            with gr.Column(scale=2, min_width=320, elem_id="itl-side"):
                self.card = self._panel(self.first_view.card, "itl-card")
                self._target()
        self._connect()

    def _map(self) -> None:
        last = len(self.data.selection)
        self.map = gr.HTML(
            html_template=static_file("map.html"),
            js_on_load="\n".join(static_file(name) for name in ("density.js", "nearest.js", "map.js")),
            points=drawing.dumps(drawing.points(self.data)),
            marks=self.first_view.marks,
            colors=self.first_view.colors,
            hover="null",
            elem_id="itl-map",
            apply_default_css=False,
        )
        with gr.Row(elem_id="itl-map-controls"):
            self.rank = gr.Slider(
                0, last, last, step=1, label="Picks on the map: ranks 1 to", elem_id="itl-rank", min_width=200
            )
            self.mode = gr.Dropdown(
                self._modes(Session()), value="rank", label="Colour by", elem_id="itl-mode", min_width=200
            )

    def _target(self) -> None:
        names = target_names(self.data)
        choices = [(name, number) for number, name in enumerate(names)]
        self.target = gr.Dropdown(
            [("all targets", -1), *choices], value=-1, label="Target", filterable=True, elem_id="itl-target"
        )
        self.curve = gr.HTML(
            html_template=static_file("curve.html"),
            js_on_load=static_file("curve.js"),
            curve=self.first_view.curve,
            elem_id="itl-curve",
            apply_default_css=False,
        )
        self.weight = gr.Slider(
            *WEIGHTS,
            1,
            step=0.25,
            label="Weight of this target in a new selection",
            visible=False,
            elem_id="itl-weight",
        )
        self.about_target = self._panel(self.first_view.target, "itl-about-target")

    def _picks(self) -> None:
        selection = self.data.selection
        column, names = group_column(selection), group_names(selection)
        searched = "in picks and pool" if self.data.pool is not None else "in picks"
        with gr.Row(elem_id="itl-filters"):
            self.text = gr.Textbox(
                label="Text contains", placeholder=f"any text {searched}", elem_id="itl-text", min_width=200
            )
            self.groups = gr.Dropdown(
                [(visible(name), name) for name in names],
                multiselect=True,
                label=visible(column) if column else "Source",
                visible=column is not None,
                min_width=200,
                elem_id="itl-groups",
            )
            self.gain = gr.Slider(0, 100, 0, step=1, label="Minimum gain (% of the largest)", min_width=200)
        with gr.Accordion("Drop rows and select again", open=False, elem_id="itl-again-box") as self.again:
            self.dropped_rows = self._panel(self.first_view.dropped_rows, "itl-dropped")
            with gr.Row(visible=not self.data.obstacle):
                self.count = gr.Number(
                    len(selection), label="Number of rows to pick", precision=0, minimum=1, scale=0, min_width=220
                )
                self.reselect_button = gr.Button("Select again", elem_id="itl-again", scale=0, min_width=200)
        self.picks = self._panel(self.first_view.picks, "itl-picks")
        self.hits = self._panel(self.first_view.hits, "itl-hits")

    def _export(self) -> None:
        gr.HTML(
            '<p class="itl-note">Exports the picks that pass the filters and are not dropped as JSONL and Parquet, '
            "and the whole selection as a zipped folder.</p>"
        )
        with gr.Row():
            self.export_button = gr.Button("Export files", elem_id="itl-export", scale=0, min_width=200)
        self.export_note = gr.HTML("", elem_id="itl-written")
        self.files = gr.File(
            label="Files", file_count="multiple", interactive=False, visible=False, elem_id="itl-files"
        )

    def _panel(self, html: str, elem_id: str | None = None) -> gr.HTML:
        return gr.HTML(html, js_on_load=static_file("panel.js"), elem_id=elem_id, apply_default_css=False)

    def _connect(self) -> None:
        panels = (self.map, self.card, self.about_target, self.picks, self.hits, self.dropped_rows, self.comparison)
        for panel in panels:
            self._on(panel.action, self._apply_action, "multiple")
        # `input` is triggered by the visitor only; `change` also when the page itself sets the value.
        self._on(self.target.input, self._handler(self._choose), "always_last", self.target)
        self._on(self.mode.input, self._handler(self._recolor), "always_last", self.mode)
        self._on(self.weight.input, self._handler(self._weigh), "always_last", self.weight)
        for filter_input in (self.text, self.groups, self.gain):
            self._on(filter_input.change, self._handler(self._filter), "always_last", self.text, self.groups, self.gain)
        self._on(self.reselect_button.click, self._handler(self._reselect), "once", self.count)
        # Runs in the browser alone, so that moving the slider does not wait for the server.
        self.rank.change(None, [self.rank], js=static_file("rank.js"), api_visibility="private")
        # Texts of the pool are sent when the pointer rests on a point: all of them would be many megabytes.
        self.map.hover(
            self._hover, None, self.map, trigger_mode="always_last", show_progress="hidden", api_visibility="private"
        )
        self.export_button.click(
            self._export_files, [self.session], [self.export_note, self.files], api_visibility="private"
        )

    def _on(
        self, event: Callable[..., Any], handler: Callable[..., list[Any]], trigger_mode: str, *inputs: Any
    ) -> None:
        outputs = [self.session, self.map, self.curve, self.card, self.about_target, self.picks, self.hits]
        outputs += [self.dropped_rows, self.comparison, self.target, self.mode, self.rank]
        outputs += [self.weight, self.again, self.reselect_button]
        # Handlers run one after another, since each needs the session that the one before returned.
        event(
            handler,
            [self.session, *inputs],
            outputs,
            trigger_mode=trigger_mode,
            concurrency_id="itl",
            concurrency_limit=1,
            show_progress="minimal" if trigger_mode == "once" else "hidden",
            api_visibility="private",
        )

    def _apply_action(self, state: State, event: gr.EventData) -> list[Any]:
        return self._output_values(apply_action(self.data, state[0], getattr(event, "_data", None) or {}), state)

    def _handler(self, change_session: Callable[..., Session]) -> Callable[..., list[Any]]:
        def handle(state: State, *values: Any) -> list[Any]:
            return self._output_values(change_session(state[0], *values), state)

        return handle

    def _output_values(self, session: Session, state: State) -> list[Any]:
        """Values for all outputs; parts that have not changed are not sent."""
        old_session, old_view = state
        new_view = view(self.data, session)
        changes = {field: new for field, new in vars(new_view).items() if new != getattr(old_view, field)}
        map_changes = {name: changes.pop(name) for name in ("marks", "colors") if name in changes}
        curve = changes.pop("curve", None)
        return [
            (session, new_view),
            gr.update(**map_changes) if map_changes else gr.skip(),
            gr.skip() if curve is None else gr.update(curve=curve),
            *(changes.get(name, gr.skip()) for name in PANELS),
            gr.update(value=-1 if session.target is None else session.target),
            self._update_modes(session),
            self._update_ranks(session, old_session),
            self._update_weight(session, old_session),
            *self._update_reselect(session, old_session),
        ]

    def _modes(self, session: Session) -> list[tuple[str, str]]:
        """The ways to colour the map, as labels and values."""
        modes = ["rank", "other"] if self.data.other is not None else ["rank"]
        modes += ["before"] if session.new_selection is not None else []
        columns = [(label, COLUMN_PREFIX + name) for label, name in self.columns]
        return [(MODES[mode].format(visible(self.data.other_name)), mode) for mode in modes] + columns

    def _update_modes(self, session: Session) -> Any:
        value = COLUMN_PREFIX + session.column if session.mode == "column" else session.mode
        return gr.update(choices=self._modes(session), value=value)

    def _update_ranks(self, session: Session, old_session: Session) -> Any:
        if session.new_selection is old_session.new_selection:
            return gr.skip()
        count = len(session.current_selection(self.data))
        return gr.update(maximum=count, value=count)

    def _update_weight(self, session: Session, old_session: Session) -> Any:
        if session.target == old_session.target:
            return gr.skip()
        if session.target is None or not self.weighs_targets:
            return gr.update(visible=False)
        weight = session.weights.get(session.target, weight_before(self.data, session.target))
        return gr.update(visible=True, value=weight)

    def _update_reselect(self, session: Session, old_session: Session) -> tuple[Any, Any]:
        """Opens the box once there is something to select again for, and only then colours its button."""
        if session.is_pending == old_session.is_pending:
            return gr.skip(), gr.skip()
        button = gr.update(variant="primary" if session.is_pending else "secondary")
        return gr.update(open=True) if session.is_pending else gr.skip(), button

    def _hover(self, event: gr.EventData) -> Any:
        """The text of the row of the pool under the pointer; its number comes from a browser."""
        number = (getattr(event, "_data", None) or {}).get("number")
        text_rows = self.data.text_rows
        if text_rows is None or isinstance(number, bool) or not isinstance(number, int):
            return gr.skip()
        if not 0 <= number < self.data.selection.pool_size:
            return gr.skip()
        prompt, completion = pool_rows(text_rows, [number])[0]
        text = visible(f"row {number:,} of the pool: {tooltip(prompt or completion)}")
        return gr.update(hover=drawing.dumps({"number": number, "text": text}))

    def _choose(self, session: Session, number: Any) -> Session:
        return choose_target(self.data, session, number if isinstance(number, int) else None)

    def _recolor(self, session: Session, mode: Any) -> Session:
        point = session.point if session.point is None or session.point[0] != "other" else None
        column = str(mode).removeprefix(COLUMN_PREFIX)
        if column != mode and column in (name for _, name in self.columns):
            return replace(session, mode="column", column=column, point=point)
        return replace(session, mode=mode if mode in MODES else "rank", point=point)

    def _weigh(self, session: Session, weight: Any) -> Session:
        return weigh_target(self.data, session, float(weight)) if isinstance(weight, int | float) else session

    def _filter(self, session: Session, text: Any, groups: Any, gain: Any) -> Session:
        return set_filters(session, Filters(str(text or ""), tuple(map(str, groups or ())), float(gain or 0) / 100))

    def _reselect(self, session: Session, count: Any) -> Session:
        return reselect(self.data, session, int(count) if count else None)

    def _export_files(self, state: State) -> tuple[str, Any]:
        files, message = write_files(self.data, state[0], self.folder)
        note = f'<p class="itl-note" role="status">{message}</p>'
        return note, gr.update(value=[str(file) for file in files] or None, visible=bool(files))


def static_file(name: str) -> str:
    """The text of a file of the front end."""
    return (STATIC / name).read_text(encoding="utf-8")
