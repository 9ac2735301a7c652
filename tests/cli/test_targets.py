"""`itl-hf targets` with lm-eval's own loader, on tasks whose data sets are files of the test."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("lm_eval.tasks")

TRAIN = [{"q": f"How many apples are in {n} baskets of {n} apples each?", "a": str(n * n)} for n in range(2, 6)]
TEST = [
    {"q": "Ann walks three miles on Monday and then five miles on Tuesday with her old dog. How far in all?", "a": "8"},
    TRAIN[0],  # an example that is also a question of the test
]
TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{train: {folder}/train.jsonl, test: {folder}/test.jsonl}}}}
output_type: generate_until
test_split: test
doc_to_text: "Question: {{{{q}}}}\\nAnswer:"
doc_to_target: "{{{{a}}}}"
metric_list: [{{metric: exact_match}}]
{more}
"""
CHOICES = """
task: letters
dataset_path: json
dataset_kwargs: {{data_files: {{dev: {folder}/train.jsonl, test: {folder}/test.jsonl}}}}
output_type: multiple_choice
test_split: test
fewshot_split: dev
doc_to_text: "{{{{q}}}}"
doc_to_choice: ["A", "B"]
doc_to_target: 1
metric_list: [{{metric: acc}}]
"""


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "tasks"
    folder.mkdir()
    for name, rows in (("train", TRAIN), ("test", TEST)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name, more in (
        ("apples", "training_split: train"),
        ("only_test", ""),
        ("shots_of_test", "training_split: train\nfewshot_split: test"),
        ("own", "fewshot_config: {sampler: first_n, samples: [{q: Two and two?, a: '4'}]}"),
    ):
        (folder / f"{name}.yaml").write_text(TASK.format(name=name, folder=folder, more=more))
    (folder / "letters.yaml").write_text(CHOICES.format(folder=folder))
    pool = [
        {"prompt": "What is a dog?", "completion": "An animal."},
        {
            "prompt": "ann walks three miles on monday, and then five miles on tuesday -- with her cat",
            "completion": "8",
        },
    ]
    (tmp_path / "pool.jsonl").write_text("\n".join(map(json.dumps, pool)))
    return folder


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_targets_are_examples_and_never_tests(run, tasks, tmp_path):
    out = tmp_path / "out"
    options = ("--include_path", tasks, "--pool", tmp_path / "pool.jsonl", "--output_dir", out, "--json")
    result = run("targets", "--lm_eval", "apples,own,letters", *options)
    assert result.exit_code == 0, result.exception
    facts = json.loads(result.stdout)
    assert facts["sources"] == {"apples": "train", "own": "examples in the task's file", "letters": "dev"}
    assert (facts["targets"], facts["copies_of_tests"], facts["contaminated"]) == (7, 2, [1])
    rows = rows_of(out / "targets.jsonl")
    assert rows[0] == {
        "prompt": f"Question: {TRAIN[1]['q']}\nAnswer:",
        "completion": f" {TRAIN[1]['a']}",
        "task": "apples",
    }
    assert rows[3] == {"prompt": "Question: Two and two?\nAnswer:", "completion": " 4", "task": "own"}
    assert rows[4]["completion"] == " B"
    assert not {row["prompt"] for row in rows} & {f"Question: {row['q']}\nAnswer:" for row in TEST}
    (contaminated,) = rows_of(out / "contaminated.jsonl")
    assert contaminated["shared_words"].startswith("ann walks three miles on monday and then five miles")
    assert contaminated["completion"] == "8"


@pytest.mark.parametrize("name", ["only_test", "shots_of_test"])
def test_tasks_without_other_examples_are_refused(name, run, tasks, tmp_path):
    result = run("targets", "--lm_eval", name, "--include_path", tasks, "--output_dir", tmp_path / "out")
    assert "no examples outside of 'test'" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_unknown_tasks_are_named(run, tasks, tmp_path):
    result = run("targets", "--lm_eval", "apples,gsm8", "--include_path", tasks, "--output_dir", tmp_path / "out")
    assert "lm-eval has no task 'gsm8'" in str(result.exception)
