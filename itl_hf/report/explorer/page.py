"""Builds the page from Gradio components and connects its events. What the components show is made in `view`.

Nothing is loaded from another machine: Gradio includes its own front end, the fonts are system fonts, and analytics are
off. Text from the data is put into HTML by templates that escape it, into menus as plain text and onto the canvas as
text.
"""

from __future__ import annotations

import logging
import os
import weakref
import webbrowser
from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from starlette.middleware import Middleware

from itl_hf.report.explorer import drawing
from itl_hf.report.explorer.address import check_address
from itl_hf.report.explorer.export import write_files
from itl_hf.report.explorer.guard import Access, Guard
from itl_hf.report.explorer.private_folder import PrivateFolder
from itl_hf.report.explorer.row_table import group_column, group_names
from itl_hf.report.explorer.session import Filters, Session, apply_action, choose_target, reselect, set_filters
from itl_hf.report.explorer.view import View, summary, target_names, view
from itl_hf.report.text import visible

if TYPE_CHECKING:
    from itl_hf.report.explorer.explorer_data import ExplorerData

State = tuple[Session, View]

_STATIC = Path(__file__).parent / "static"
#: Labels of the ways to colour the picks on the map, by `Session.mode`.
MODES = {"rank": "by rank", "other": "compared with {}", "before": "compared with the first selection"}


