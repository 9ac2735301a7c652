"""`itl-hf select` as a user types it, with a tiny model saved on disk."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings

import pytest

from itl_hf import HiddenStates, Selection, Selector
from itl_hf.cli.load_rows import load_rows
from itl_hf.cli.main import main, plain_warning
from tests.tiny_models import tiny_model, tiny_tokenizer


def test_the_config_file_sets_options_and_flags_override_them(files, run):
    result = run(
        "select", "--config", files / "run.yaml", "--num-examples", 5, "--target_noise_std", 0.5, "--overwrite"
    )
    assert result.exit_code == 0, result.output
    selection = Selection.load(files / "selected")
    assert len(selection) == 5
    assert selection.record.noise_std == 1.5
    assert selection.record.target_noise_std == 0.5
    assert selection.record.embedder["layer"] == 1
    assert "5 of 24 rows by itl" in result.output


def test_it_picks_what_the_python_call_picks(files, run):
    run("select", "--config", files / "run.yaml", "--output_dir", files / "again")
    embedder = HiddenStates(str(files / "model"), layer=1)
    pool, targets = load_rows(str(files / "pool.jsonl")), load_rows(str(files / "targets.txt"))
    python = Selector(embedder, noise_std=1.5).select(pool, targets, 3)
    assert Selection.load(files / "again").indices.tolist() == python.indices.tolist()


def test_options_go_by_the_names_of_trl_too(files, run, tmp_path):
    result = run(
        *(
            "select",
            "--dataset_name",
            files / "pool.jsonl",
            "--dataset_train_split",
            "train",
            "--model_revision",
            "main",
        ),
        *("--targets", files / "targets.txt", "--model", files / "model", "--num_examples", 2, "--acquisition", "vtl"),
        *("--output_dir", tmp_path / "out"),
    )
    assert result.exit_code == 0, result.output
    record = Selection.load(tmp_path / "out").record
    assert record.acquisition_name == "vtl"
    assert record.embedder["revision"] == "main"


def test_a_shortlist_by_number_by_rule_and_by_another_model(files, run, tmp_path):
    def record(*options):
        result = run(
            "select", "--config", files / "run.yaml", "--output_dir", tmp_path / "out", "--overwrite", *options
        )
        assert result.exit_code == 0, result.output
        record = Selection.load(tmp_path / "out").record
        assert ("exact among these candidates" in result.output) == (record.shortlist is not None)
        return record

    assert record("--shortlist", "none").shortlist is None
    assert record("--shortlist", "8").shortlist["size"] == 8
    assert record("--shortlist", "auto").shortlist["size"] == 5
    pytest.importorskip("sentence_transformers")
    tiny_model("bert", head=False).save_pretrained(tmp_path / "bert")
    tiny_tokenizer(bos_and_eos=True, chat_template=False).save_pretrained(tmp_path / "bert")
    entry = record("--shortlist", "8", "--shortlist_model", tmp_path / "bert").shortlist
    assert (entry["size"], entry["embedder"]["embedder"]) == (8, "sentence_encoder")
    assert record("--shortlist_model", tmp_path / "bert").shortlist["size"] == 24  # the least, and all rows of the pool
    words = run(
        *("select", "--config", files / "run.yaml", "--shortlist", 8, "--shortlist_model", tmp_path / "bert"),
        *("--store", tmp_path / "new", "--dry_run"),
    ).output
    assert "pool     24 (24 distinct), 24 to embed" in words
    assert "listed   8 (8 distinct), 8 to embed" in words
    assert "the features of the shortlist" in words


def test_a_token_budget_ends_the_selection(files, run, tmp_path):
    limits = ("--num_examples", 20, "--token_budget", 45, "--costs_column", "cost", "--output_dir", tmp_path / "out")
    result = run("select", "--config", files / "run.yaml", *limits)
    assert result.exit_code == 0, result.output
    costs = Selection.load(tmp_path / "out").dataset["cost"][:]
    assert 3 <= len(costs) <= 4
    assert sum(costs) <= 45


def test_no_group_gets_more_than_its_share(files, run, tmp_path):
    limits = ("--num_examples", 8, "--groups_column", "source", "--max_group_share", 0.5)
    result = run("select", "--config", files / "run.yaml", *limits, "--output_dir", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert sorted(Selection.load(tmp_path / "out").dataset["source"][:]) == ["source 0"] * 4 + ["source 1"] * 4


def test_prompts_of_a_file_are_never_picked_and_their_number_is_said(files, run, tmp_path):
    def picks(*exclude):
        result = run(
            "select", "--config", files / "run.yaml", "--output_dir", tmp_path / "out", "--overwrite", *exclude
        )
        assert result.exit_code == 0, result.output
        return Selection.load(tmp_path / "out").indices.tolist(), " ".join(result.output.split())

    pool = load_rows(str(files / "pool.jsonl"))
    first_picks, first_output = picks()
    pool.select(first_picks).to_json(tmp_path / "benchmark.jsonl")
    second_picks, output = picks("--exclude", tmp_path / "benchmark.jsonl")
    assert not set(second_picks) & set(first_picks)
    assert "3 rows of the pool were excluded because of" in output
    assert "excluded" not in first_output
    (tmp_path / "other.txt").write_text("a prompt that no row has\n")
    again, output = picks("--exclude", tmp_path / "other.txt")
    assert again == first_picks
    assert "0 rows of the pool were excluded because of" in output


def test_it_stops_when_little_is_left_to_learn(files, run, tmp_path):
    def picks(*stop):
        place = ("--num_examples", 12, "--output_dir", tmp_path / "out", "--overwrite")
        result = run("select", "--config", files / "run.yaml", *place, *stop)
        assert result.exit_code == 0, result.output
        return Selection.load(tmp_path / "out")

    everything = picks()
    by_gain = picks("--stop_gain", everything.gains[4] * 1.0001)
    assert by_gain.indices.tolist() == everything.indices[:4].tolist()
    assert len(picks("--stop_variance_left", 0.9)) < len(picks("--stop_variance_left", 0.8)) <= 12


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--costs", "cost"), "--costs goes with --token_budget"),
        (("--max_group_share", 0.5), "--groups and --group_shares go together"),
        (("--noise_std", "loud"), "'loud' is neither `auto`, `measured` nor a number"),
        (("--shortlist", "some"), "--shortlist 'some' must be auto, a number of rows (at least 1) or none"),
        (("--shortlist", "0"), "--shortlist '0' must be auto, a number of rows (at least 1) or none"),
        (("--shortlist", "none", "--shortlist_model", "x"), "leave out one of the two"),
        (("--num_examples", "many"), "Invalid value for '--num_examples'"),
        (("--embedder", "tfidf"), "tfidf"),
        (("--span", "all"), "all"),
        (("--absent", 1), "--absent"),
    ],
)
def test_options_that_make_no_sense_are_named(files, run, options, said):
    result = run("select", "--config", files / "run.yaml", "--overwrite", *options)
    assert result.exit_code == 2
    assert said in " ".join(result.output.replace("│", " ").split())


@pytest.fixture
def typed(monkeypatch, capsys):
    """The whole program in this process: what it exits with, and what it wrote to stderr."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["itl-hf", *map(str, arguments)])
        monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # put back afterwards
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr().err

    return call


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--num_examples", "99"), "num_examples=99 is more than the 24 rows of the pool"),
        (("--token_budget", "9", "--costs_column", "price"), "costs: the pool has no column 'price'"),
        (("--pool", "absent.jsonl"), "absent.jsonl: no such file"),
        (("--shortlist", "2"), "shortlist=2 is smaller than num_examples=3"),
        (("--acquisition", "random", "--shortlist", "9"), "shortlist: acquisition 'random' does not compare rows"),
        (("--stop_gain", "-1"), "StopWhen(gain=...) must be positive, got -1.0"),
        (("--labels", "predicted"), "--labels is not an option of --embedder hidden_states; leave it out"),
        (("--layer", "9"), "layer 9 is out of range"),
        (("--model", "absent/folder/here"), "no model at 'absent/folder/here'"),
    ],
)
def test_mistakes_end_in_one_sentence_and_status_2(files, typed, options, said):
    code, errors = typed("select", "--config", files / "run.yaml", "--overwrite", *options)
    assert code == 2
    assert f"itl-hf: {said}" in errors
    assert "Traceback" not in errors


