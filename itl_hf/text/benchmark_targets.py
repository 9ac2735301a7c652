"""Targets from the few-shot examples of benchmarks of lm-eval; their test splits are read for screening only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itl_hf.text.normalization import normalize_text


@dataclass(frozen=True)
class BenchmarkTargets:
    """The targets of some tasks, and the texts that must not be trained on.

    Args:
        targets (`list[dict]`):
            Rows with `prompt`, `completion` and `task`.
        test_texts (`list[str]`):
            Questions of the splits that the tasks are evaluated on, with their answers.
        sources (`dict[str, str]`):
            The split of each task that the targets are from.
        num_copies (`int`):
            Examples that were left out because their question is one of the test's.
    """

    targets: list[dict[str, str]]
    test_texts: list[str]
    sources: dict[str, str]
    num_copies: int


def benchmark_targets(names: Sequence[str], include_path: str | Path | None = None) -> BenchmarkTargets:
    """Reads the few-shot examples of tasks of lm-eval as targets.

    Args:
        names (`Sequence[str]`):
            Names of tasks, groups or tags, such as `["gsm8k", "mmlu_abstract_algebra"]`.
        include_path (`str` or `Path`, *optional*):
            A folder with tasks of your own.

    Raises:
        `ImportError`: If lm-eval is not installed.
        `ValueError`: If there is no such task, it has no examples outside of the split that it is evaluated on, or its
            prompts are not texts.
    """
    targets: list[dict[str, str]] = []
    test_texts: list[str] = []
    sources: dict[str, str] = {}
    num_copies = 0
    for name, task in _load_tasks(names, include_path).items():
        sources[name] = _source(name, task.config, task.fewshot_cfg)
        test_rows = list(_rows(name, task, task.eval_docs))
        test_texts += [f"{row['prompt']} {row['completion']}" for row in test_rows]
        questions = {normalize_text(row["prompt"]) for row in test_rows}
        rows = list(_rows(name, task, task.fewshot_docs()))
        own_rows = [row for row in rows if normalize_text(row["prompt"]) not in questions]
        num_copies += len(rows) - len(own_rows)
        if not own_rows:
            raise ValueError(f"task {name}: every few-shot example is also one of its test questions")
        targets += own_rows
    return BenchmarkTargets(targets, test_texts, sources, num_copies)


def _load_tasks(names: Sequence[str], include_path: str | Path | None) -> Mapping[str, Any]:
    try:
        from lm_eval.tasks import TaskManager
    except ModuleNotFoundError as error:
        raise ImportError('targets of benchmarks need lm-eval: pip install "itl-hf[lm-eval]"') from error
    manager = TaskManager(include_path=None if include_path is None else str(include_path))
    unknown = [name for name in names if name not in manager.all_tasks]
    if unknown or not names:
        raise ValueError(f"lm-eval has no task {unknown[0]!r}; `lm-eval ls tasks` lists them" if unknown else "no task")
    tasks: Mapping[str, Any] = manager.load(list(names))["tasks"]
    return tasks


def _source(name: str, config: Any, fewshot: Any) -> str:
    """Returns the split of the few-shot examples, after checking that it is not the one of the evaluation."""
    if fewshot.split is None and fewshot.samples is not None:
        return "examples in the task's file"
    source = fewshot.split or config.training_split or config.validation_split
    test_split = config.test_split or config.validation_split
    # lm-eval itself would take examples of the test split where there is no other.
    if source is None or _split_name(source) == _split_name(test_split):
        raise ValueError(
            f"task {name} has no examples outside of {test_split!r}, the split that it is evaluated on: write prompts "
            "of your own for it"
        )
    return str(source)


def _split_name(split: str | None) -> str:
    return str(split).partition("[")[0]


def _rows(name: str, task: Any, docs: Any) -> Iterator[dict[str, str]]:
    for doc in docs:
        prompt, answer = task.doc_to_text(doc), task.doc_to_target(doc)
        if not isinstance(prompt, str):
            raise ValueError(f"task {name} has a prompt for each choice, which are no targets: leave it out")
        if task.config.doc_to_choice is not None and isinstance(answer, int):
            answer = task.doc_to_choice(doc)[answer]
        if isinstance(answer, list):
            answer = answer[0] if answer else ""
        delimiter = task.config.target_delimiter or ""
        yield {"prompt": prompt, "completion": f"{delimiter}{answer}", "task": name}
