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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from starlette.middleware import Middleware

from itl_hf.report.explorer.address import check_address
from itl_hf.report.explorer.components import STATIC, Components
from itl_hf.report.explorer.guard import Access, Guard
from itl_hf.report.explorer.private_folder import PrivateFolder
from itl_hf.report.explorer.view import page_title

if TYPE_CHECKING:
    from itl_hf.report.explorer.explorer_data import ExplorerData


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
    title = page_title(data)
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(3600, 3600), fill_width=True) as page:
        Components(data, folder).lay_out()
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
    return {"theme": theme, "css_paths": STATIC / "style.css", "footer_links": []}
