"""The page: which components there are, and which click changes what. What they show is made in `view`.

Nothing is loaded from another machine: Gradio brings its own front end, fonts are the system's, analytics are off. Text
from the data goes into the page through escaping templates, into choices as plain text, and onto the canvas as text.
"""

from __future__ import annotations

import logging
import os
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from itl_hf.report.explorer import drawing
from itl_hf.report.explorer.export import write_files
from itl_hf.report.explorer.row_table import group_column, group_names
from itl_hf.report.explorer.session import Filters, Session, act, choose_target, reselect, set_filters
from itl_hf.report.explorer.view import View, summary, target_names, view
from itl_hf.report.text import visible

if TYPE_CHECKING:
    from itl_hf.report.explorer.explorer_data import ExplorerData

State = tuple[Session, View]

_STATIC = Path(__file__).parent / "static"
#: How the map colours its picks, in words; keys are `Session.mode`.
MODES = {"rank": "by rank", "other": "compared with {}", "before": "what dropping changed"}


def build(explored: ExplorerData, folder: Path) -> Any:
    """The page, ready to be launched.

    Args:
        explored (`ExplorerData`):
            What it shows, see `gather`.
        folder (`Path`):
            Where exported files go.

    Returns:
        `gradio.Blocks`

    Example:
        >>> build(gather(Selection.load("selected")), Path("/tmp")).launch()  # doctest: +SKIP
    """
    with gr.Blocks(title="itl_hf: explore a selection", analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        _Page(explored, folder).lay_out()
    return page


def serve(explored: ExplorerData, *, host: str = "127.0.0.1", port: int | None = None, **options: Any) -> Any:
    """Starts serving the page and returns at once; it is served until `.close()` or the end of the process.

    Args:
        explored (`ExplorerData`):
            What to show, see `gather`.
        host (`str`, *optional*, defaults to `"127.0.0.1"`):
            This machine only; `"0.0.0.0"` lets others in, without any password.
        port (`int`, *optional*):
            A free one from 7860 on if left out.
        **options:
            Passed on to `gradio.Blocks.launch`, for example `inbrowser=True`.

    Returns:
        `gradio.Blocks`: `.local_url` is its address; `.block_thread()` waits for Ctrl-C.

    Raises:
        `OSError`: The port is taken.

    Example:
        >>> serve(gather(Selection.load("selected"))).block_thread()  # doctest: +SKIP
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    # Its client logs every request of the server to itself.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    folder = tempfile.TemporaryDirectory(prefix="itl-hf-explorer-")
    page = build(explored, Path(folder.name))
    weakref.finalize(page, folder.cleanup)
    launch = {"server_name": host, "server_port": port, "share": False, "ssr_mode": False, "quiet": True}
    # Without Gradio's call to itself, which gives up after 3 seconds on a busy machine, or behind a proxy.
    launch["_frontend"] = False
    page.launch(prevent_thread_lock=True, **launch | look() | options)
    return page


def look() -> dict[str, Any]:
    """Arguments of `launch` for theme and style: system fonts, since others would be fetched."""
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    theme = gr.themes.Default(
        primary_hue="blue", font=fonts, font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"]
    )
    return {"theme": theme, "css_paths": _STATIC / "style.css", "footer_links": []}


class _Page:
    """Components and what connects them."""

    def __init__(self, explored: ExplorerData, folder: Path) -> None:
        self.explored, self.folder = explored, folder
        self.first = view(explored, Session())

    def lay_out(self) -> None:
        """Makes components, then connects them."""
        # With what the page shows, so that a click sends only what it changes.
        self.session = gr.State((Session(), self.first))
        gr.HTML(summary(self.explored))
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                self._map()
            with gr.Column(scale=2, min_width=320):
                self.card = self._panel(self.first.card, "itl-card")
                self._target()
        with gr.Tab("Picks"):
            self._picks()
        with gr.Tab("Compare"):
            self.compared = self._panel(self.first.compared)
        with gr.Tab("Export"):
            self._export()
        self._connect()

    def _map(self) -> None:
        explored, last = self.explored, len(self.explored.selection)
        self.map = gr.HTML(
            html_template=_static("map.html"),
            js_on_load=_static("map.js"),
            points=drawing.dumps(drawing.points(explored)),
            marks=self.first.marks,
            elem_id="itl-map",
            apply_default_css=False,
        )
        self.rank = gr.Slider(0, last, last, step=1, label="Picks on the map: the first", elem_id="itl-rank")
        modes = [(MODES["rank"], "rank")]
        if explored.other is not None:
            modes.append((MODES["other"].format(visible(explored.other_name)), "other"))
        self.mode = gr.Radio(modes, value="rank", label="Colour the picks", visible=len(modes) > 1, elem_id="itl-mode")

    def _target(self) -> None:
        names = target_names(self.explored)
        choices = [(name, number) for number, name in enumerate(names)]
        self.target = gr.Dropdown(
            [("all targets", -1), *choices], value=-1, label="Target", filterable=True, elem_id="itl-target"
        )
        self.curve = gr.HTML(
            html_template=_static("curve.html"),
            js_on_load=_static("curve.js"),
            curve=self.first.curve,
            elem_id="itl-curve",
            apply_default_css=False,
        )
        self.about_target = self._panel(self.first.target, "itl-about-target")

    def _picks(self) -> None:
        selection = self.explored.selection
        column, names = group_column(selection), group_names(selection)
        with gr.Row():
            self.text = gr.Textbox(label="Text contains", placeholder="any text", elem_id="itl-text", min_width=200)
            self.groups = gr.Dropdown(
                [(visible(name), name) for name in names],
                multiselect=True,
                label=visible(column) if column else "Source",
                visible=column is not None,
                min_width=200,
                elem_id="itl-groups",
            )
            self.gain = gr.Slider(0, 100, 0, step=1, label="Gain at least (% of the largest)", min_width=200)
        self.dropped = self._panel(self.first.dropped, "itl-dropped")
        can = not self.explored.obstacle
        with gr.Row(equal_height=True, visible=can):
            self.count = gr.Number(len(selection), label="Rows to pick", precision=0, minimum=1, scale=0, min_width=150)
            self.again = gr.Button(
                "Select again without the dropped rows", variant="primary", elem_id="itl-again", scale=0, min_width=300
            )
        self.picks = self._panel(self.first.picks, "itl-picks")

    def _export(self) -> None:
        gr.HTML(
            '<p class="itl-note">The picks on show that pass the filters and are not dropped, as JSONL and Parquet; '
            "and the whole selection as a folder.</p>"
        )
        with gr.Row():
            self.write = gr.Button("Make the files", elem_id="itl-export", scale=0, min_width=200)
        self.written = gr.HTML("", elem_id="itl-written")
        self.files = gr.File(
            label="Files", file_count="multiple", interactive=False, visible=False, elem_id="itl-files"
        )

    def _panel(self, html: str, name: str | None = None) -> gr.HTML:
        return gr.HTML(html, js_on_load=_static("panel.js"), elem_id=name, apply_default_css=False)

    def _connect(self) -> None:
        for panel in (self.map, self.card, self.about_target, self.picks, self.dropped, self.compared):
            self._on(panel.wish, self._granted, "multiple")
        # `input` is a person's doing; `change` would also fire where the page itself sets the value.
        self._on(self.target.input, self._shows(self._choose), "always_last", self.target)
        self._on(self.mode.input, self._shows(self._recolour), "always_last", self.mode)
        for one in (self.text, self.groups, self.gain):
            self._on(one.change, self._shows(self._filter), "always_last", self.text, self.groups, self.gain)
        self._on(self.again.click, self._shows(self._reselect), "once", self.count)
        # In the browser alone: no number typed or dragged waits for the server.
        self.rank.change(None, [self.rank], js=_static("rank.js"), api_visibility="private")
        self.write.click(self._written, [self.session], [self.written, self.files], api_visibility="private")

    def _on(self, event: Callable[..., Any], handle: Callable[..., list[Any]], mode: str, *inputs: Any) -> None:
        outputs = [self.session, self.map, self.curve, self.card, self.about_target, self.picks, self.dropped]
        outputs += [self.compared, self.target, self.mode, self.rank]
        # One after another: each reads the session that the one before left.
        event(
            handle,
            [self.session, *inputs],
            outputs,
            trigger_mode=mode,
            concurrency_id="itl",
            concurrency_limit=1,
            show_progress="minimal" if mode == "once" else "hidden",
            api_visibility="private",
        )

    def _granted(self, state: State, event: gr.EventData) -> list[Any]:
        return self._show(act(self.explored, state[0], getattr(event, "_data", None) or {}), state)

    def _shows(self, handler: Callable[..., Session]) -> Callable[..., list[Any]]:
        def handle(state: State, *values: Any) -> list[Any]:
            return self._show(handler(state[0], *values), state)

        return handle

    def _show(self, session: Session, state: State) -> list[Any]:
        """Values for all outputs; what stays as it is is not sent."""
        before, old = state
        new = view(self.explored, session)
        _, _, *panels = [
            part if part != was else gr.skip() for part, was in zip(astuple(new), astuple(old), strict=True)
        ]
        return [
            (session, new),
            gr.update(marks=new.marks) if new.marks != old.marks else gr.skip(),
            gr.update(curve=new.curve) if new.curve != old.curve else gr.skip(),
            *panels,
            gr.update(value=-1 if session.target is None else session.target),
            self._modes(session),
            self._ranks(session, before),
        ]

    def _modes(self, session: Session) -> Any:
        wanted = ["rank", "other"] if self.explored.other is not None else ["rank"]
        wanted += ["before"] if session.again is not None else []
        choices = [(MODES[mode].format(visible(self.explored.other_name)), mode) for mode in wanted]
        return gr.update(choices=choices, value=session.mode, visible=len(choices) > 1)

    def _ranks(self, session: Session, before: Session) -> Any:
        if session.again is before.again:
            return gr.skip()
        count = len(session.now(self.explored))
        return gr.update(maximum=count, value=count)

    def _choose(self, session: Session, number: Any) -> Session:
        return choose_target(self.explored, session, number if isinstance(number, int) else None)

    def _recolour(self, session: Session, mode: Any) -> Session:
        kept = session.point if session.point is None or session.point[0] != "other" else None
        return replace(session, mode=mode if mode in MODES else "rank", point=kept)

    def _filter(self, session: Session, text: Any, groups: Any, gain: Any) -> Session:
        return set_filters(session, Filters(str(text or ""), tuple(map(str, groups or ())), float(gain or 0) / 100))

    def _reselect(self, session: Session, count: Any) -> Session:
        return reselect(self.explored, session, int(count) if count else None)

    def _written(self, state: State) -> tuple[str, Any]:
        files, words = write_files(self.explored, state[0], self.folder)
        note = f'<p class="itl-note" role="status">{words}</p>'
        return note, gr.update(value=[str(file) for file in files] or None, visible=bool(files))


def _static(name: str) -> str:
    return (_STATIC / name).read_text(encoding="utf-8")
