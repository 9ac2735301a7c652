"""The page is put together; what it does in a browser is in test_browser.py."""

from __future__ import annotations

import inspect
import subprocess
import sys

from itl_hf.report.explorer import build, serve


def test_it_is_built_with_all_or_with_little(explorer_data, bare, tmp_path):
    for one in (explorer_data, bare):
        page = build(one, tmp_path)
        config = page.get_config_file()
        assert config["analytics_enabled"] is False
        assert all(event["api_visibility"] == "private" for event in config["dependencies"])


def test_only_this_machine_is_served_by_default():
    assert inspect.signature(serve).parameters["host"].default == "127.0.0.1"


def test_without_the_extra_the_error_names_it():
    code = (
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'gradio' else find(name, *rest)\n"
        "try:\n    import itl_hf.report.explorer\nexcept ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "pip install 'itl-hf[explorer]'" in done.stdout
