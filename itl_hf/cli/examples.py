"""Examples of commands, shown by `--help` and in `docs/command_line.md`. Tests parse each of them."""

from __future__ import annotations

import textwrap

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "targets": (
        ("the few-shot examples of two benchmarks; which rows of the pool are in their tests", "itl-hf targets "
         "--lm_eval gsm8k,mmlu_abstract_algebra --pool pool.jsonl --output_dir benchmark"),
    ),
    "embed": (
        ("how long would it take, and would it fit?", "itl-hf embed pool.jsonl --store features --dry_run"),
        ("embed once, select as often as you like", "itl-hf embed pool.jsonl --store features"),
        ("a Hub dataset, with gradients of two kinds of layers", "itl-hf embed allenai/tulu-3-sft-mixture "
         "--store features --embedder gradients --modules v_proj,down_proj"),
        ("eight processes", "torchrun --nproc_per_node 8 -m itl_hf embed pool.jsonl --store features"),
    ),
    "index": (
        ("shortlists of a large pool without reading all of it", "itl-hf index --store features"),
        ("less memory: 64 bytes a row", "itl-hf index --store features --kind IVF65536,PQ64"),
    ),
    "estimate": (
        ("ten million rows on eight processes, for a script", "itl-hf estimate --rows 10000000 --dimension 384 "
         "--num_examples 1000 --targets 100 --num_processes 8 --json"),
        ("embedding by a model too", "itl-hf estimate --rows 100000 --num_examples 1000 --model "
         "HuggingFaceTB/SmolLM2-135M-Instruct"),
    ),
    "select": (
        ("a thousand rows for your prompts", "itl-hf select --pool pool.jsonl --targets prompts.jsonl "
         "--num_examples 1000 --output_dir selected"),
        ("with stored features and a report", "itl-hf select --pool pool.jsonl --targets prompts.jsonl "
         "--num_examples 1000 --store features --output_dir selected --report report.html"),
        ("as many rows as 200,000 tokens pay for", "itl-hf select --pool pool.jsonl --targets prompts.jsonl "
         "--num_examples 5000 --token_budget 200000 --output_dir selected"),
        ("among the 6,000 rows nearest by a small encoder: the model reads no others", "itl-hf select --pool "
         "pool.jsonl --targets prompts.jsonl --num_examples 1000 --shortlist 6000 --shortlist_model "
         "sentence-transformers/all-MiniLM-L6-v2 --output_dir selected"),
        ("options from a file, one of them changed", "itl-hf select --config select.yaml --num_examples 500"),
        ("for a script", "itl-hf select --config select.yaml --json --quiet"),
    ),
    "report": (
        ("a page to read, print or send", "itl-hf report selected --path report.html"),
        ("of a selection on the Hub", "itl-hf report me/my-subset"),
    ),
    "diagnose": (
        ("what the pool cannot teach", "itl-hf diagnose selected"),
        ("all targets, for a script", "itl-hf diagnose selected --rows 0 --json"),
    ),
    "export": (
        ("every column, one row a line", "itl-hf export selected --path picks.jsonl"),
        ("into LLaMA-Factory's folder of data sets", "itl-hf export selected --format llama_factory "
         "--path LLaMA-Factory/data --name my_task"),
        ("with the lines for axolotl's configuration", "itl-hf export selected --format axolotl --path data"),
    ),
    "push": (
        ("see what would be published", "itl-hf push selected me/my-subset --preview preview"),
        ("publish", "itl-hf push selected me/my-subset --private"),
    ),
    "train": (
        ("pick once, then train", "itl-hf train --config run.yaml --targets prompts.jsonl --num_examples 1000"),
        ("pick anew before every epoch", "itl-hf train --config run.yaml --targets prompts.jsonl "
         "--examples_per_round 256"),
        ("on a selection made before", "itl-hf train --config run.yaml --selection selected"),
    ),
    "cache": (
        ("features that are kept without --store, and their size", "itl-hf cache list"),
        ("delete those that were not used for a month", "itl-hf cache clear --older_than 30 --yes"),
    ),
    "explore": (
        ("look at it in the browser", "itl-hf explore selected --pool pool.jsonl"),
        ("what one has that another lacks", "itl-hf explore selected --compare other"),
        ("as a folder to upload as a Space", "itl-hf explore selected --space space"),
    ),
    "doctor": (
        ("is everything there, and are picks exact here?", "itl-hf doctor"),
    ),
}  # fmt: skip


def wrap_command(words: str, indent: str = "") -> list[str]:
    """Breaks a command into lines of at most 78 columns, with continuation marks for the shell."""
    wrap = textwrap.TextWrapper(76, initial_indent=indent, subsequent_indent=f"{indent}  ", break_on_hyphens=False)
    *most, last = wrap.wrap(words)
    return [*(f"{line} \\" for line in most), last]


def epilog(command: str) -> str | None:
    """Formats the examples of a command for its `--help`."""
    lines = [line for why, words in EXAMPLES.get(command, ()) for line in (f"  # {why}", *wrap_command(words, "  "))]
    # \b keeps the lines as they are.
    return "\b\n" + "\n".join(["Examples:", *lines]) if lines else None
