"""Figures about how easy the code is to enter: calls, names, arguments, import circles, readings of the pool's text.

    python -m tests.house.measure            # a table
    python -m tests.house.measure --json     # the same for a program
    python -m tests.house.measure --names    # every participle that is used as a name, with its place

The functions that a call enters are counted with `sys.setprofile`, names by reading the syntax tree.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
import tempfile
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grimp
import networkx

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "itl_hf"
#: Words that say what was done to a thing and not what the thing is. Regular ones are found by their ending.
IRREGULAR = {
    *("told", "wanted", "found", "given", "known", "seen", "asked", "picked", "chosen", "kept", "made", "taken"),
    *("gone", "shown", "grown", "carried", "held", "said", "done", "drawn", "written", "sent", "spent", "bought"),
    *("brought", "built", "caught", "lost", "met", "paid", "shut", "sold", "stood", "struck", "taught", "thought"),
    *(
        "understood",
        "won",
        "worn",
        "been",
        "begun",
        "broken",
        "driven",
        "eaten",
        "fallen",
        "forgotten",
        "ridden",
        "risen",
    ),
    *("spoken", "stolen", "sung", "sunk", "thrown", "woken", "fed"),
}
#: Words that end like participles and are nouns, verbs or settled terms.
REGULAR_EXCEPTIONS = {
    *("seed", "embed", "speed", "need", "feed", "shared", "fixed", "bed", "red", "padded", "packed", "compiled", "led"),
    *("exceed", "indeed", "hundred", "proceed", "succeed", "unused", "quoted", "nested", "limited", "directed"),
    *("undirected", "embedded", "attached", "combined", "targeted", "anchored"),
}


def bindings(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every name that a module binds: variables, attributes, arguments, functions, classes; with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg) and node.arg not in ("self", "cls"):
            yield node.arg, node.lineno


def words(name: str) -> list[str]:
    """The words of a name in snake or camel case."""
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).split("_")
    return [part.lower() for part in parts if part]


def is_participle(name: str) -> bool:
    """Whether a name is one participle and nothing else."""
    parts = words(name)
    if len(parts) != 1 or name[0].isupper():
        return False
    word = parts[0]
    return word in IRREGULAR or (len(word) > 4 and word.endswith("ed") and word not in REGULAR_EXCEPTIONS)


def measure_names(package: Path = PACKAGE) -> dict[str, Any]:
    """Shares of names of one word and of participles among all bindings."""
    names: list[str] = []
    participles: list[str] = []
    for path in sorted(package.rglob("*.py")):
        for name, line in bindings(ast.parse(path.read_text(encoding="utf-8"))):
            names.append(name)
            if is_participle(name):
                participles.append(f"{path.relative_to(package.parent)}:{line}: {name}")
    single = sum(len(words(name)) == 1 for name in names)
    return {
        "bindings": len(names),
        "participles_per_1000": round(1000 * len(participles) / len(names), 1),
        "one_word_names": round(single / len(names), 3),
        "participles": participles,
    }


def measure_arguments(package: Path = PACKAGE) -> dict[str, Any]:
    """The functions with the most parameters."""
    counts: Counter[str] = Counter()
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                arguments = node.args
                parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
                count = sum(argument.arg not in ("self", "cls") for argument in parameters)
                counts[f"{path.relative_to(package.parent)}:{node.name}"] = count
    return dict(counts.most_common(6))


def import_graph(package: str = PACKAGE.name) -> networkx.DiGraph[str]:
    """Which module of the package imports which, for typing and within functions too; without the package itself."""
    modules = grimp.build_graph(package, cache_dir=None)
    names = modules.modules - {package}
    imports = ((name, other) for name in names for other in modules.find_modules_directly_imported_by(name))
    graph: networkx.DiGraph[str] = networkx.DiGraph()
    graph.add_edges_from((name, other) for name, other in imports if other != package)
    return graph


def modules_in_circles(graph: networkx.DiGraph[str]) -> list[list[str]]:
    """Groups of modules that import each other in circles."""
    return [sorted(group) for group in networkx.strongly_connected_components(graph) if len(group) > 1]


def entered(call: Callable[[], Any]) -> dict[str, int]:
    """Files and functions of the package that a call enters; imports are made beforehand by a first call."""
    call()
    functions: set[tuple[str, str]] = set()

    def note(frame: Any, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(str(PACKAGE)) and not code.co_name.startswith("<"):
            functions.add((code.co_filename, code.co_qualname))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    return {"files": len({file for file, _ in functions}), "functions": len(functions)}


def text_reads(call: Callable[[], Any], num_rows: int) -> float:
    """How many times a call reads the text of the pool: rows taken from datasets with text, over the pool's rows."""
    import datasets

    count = 0
    plain = datasets.Dataset._getitem

    def counting(dataset: Any, key: Any, **options: Any) -> Any:
        nonlocal count
        result = plain(dataset, key, **options)
        if len(dataset) == num_rows and {"text", "prompt", "messages"} & set(dataset.column_names):
            texts = next((result[name] for name in ("text", "prompt", "messages") if name in result), None)
            count += len(texts) if isinstance(texts, list) else 1
        return result

    datasets.Dataset._getitem = counting
    try:
        call()
    finally:
        datasets.Dataset._getitem = plain
    return round(count / num_rows, 2)


