"""docs/models.md: which configurations there are, how they are tried, and that the page says what is found."""

from __future__ import annotations

import os
import time

import pytest
import torch
import transformers

from recipes.model_page import checks, run
from recipes.model_page.build import build, configuration, merge
from recipes.model_page.checks import attempt, compare, run_checks
from recipes.model_page.families import LEFT_OUT
from recipes.model_page.isolation import isolated
from recipes.model_page.page import CHECKS, page, read_verdicts, verdicts
from recipes.model_page.run import ROOT, configurations, read_results, run_all, try_one

PAGE = ROOT / "docs" / "models.md"
MAINSTREAM = ("llama", "gpt2", "qwen3", "gemma3", "mistral", "bert", "modernbert", "t5", "deepseek_v3", "qwen2_5_vl")


def test_there_are_enough_configurations_of_every_group():
    names = configurations()
    assert len(names) >= 150
    assert set(names.values()) == {"causal", "encoder", "encoder-decoder", "vision-language"}
    assert set(MAINSTREAM) <= set(names)
    assert not set(LEFT_OUT) & set(names)


@pytest.mark.parametrize("name", ["llama", "bert", "opt (350m)"])
def test_models_are_tiny_and_the_same_each_time(name):
    one, other = build(name), build(name)
    assert sum(parameter.numel() for parameter in one.parameters()) < 100_000
    assert all(torch.equal(*pair) for pair in zip(one.parameters(), other.parameters(), strict=True))
    assert configuration("opt (350m)").do_layer_norm_before is False
    assert merge({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}) == {"a": {"b": 3, "c": 2}}


def test_a_crash_an_error_and_a_long_run_are_failed_lines():
    assert isolated(lambda: {"a": 1}, 60) == {"a": 1}
    assert isolated(lambda: 1 / 0, 60) == {"error": "ZeroDivisionError: division by zero"}
    assert isolated(lambda: os._exit(3), 60) == {"error": "the process ended with status 3"}
    start = time.monotonic()
    assert isolated(lambda: time.sleep(60), 0.5) == {"error": "not done after 0 s"}
    assert time.monotonic() - start < 30


def test_differences_and_errors_become_findings():
    rows = torch.eye(3)
    assert compare(rows, rows).verdict == "yes"
    assert compare(rows + 1e-3, rows).verdict == "wrong"
    assert compare(rows[:2], rows).verdict == "wrong"
    assert attempt(lambda: torch.ones(2) @ torch.ones(3)).verdict == "fails"

    def refuse():
        checks.HiddenStates(build("llama"), tokenizer=checks.word_tokenizer(), layer=99)

    assert attempt(refuse).verdict == "refused"
    assert attempt(lambda: (_ for _ in ()).throw(ValueError("mine"))).verdict == "fails"


def test_wrong_hidden_states_are_found(monkeypatch):
    monkeypatch.setattr(checks, "pooled_layers", lambda embedder, rows: torch.ones(len(rows), embedder.dimension))
    assert run_checks("llama")["hidden states"]["verdict"] == "wrong"


def test_a_run_goes_on_where_it_ended(tmp_path, monkeypatch):
    tried = []
    finding = {"verdict": "yes", "note": "", "difference": 0.0}
    result = {"class": "Model", "seconds": 1.0, **dict.fromkeys(CHECKS, finding)}
    monkeypatch.setattr(run, "try_one", lambda name, seconds: tried.append(name) or result)
    path = tmp_path / "results.jsonl"
    run_all(["llama"], path)
    path.write_text(path.read_text() + '\n{"name": "be', encoding="utf-8")
    assert len(read_results(path)) == 1
    results = run_all(["llama", "bert"], path)
    assert tried == ["llama", "bert"]
    assert read_verdicts(page(results)) == {name: ["yes"] * 5 for name in ("llama", "bert")}


def test_text_of_errors_is_escaped():
    finding = {"verdict": "fails", "note": "a | b <script>", "difference": None}
    result = {"class": "Model", "seconds": 1.0, **dict.fromkeys(CHECKS, finding)}
    assert "a \\| b \\<script\\>" in page({"llama": result})
    assert "ValueError: \\<b\\>" in page({"llama": result, "bert": {"error": "ValueError: <b>", "seconds": 1.0}})


def test_the_page_finds_nothing_silently_wrong():
    written = read_verdicts(PAGE.read_text(encoding="utf-8"))
    assert len(written) >= 150
    assert [name for name, cells in written.items() if "wrong" in cells] == []
    assert set(written) <= set(configurations()) or transformers.__version__ not in PAGE.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_sample_is_as_the_page_says():
    text = PAGE.read_text(encoding="utf-8")
    if f"transformers {transformers.__version__}:" not in text:
        pytest.skip("the page was written with another version of transformers")
    written = read_verdicts(text)
    sample = [*MAINSTREAM, *(name for name in sorted(written)[::12] if name not in MAINSTREAM)]
    assert {name: verdicts(try_one(name)) for name in sample} == {name: written[name] for name in sample}