def test_warnings_are_sentences_too(typed):
    typed("--version")
    assert warnings.formatwarning is plain_warning
    assert plain_warning("cut", UserWarning, "file.py", 3) == "itl-hf: cut\n"
    assert "file.py:3: FutureWarning: later" in plain_warning("later", FutureWarning, "file.py", 3)


def test_a_process_of_its_own_ends_the_same_way():
    command = [sys.executable, "-m", "itl_hf", "select", "--pool", "nowhere.jsonl", "--targets", "nowhere.jsonl"]
    command += ["--model", "nowhere", "--num_examples", "9", "--output_dir", "nowhere"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 2
    assert result.stderr == "itl-hf: nowhere.jsonl: no such file\n"


def test_quality_and_weights_are_columns(files, run, tmp_path):
    rows = [json.loads(line) for line in (files / "pool.jsonl").read_text(encoding="utf-8").splitlines()]
    quality = [1e-9 if number % 2 else 0.7 for number in range(len(rows))]
    lines = [json.dumps({**row, "score": score}) for row, score in zip(rows, quality, strict=True)]
    (tmp_path / "pool.jsonl").write_text("\n".join(lines), encoding="utf-8")
    targets = [json.dumps({"prompt": row["prompt"], "share": 1.5 + number}) for number, row in enumerate(rows[:2])]
    (tmp_path / "targets.jsonl").write_text("\n".join(targets), encoding="utf-8")
    (tmp_path / "more.yaml").write_text(
        (files / "run.yaml").read_text(encoding="utf-8").replace(f"{files}/pool", f"{tmp_path}/pool")
        + "quality: score\n",
        encoding="utf-8",
    )
    command = ("select", "--config", tmp_path / "more.yaml", "--targets", tmp_path / "targets.jsonl")
    result = run(*command, "--target_weights", "share", "--num_examples", 8, "--output_dir", tmp_path / "out")
    assert result.exit_code == 0, result.output
    selection = Selection.load(tmp_path / "out")
    assert all(row % 2 == 0 for row in selection.indices.tolist())
    assert selection.record.quality["column"] == "score"
    assert selection.record.target_weights["values"] == [1.5, 2.5]
    result = run(*command, "--target_weights", "cost", "--output_dir", tmp_path / "none")
    assert result.exit_code != 0
    assert "no column 'cost' in the targets" in str(result.output) + str(result.exception)
