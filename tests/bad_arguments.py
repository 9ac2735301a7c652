"""Bad arguments of Python functions, as a table: name, call (it gets an embedder), culprit, remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from itl_hf import (
    ITL,
    VTL,
    Gradients,
    HiddenStates,
    SelectionConstraints,
    Selector,
    SentenceEncoder,
    Shortlist,
    StopWhen,
    load_rows,
    select_rows,
)
from itl_hf.gp.kernels import RBF

ROWS = [{"prompt": f"a {n}", "source": "s"} for n in range(9)]
GRID = np.arange(18, dtype=np.float64).reshape(9, 2) % 5
COSTS = [1.0] * 9
Call = Callable[[Any], Any]


def selecting(pool: Any = ROWS, targets: Any = ("b",), count: Any = 2, *, selector: Any = None, **options: Any) -> Call:
    """A selection with these arguments."""
    targets = list(targets) if isinstance(targets, tuple) else targets
    return lambda embedder: Selector(embedder, **(selector or {})).select(pool, targets, count, **options)


def picking(pool: Any = GRID, targets: Any = GRID[:2], count: Any = 2, **options: Any) -> Call:
    """A selection from arrays."""
    return lambda _: select_rows(pool, targets, count, **options)


NAN = GRID.copy()
NAN[0, 0] = np.nan

CALLS: list[tuple[str, Call, str, str]] = [
    ("pool is a string", selecting("rows"), "pool", "list of"),
    ("pool is a number", selecting(3), "pool", "list of"),
    ("pool is None", selecting(None), "pool", "list of"),
    ("pool is empty", selecting([]), "pool", "no rows"),
    ("pool of numbers", selecting([1, 2]), "row 0", "dict or a string"),
    ("pool of None", selecting([{"prompt": "a"}, None]), "row 1", "dict or a string"),
    ("pool of numeric prompts", selecting([{"prompt": 1}, {"prompt": 2}]), "prompt", "string"),
    ("an empty prompt", selecting([{"prompt": "a"}, {"prompt": ""}]), "row 1", "drop the row"),
    ("no column of text", selecting([{"number": 1}]), "number", "prompt"),
    ("targets are empty", selecting(targets=[]), "targets", "no rows"),
    ("targets are a string", selecting(targets="b"), "targets", "list of"),
    ("targets are a mapping", selecting(targets={"a": 1}), "targets", "list of"),
    ("an empty target", selecting(targets=["a", ""]), "row 1", "drop the row"),
    ("a lone surrogate", selecting([{"prompt": "\ud800"}], count=1), "pool", "surrogate"),
    ("num_examples 0", selecting(count=0), "num_examples", "at least 1"),
    ("num_examples 1.5", selecting(count=1.5), "num_examples", "whole number"),
    ("num_examples True", selecting(count=True), "num_examples", "whole number"),
    ("num_examples text", selecting(count="2"), "num_examples", "whole number"),
    ("num_examples 10 of 9", selecting(count=10), "num_examples", "9 rows"),
    ("already_selected out of range", selecting(already_selected=[99]), "already_selected", "99"),
    ("already_selected negative", selecting(already_selected=[-1]), "already_selected", "-1"),
    ("already_selected float", selecting(already_selected=[0.5]), "already_selected", "row numbers"),
    ("already_selected text", selecting(already_selected="abc"), "already_selected", "row numbers"),
    ("already_selected all", selecting(already_selected=list(range(9))), "num_examples", "0 rows"),
    ("an unknown split", selecting(pool_split="x"), "split", "no splits"),
    ("quality of other length", selecting(quality=[1.0]), "quality", "9"),
    ("quality of a column that is missing", selecting(quality="q"), "'q'", "columns"),
    ("quality above 1", selecting(quality=[2.0] * 9), "quality", "1"),
    ("quality 0", selecting(quality=[0.0] * 9), "quality", "0"),
    ("quality NaN", selecting(quality=[float("nan")] * 9), "quality", "1"),
    ("target_weights of other length", selecting(target_weights=[1.0, 2.0]), "target_weights", "1"),
    ("target_weights negative", selecting(target_weights=[-1.0]), "target_weights", "positive"),
    ("acquisition is a class", selecting(selector={"acquisition": ITL}), "ITL", "ITL()"),
    ("acquisition is a number", selecting(selector={"acquisition": 3}), "acquisition", "itl"),
    ("acquisition unknown", selecting(selector={"acquisition": "best"}), "best", "itl"),
    ("kernel is a class", selecting(selector={"kernel": RBF}), "RBF", "RBF("),
    ("kernel is a number", selecting(selector={"kernel": 3}), "kernel", "name"),
    ("kernel unknown", selecting(selector={"kernel": "best"}), "best", "rbf"),
    ("standardize is a number", selecting(selector={"standardize": 3}), "standardize", "True"),
    ("standardize unknown", selecting(selector={"standardize": "best"}), "best", "whiten"),
    ("layout unknown", selecting(selector={"layout": "tsne"}), "tsne", "pca"),
    ("on_bad_rows unknown", selecting(selector={"on_bad_rows": "drop"}), "on_bad_rows", "skip"),
    ("shortlist is text", selecting(selector={"shortlist": "few"}), "shortlist", "auto"),
    ("shortlist is 0", selecting(selector={"shortlist": 0}), "shortlist", "at least 1"),
    ("shortlist of fewer rows", selecting(count=5, selector={"shortlist": 3}), "shortlist", "5"),
    ("columns of no mapping", selecting(selector={"columns": 3}), "columns", "prompt"),
    ("columns that are missing", selecting(selector={"columns": {"prompt": "x"}}), "'x'", "columns"),
    ("embedder is a model", lambda _: Selector(object()), "embedder", "Embedder"),
    ("embedder is a class", lambda _: Selector(HiddenStates), "HiddenStates", "embedder"),
    ("replace is text", lambda _: SelectionConstraints(replace="no"), "replace", "True"),
    ("exclude out of range", selecting(constraints=SelectionConstraints(exclude=[99])), "exclude", "99"),
    ("exclude all", selecting(constraints=SelectionConstraints(exclude=list(range(9)))), "num_examples", "0 rows"),
    ("costs without a budget", selecting(constraints=SelectionConstraints(costs=COSTS)), "costs", "token_budget"),
    (
        "budget negative",
        selecting(constraints=SelectionConstraints(token_budget=-1.0, costs=[1.0] * 9)),
        "token_budget",
        "positive",
    ),
    ("budget text", lambda _: SelectionConstraints(token_budget="9"), "token_budget", "positive"),
    ("groups without shares", selecting(constraints=SelectionConstraints(groups="source")), "groups", "group_shares"),
    ("stop_when is a number", lambda _: SelectionConstraints(stop_when=0.1), "stop_when", "StopWhen"),
    ("StopWhen of nothing", lambda _: StopWhen(), "StopWhen", "gain"),
    ("StopWhen of a negative gain", lambda _: StopWhen(gain=-1.0), "gain", "0"),
    ("Shortlist of text", lambda _: Shortlist("few"), "few", "auto"),
    ("Shortlist of a model", lambda _: Shortlist(9, object()), "embedder", "Embedder"),
    ("noise negative", selecting(selector={"noise_std": -1.0}), "noise_std", "positive"),
    ("noise text", selecting(selector={"noise_std": "small"}), "noise_std", "positive"),
    ("noise True", selecting(selector={"noise_std": True}), "noise_std", "positive"),
    (
        "noise in two places",
        selecting(selector={"acquisition": VTL(noise_std=1.0), "noise_std": 2.0}),
        "noise_std",
        "VTL",
    ),
    ("a seed of 70 bits", selecting(selector={"acquisition": "random", "seed": 2**70}), "seed", "2**63"),
    (
        "a budget that fits no row",
        selecting(constraints=SelectionConstraints(token_budget=1.0, costs=[2.0] * 9)),
        "token_budget",
        "allows no row",
    ),
    (
        "a share that fits no row",
        selecting(constraints=SelectionConstraints(groups=[0, 1, 2] * 3, group_shares=0.1)),
        "group_shares",
        "Raise the shares",
    ),
    ("a seed for ITL", selecting(selector={"seed": "x"}), "seed", "random"),
    ("a pool of one dimension", picking(GRID[0]), "pool", "(n, d)"),
    ("an empty array", picking(GRID[:0]), "pool", "empty"),
    ("targets of another width", picking(targets=GRID[:2, :1]), "targets", "pool"),
    ("NaN in targets", picking(targets=NAN[:2]), "targets", "NaN"),
    ("infinite targets", picking(targets=np.full((1, 2), np.inf)), "targets", "infinity"),
    ("more than the pool", picking(count=99), "num_examples", "9 rows"),
    ("texts of other length", picking(acquisition="bm25", texts=(["a"], ["b"])), "texts", "9"),
    ("words without texts", picking(acquisition="bm25"), "texts", "bm25"),
    ("an object array", picking(np.array([["a", "b"]])), "pool", "float"),
    *(
        (
            f"{kind.__name__}: {name}={value!r}",
            lambda _, kind=kind, name=name, value=value: kind("some/model", **{name: value}),
            name,
            remedy,
        )
        for kind in (HiddenStates, Gradients, SentenceEncoder)
        for name, value, remedy in (
            ("max_length", 0, "at least 1"),
            ("max_length", "x", "at least 1"),
            ("max_length", 1.5, "at least 1"),
            ("batch_tokens", 0, "at least 1"),
            ("dtype", "int8", "float32"),
            ("device", "gpu", "cpu"),
            ("device", "cuda:99", "cpu"),
        )
    ),
    ("HiddenStates: span", lambda _: HiddenStates("some/model", span="all"), "span", "whole"),
    ("HiddenStates: layer text", lambda _: HiddenStates("some/model", layer="x"), "layer", "0.75"),
    ("HiddenStates: layer True", lambda _: HiddenStates("some/model", layer=True), "layer", "0.75"),
    ("HiddenStates: layer 1.5", lambda _: HiddenStates("some/model", layer=1.5), "layer", "0 to 1"),
    ("HiddenStates: no layer", lambda _: HiddenStates("some/model", layer=[]), "layer", "0.75"),
    ("HiddenStates: pooling", lambda _: HiddenStates("some/model", pooling="max"), "pooling", "mean"),
    ("HiddenStates: skip_tokens", lambda _: HiddenStates("some/model", skip_tokens=1.5), "skip_tokens", "0 or more"),
    ("Gradients: labels", lambda _: Gradients("some/model", labels="all"), "labels", "completion"),
    ("Gradients: rank", lambda _: Gradients("some/model", rank=0), "rank", "at least 1"),
    ("Gradients: dimension", lambda _: Gradients("some/model", dimension=2.5), "dimension", "at least 1"),
    ("load_rows of nothing", lambda _: load_rows(""), "''", "file"),
    ("load_rows of a NUL", lambda _: load_rows("a\0b"), "a\\x00b", "file"),
    ("load_rows of a missing file", lambda _: load_rows("missing.jsonl"), "missing.jsonl", "no such file"),
]
