"""Reading BIG-bench: instructions, answers, options, and rows that are left out."""

from __future__ import annotations

import io
import json
import tarfile
from random import Random

import pytest

from recipes.benchmarks import bigbench

SIMPLE = {
    "task_prefix": "Sort the words.\n",
    "examples": [{"input": f"pear apple {n}", "target": [f"apple pear {n}"]} for n in range(70)],
}
CHOICE = {
    "description": "Is it sensible?",
    "examples": [{"input": f"Row {n}", "target_scores": {"yes": n % 2, "no": 1 - n % 2}} for n in range(70)],
}


def test_a_prompt_is_instruction_input_and_options():
    row = bigbench.task_rows("sorting", SIMPLE, 1, Random(0))[0]
    assert row["prompt"].startswith("Sort the words.\npear apple ")
    assert row["prompt"].endswith("\nAnswer:")
    assert row["completion"].startswith(" apple pear ")
    rows = bigbench.task_rows("family/sense", CHOICE, 70, Random(0))
    assert {row["family"] for row in rows} == {"family"}
    for row in rows:
        number = int(row["prompt"].split()[4])
        assert "\nOptions: yes | no\n" in row["prompt"]
        assert row["completion"] == (" yes" if number % 2 else " no")


def test_descriptions_replace_missing_instructions_only_if_inputs_are_short():
    assert bigbench.instruction_of(CHOICE) == "Is it sensible?"
    wordy = {**CHOICE, "examples": [{"input": "word " * 20}]}
    assert bigbench.instruction_of(wordy) == ""


def test_a_long_instruction_is_cut_to_its_first_sentence():
    task = {"task_prefix": "Definition: Write a question. " + "More about it. " * 30, "examples": []}
    assert bigbench.instruction_of(task) == "Write a question."


@pytest.mark.parametrize(
    "example", [{"input": "x" * 400, "target": "a"}, {"input": "x"}, {"input": "x", "target": "a" * 90}]
)
def test_rows_that_are_long_or_have_no_answer_are_left_out(example):
    assert bigbench.task_rows("t", {"examples": [example]}, 5, Random(0)) == []


def test_rows_of_the_archive_are_cached(tmp_path):
    with tarfile.open(tmp_path / bigbench.SDIST, "w:gz") as archive:
        for name, task in {
            "sorting": SIMPLE,
            "family/sense": CHOICE,
            "tiny": {"examples": SIMPLE["examples"][:5]},
        }.items():
            data = json.dumps(task).encode()
            member = tarfile.TarInfo(f"bigbench-1.0.0/bigbench/benchmark_tasks/{name}/task.json")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    rows = bigbench.bigbench_rows(65, directory=tmp_path)
    assert {task: list(rows["task"]).count(task) for task in set(rows["task"])} == {"sorting": 65, "family/sense": 65}
    (tmp_path / bigbench.SDIST).unlink()
    assert bigbench.bigbench_rows(65, directory=tmp_path).to_list() == rows.to_list()