def build(data: ExplorerData, folder: Path) -> Any:
    """Builds the page, ready to be launched.

    Args:
        data (`ExplorerData`):
            What the page shows, from `gather`.
        folder (`Path`):
            Folder for exported files.

    Returns:
        `gradio.Blocks`: The page.

    Example:
        >>> build(gather(Selection.load("selected")), Path("/tmp")).launch()  # doctest: +SKIP
    """
    with gr.Blocks(title="itl_hf: explore a selection", analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        _Page(data, folder).lay_out()
    return page


def serve(
    data: ExplorerData,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    public: bool = False,
    inbrowser: bool = False,
    **options: Any,
) -> Any:
    """Starts a server for the page and returns immediately. It runs until `.close()` or the end of the process.

    Only the address that is returned opens the page: it holds a random token, as in Jupyter. Requests of other web
    pages and uploads are refused. Exported files are in a folder that only you can read; it is deleted at the end.

    Args:
        data (`ExplorerData`):
            What the page shows, from `gather`.
        host (`str`, *optional*, defaults to `"127.0.0.1"`):
            Address to serve on. The default can be reached from this machine only; with `"0.0.0.0"`, other machines can
            open the page as well, if they have the token. The connection is not encrypted.
        port (`int`, *optional*):
            Port to serve on; by default the first free one from 7860 on.
        public (`bool`, *optional*, defaults to `False`):
            Whether everybody may open the page without a token, as in a Space.
        inbrowser (`bool`, *optional*, defaults to `False`):
            Whether to open the page in a browser.
        **options:
            Further arguments of `gradio.Blocks.launch`.

    Returns:
        `gradio.Blocks`: The page. `.local_url` is its address with the token; `.block_thread()` waits for Ctrl-C.

    Raises:
        `ValueError`: If the port is out of range, or the host is not this machine.
        `OSError`: If the port is in use.

    Example:
        >>> serve(gather(Selection.load("selected"))).block_thread()  # doctest: +SKIP
    """
    check_address(host, port)
    access = Access(host, token="") if public else Access(host)  # nosec B106
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    # Gradio sends requests to its own server through httpx, which would log each of them.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    folder = PrivateFolder()
    # Gradio copies files that are downloaded into its own folder, which other users of the machine can read.
    os.environ["GRADIO_TEMP_DIR"] = str(folder.path)
    page = build(data, folder.path)
    weakref.finalize(page, folder.delete)
    launch: dict[str, Any] = {"server_name": host, "server_port": port, "share": False, "ssr_mode": False}
    # Without `run_history=False` Gradio would keep a list of what was done.
    launch |= {"quiet": True, "run_history": False, "app_kwargs": {"middleware": [Middleware(Guard, access=access)]}}
    # Skips the request by which Gradio checks its own server, which fails behind a proxy and, on a busy machine, after
    # 3 seconds.
    launch["_frontend"] = False
    page.launch(prevent_thread_lock=True, **launch | launch_options() | options)
    page.local_url = access.address(page.local_url)
    if inbrowser:
        webbrowser.open(page.local_url)
    return page


def launch_options() -> dict[str, Any]:
    """Theme and style as arguments of `launch`, with system fonts, since other fonts would be downloaded."""
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    theme = gr.themes.Default(
        primary_hue="blue", font=fonts, font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"]
    )
    return {"theme": theme, "css_paths": _STATIC / "style.css", "footer_links": []}


class _Page:
    """The components of the page and their event handlers."""

    def __init__(self, data: ExplorerData, folder: Path) -> None:
        self.data, self.folder = data, folder
        self.first_view = view(data, Session())

    def lay_out(self) -> None:
        """Creates the components, then connects their events."""
        # The state holds the view too, so that only the parts that a click changes are sent.
        self.session = gr.State((Session(), self.first_view))
        gr.HTML(summary(self.data))
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                self._map()
            with gr.Column(scale=2, min_width=320):
                self.card = self._panel(self.first_view.card, "itl-card")
                self._target()
        with gr.Tab("Picks"):
            self._picks()
        with gr.Tab("Compare"):
            self.comparison = self._panel(self.first_view.comparison)
        with gr.Tab("Export"):
            self._export()
        self._connect()

    def _map(self) -> None:
        data, last = self.data, len(self.data.selection)
        self.map = gr.HTML(
            html_template=_static("map.html"),
            js_on_load=_static("map.js"),
            points=drawing.dumps(drawing.points(data)),
            marks=self.first_view.marks,
            elem_id="itl-map",
            apply_default_css=False,
        )
        self.rank = gr.Slider(0, last, last, step=1, label="Picks on the map: ranks 1 to", elem_id="itl-rank")
        modes = [(MODES["rank"], "rank")]
        if data.other is not None:
            modes.append((MODES["other"].format(visible(data.other_name)), "other"))
        self.mode = gr.Radio(modes, value="rank", label="Colour the picks", visible=len(modes) > 1, elem_id="itl-mode")

    def _target(self) -> None:
        names = target_names(self.data)
        choices = [(name, number) for number, name in enumerate(names)]
        self.target = gr.Dropdown(
            [("all targets", -1), *choices], value=-1, label="Target", filterable=True, elem_id="itl-target"
        )
        self.curve = gr.HTML(
            html_template=_static("curve.html"),
            js_on_load=_static("curve.js"),
            curve=self.first_view.curve,
            elem_id="itl-curve",
            apply_default_css=False,
        )
        self.about_target = self._panel(self.first_view.target, "itl-about-target")

    def _picks(self) -> None:
        selection = self.data.selection
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
            self.gain = gr.Slider(0, 100, 0, step=1, label="Minimum gain (% of the largest)", min_width=200)
        self.dropped_rows = self._panel(self.first_view.dropped_rows, "itl-dropped")
        with gr.Row(equal_height=True, visible=not self.data.obstacle):
            self.count = gr.Number(
                len(selection), label="Number of rows to pick", precision=0, minimum=1, scale=0, min_width=220
            )
            self.reselect_button = gr.Button(
                "Select again without the dropped rows", variant="primary", elem_id="itl-again", scale=0, min_width=300
            )
        self.picks = self._panel(self.first_view.picks, "itl-picks")

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
        return gr.HTML(html, js_on_load=_static("panel.js"), elem_id=elem_id, apply_default_css=False)

    def _connect(self) -> None:
        for panel in (self.map, self.card, self.about_target, self.picks, self.dropped_rows, self.comparison):
            self._on(panel.action, self._apply_action, "multiple")
        # `input` is triggered by the visitor only; `change` also when the page itself sets the value.
        self._on(self.target.input, self._handler(self._choose), "always_last", self.target)
        self._on(self.mode.input, self._handler(self._recolour), "always_last", self.mode)
        for filter_input in (self.text, self.groups, self.gain):
            self._on(filter_input.change, self._handler(self._filter), "always_last", self.text, self.groups, self.gain)
        self._on(self.reselect_button.click, self._handler(self._reselect), "once", self.count)
        # Runs in the browser alone, so that moving the slider does not wait for the server.
        self.rank.change(None, [self.rank], js=_static("rank.js"), api_visibility="private")
        self.export_button.click(
            self._export_files, [self.session], [self.export_note, self.files], api_visibility="private"
        )

    def _on(
        self, event: Callable[..., Any], handler: Callable[..., list[Any]], trigger_mode: str, *inputs: Any
    ) -> None:
        outputs = [self.session, self.map, self.curve, self.card, self.about_target, self.picks, self.dropped_rows]
        outputs += [self.comparison, self.target, self.mode, self.rank]
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
        _, _, *panels = [
            new if new != old else gr.skip() for new, old in zip(astuple(new_view), astuple(old_view), strict=True)
        ]
        return [
            (session, new_view),
            gr.update(marks=new_view.marks) if new_view.marks != old_view.marks else gr.skip(),
            gr.update(curve=new_view.curve) if new_view.curve != old_view.curve else gr.skip(),
            *panels,
            gr.update(value=-1 if session.target is None else session.target),
            self._update_modes(session),
            self._update_ranks(session, old_session),
        ]

    def _update_modes(self, session: Session) -> Any:
        modes = ["rank", "other"] if self.data.other is not None else ["rank"]
        modes += ["before"] if session.new_selection is not None else []
        choices = [(MODES[mode].format(visible(self.data.other_name)), mode) for mode in modes]
        return gr.update(choices=choices, value=session.mode, visible=len(choices) > 1)

    def _update_ranks(self, session: Session, old_session: Session) -> Any:
        if session.new_selection is old_session.new_selection:
            return gr.skip()
        count = len(session.current_selection(self.data))
        return gr.update(maximum=count, value=count)

    def _choose(self, session: Session, number: Any) -> Session:
        return choose_target(self.data, session, number if isinstance(number, int) else None)

    def _recolour(self, session: Session, mode: Any) -> Session:
        point = session.point if session.point is None or session.point[0] != "other" else None
        return replace(session, mode=mode if mode in MODES else "rank", point=point)

    def _filter(self, session: Session, text: Any, groups: Any, gain: Any) -> Session:
        return set_filters(session, Filters(str(text or ""), tuple(map(str, groups or ())), float(gain or 0) / 100))

    def _reselect(self, session: Session, count: Any) -> Session:
        return reselect(self.data, session, int(count) if count else None)

    def _export_files(self, state: State) -> tuple[str, Any]:
        files, message = write_files(self.data, state[0], self.folder)
        note = f'<p class="itl-note" role="status">{message}</p>'
        return note, gr.update(value=[str(file) for file in files] or None, visible=bool(files))


def _static(name: str) -> str:
    return (_STATIC / name).read_text(encoding="utf-8")