def measure_calls() -> dict[str, Any]:
    """What the two main calls enter and read, on a pool of 300 rows and a tiny model."""
    import numpy as np
    from datasets import Dataset

    from itl_hf import HiddenStates, Selector, select_rows
    from tests.tiny_models import tiny_model, tiny_tokenizer

    generator = np.random.default_rng(0)
    features = generator.standard_normal((2_000, 32)).astype(np.float32)
    vocabulary = [
        "red",
        "green",
        "blue",
        "sum",
        "two",
        "three",
        "five",
        "capital",
        "France",
        "Rome",
        "fraction",
        "dog",
        "street",
        "rain",
    ]
    rows = [{"prompt": " ".join(generator.choice(vocabulary, 8)), "completion": "two red"} for _ in range(300)]
    pool = Dataset.from_list(rows)
    targets = [{"prompt": " ".join(generator.choice(vocabulary, 6))} for _ in range(4)]
    embedder = HiddenStates(tiny_model("llama"), tokenizer=tiny_tokenizer())

    def without_store(**options: Any) -> Any:
        return Selector(embedder).select(pool, targets, 8, **options)

    with tempfile.TemporaryDirectory() as folder:

        def with_store(**options: Any) -> Any:
            return Selector(embedder, store=folder).select(pool, targets, 8, **options)

        def with_budget() -> Any:
            if "constraints" in inspect.signature(Selector.select).parameters:
                from itl_hf import SelectionConstraints

                return with_store(constraints=SelectionConstraints(token_budget=500))
            return with_store(token_budget=500)

        return {
            "select_rows": entered(lambda: select_rows(features, features[:4], 20)),
            "Selector.select": entered(without_store),
            "text_reads": text_reads(without_store, len(pool)),
            "text_reads_with_features_stored": (with_store(), text_reads(with_store, len(pool)))[1],
            "text_reads_with_token_budget": text_reads(with_budget, len(pool)),
        }


def measure() -> dict[str, Any]:
    """Everything."""
    graph = import_graph()
    circles = modules_in_circles(graph)
    names = measure_names()
    return {
        **measure_calls(),
        "most_arguments": measure_arguments(),
        "modules_in_circles": sum(map(len, circles)),
        "circles": circles,
        **{key: value for key, value in names.items() if key != "participles"},
        "readme_words": len((ROOT / "README.md").read_text(encoding="utf-8").split()),
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if "--names" in sys.argv:
        print("\n".join(measure_names()["participles"]))
    elif "--json" in sys.argv:
        print(json.dumps(measure(), indent=2))
    else:
        for key, value in measure().items():
            print(f"{key:34} {value}")
