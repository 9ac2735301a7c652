"""The page can be built; its behaviour in a browser is tested in test_browser.py."""

from __future__ import annotations

import inspect
import subprocess
import sys

from itl_hf.report.explorer import build, serve


def test_it_is_built_with_all_data_or_with_a_selection_alone(explorer_data, bare, tmp_path):
    for data in (explorer_data, bare):
        page = build(data, tmp_path)
        config = page.get_config_file()
        assert config["analytics_enabled"] is False
        assert all(event["api_visibility"] == "private" for event in config["dependencies"])


def test_by_default_it_serves_this_machine_only():
    assert inspect.signature(serve).parameters["host"].default == "127.0.0.1"


def test_without_the_extra_the_error_names_it():
    code = (
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'gradio' else find(name, *rest)\n"
        "try:\n    import itl_hf.report.explorer\nexcept ImportError as error:\n    print(error)"
    )
    process = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "pip install 'itl-hf[explorer]'" in process.stdout
