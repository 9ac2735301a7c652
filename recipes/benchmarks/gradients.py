"""Measures how well sketched gradients approximate the empirical NTK, how fast they are, and their memory.

    OMP_NUM_THREADS=1 python -m recipes.benchmarks.gradients                  # about fifteen minutes on one core
    OMP_NUM_THREADS=1 python -m recipes.benchmarks.gradients --only speed     # quality, labels, speed, memory

Model: SmolLM2-135M-Instruct in float32. CPU seconds of one thread (process time, so that a busy machine does not count,
but shared caches still do), medians of rounds in which all variants alternate. Every variant of `speed` runs the same
rows in the same batches. The baseline is bergson 2.5.1 with its own defaults (a projection to 16 x 16 per layer), in
memory: `pip install --no-deps bergson==2.5.1` and what it imports. Without it, the results say "not measured".
Results are added to `recipes/benchmarks/results/gradients.json`.
"""

from __future__ import annotations

import functools
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast, get_args

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from itl_hf.embedding.embedders.batching import token_batches
from itl_hf.embedding.embedders.gradients import Gradients
from itl_hf.embedding.embedders.gradients.hooks import frozen
from itl_hf.embedding.embedders.gradients.labels import LabelKind
from itl_hf.text import Row, plain_text, training_features
from recipes.benchmarks.parts import run
from recipes.offline import reasoning_pool, smollm2

RESULTS = Path(__file__).parent / "results" / "gradients.json"
MODULES: dict[str, Any] = {"all": "all", "v_proj + down_proj": ["v_proj", "down_proj"]}
TEXTS, LONGEST, BATCH_TOKENS = 90, 64, 2048
#: Rank and dimension of the sketches to compare.
SKETCHES = ((64, 8192), (128, 8192), (256, 8192), (512, 8192), (256, 4096))


@functools.cache
def model() -> Any:
    """Loads the model in evaluation mode."""
    language_model: Any = AutoModelForCausalLM.from_pretrained(str(smollm2()), dtype=torch.float32)
    return language_model.eval()


@functools.cache
def tokenizer() -> Any:
    """Loads the model's tokenizer."""
    return AutoTokenizer.from_pretrained(str(smollm2()))


def short_texts() -> list[Row]:
    """Returns texts of many tasks, with prompt and completion as strings, short enough for whole gradients."""
    names = ("prompt", "completion")
    rows: list[Row] = [
        {**dict(zip(names, plain_text(row), strict=True)), "task": row["task"]} for row in reasoning_pool(2)
    ]
    rows = [{**row, "completion": f" {row['completion']}"} for row in rows]
    return [row for row in rows if len(tokenizer()(row["prompt"] + row["completion"])["input_ids"]) <= LONGEST][:TEXTS]


def embedder(modules: str = "all", **options: Any) -> Gradients:
    """Builds our embedder on the shared model."""
    return Gradients(model(), tokenizer=tokenizer(), modules=MODULES[modules], batch_tokens=BATCH_TOKENS, **options)


def exact_grams(rows: Sequence[Row]) -> dict[str, Tensor]:
    """Returns Gram matrices of whole gradients, (n, n) float64, summed over layers in one backward pass."""
    features = [training_features(tokens) for tokens in embedder().prepare(rows)]
    longest = max(len(row["input_ids"]) for row in features)

    def padded(key: str, value: int) -> Tensor:
        return torch.tensor([row[key] + [value] * (longest - len(row[key])) for row in features])  # (n, T)

    ids, mask, labels = padded("input_ids", 0), padded("attention_mask", 0), padded("labels", -100)
    grams = {name: torch.zeros(len(rows), len(rows), dtype=torch.float64) for name in MODULES}

    def forward_hook(name: str, _module: nn.Module, args: Any, output: Tensor) -> None:
        inputs = args[0].detach() * mask[..., None]

        def backward_hook(change: Tensor) -> None:
            whole = torch.bmm((change * mask[..., None]).transpose(1, 2), inputs).flatten(1)  # (n, d_out d_in)
            gram = (whole @ whole.T).double()
            for key, modules in MODULES.items():
                if modules == "all" or name.rpartition(".")[2] in modules:
                    grams[key] += gram

        cast("Any", output).register_hook(backward_hook)

    linears = [(name, m) for name, m in model().base_model.named_modules() if isinstance(m, nn.Linear)]
    handles = [m.register_forward_hook(functools.partial(forward_hook, name)) for name, m in linears]
    handles.append(model().get_input_embeddings().register_forward_hook(lambda _m, _a, out: out.requires_grad_()))
    with frozen(model()):
        logits = model()(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
        losses = nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="none")
        counts = (labels[:, 1:] != -100).sum(1)
        torch.autograd.backward([(losses.view(len(rows), -1).sum(1) / counts).sum()])
    for handle in handles:
        handle.remove()
    return grams


def cosines(gram: Tensor) -> Tensor:
    """Returns the cosines of all pairs of different rows, (n (n - 1) / 2,)."""
    lengths = gram.diagonal().sqrt()
    first, second = torch.triu_indices(len(gram), len(gram), 1)
    return (gram / lengths[:, None] / lengths)[first, second]


def spearman(first: Tensor, second: Tensor) -> float:
    """Returns the rank correlation."""
    ranks = torch.stack([first.argsort().argsort(), second.argsort().argsort()]).double()
    return float(torch.corrcoef(ranks)[0, 1])


def quality() -> dict[str, Any]:
    """Rank correlation of sketched cosines with those of whole gradients of all linear layers."""
    rows = short_texts()
    exact = {name: cosines(gram) for name, gram in exact_grams(rows).items()}
    results: dict[str, Any] = {
        "texts": len(rows),
        "layers": {name: len(embedder(name).layers) for name in MODULES},
        "exact, v_proj + down_proj only": spearman(exact["all"], exact["v_proj + down_proj"]),
        "deviation of the exact cosines": float(exact["all"].std()),
    }

    def correlation(name: str, **options: Any) -> float:
        features = embedder(name, **options).embed(rows).features.double()
        return spearman(exact["all"], cosines(features @ features.T))

    for name in MODULES:
        results[name] = {f"rank {k}, dimension {d}": correlation(name, rank=k, dimension=d) for k, d in SKETCHES}
    results["defaults, seeds 1 to 3"] = [correlation("all", seed=seed) for seed in (1, 2, 3)]
    return results


def labels() -> dict[str, Any]:
    """Compares kinds of labels for targets and pool by how often the nearest other row is of the same task."""
    rows = short_texts()
    tasks = [row["task"] for row in rows]
    same = torch.tensor([[one == other for other in tasks] for one in tasks]).fill_diagonal_(False)  # (n, n)
    has_another = same.any(1)
    pool = embedder()
    kinds: tuple[LabelKind, ...] = get_args(LabelKind)
    features = {kind: pool.with_labels(kind).embed(rows).features for kind in kinds}
    results: dict[str, Any] = {"texts": len(rows), "with_another_of_their_task": int(has_another.sum())}
    for targets, source in itertools.product(kinds, kinds):
        gram = features[targets] @ features[source].T  # (n, n)
        others = gram.clone().fill_diagonal_(-torch.inf).argmax(1)
        results[f"targets {targets}, pool {source}"] = {
            "cosine_with_own_row": float(gram.diagonal().mean()),
            "nearest_other_is_of_the_same_task": float(
                same[torch.arange(len(rows)), others][has_another].float().mean()
            ),
        }
    return results


def speed(rows: int = 23, rounds: int = 3) -> dict[str, Any]:
    """CPU seconds for the same rows in the same batches, and their ratios to forward passes alone."""
    pool = reasoning_pool(1)
    sample_rows = [pool[i] for i in range(0, len(pool), -(-len(pool) // rows))]
    ours = {f"itl_hf, {name}": embedder(name) for name in MODULES}
    prepared_rows = ours["itl_hf, all"].prepare(sample_rows)
    features = [training_features(tokens) for tokens in prepared_rows]
    batches = token_batches([len(row["input_ids"]) for row in features], BATCH_TOKENS)

    def forward() -> None:
        with torch.no_grad():
            for batch in batches:
                ids, mask = ours["itl_hf, all"].pad([prepared_rows[i].input_ids for i in batch])
                model()(input_ids=ids, attention_mask=mask, use_cache=False)

    variants: dict[str, Callable[[], Any]] = {"forward": forward, "loop": functools.partial(loop, features)}
    variants |= {name: functools.partial(one.embed_prepared, prepared_rows) for name, one in ours.items()}
    baseline = bergson(features, batches)
    if baseline is not None:
        variants["bergson"] = baseline
    times: dict[str, list[float]] = {name: [] for name in variants}
    forward()
    for _ in range(rounds):
        for name, call in variants.items():
            start = time.process_time()
            call()
            times[name].append(time.process_time() - start)
    seconds = {name: statistics.median(values) for name, values in times.items()}
    tokens = sum(len(row["input_ids"]) for row in features)
    return {
        "rows": len(sample_rows),
        "tokens": tokens,
        "batches": len(batches),
        "coverage": {name: one.coverage() for name, one in ours.items()},
        "seconds": seconds,
        "ratio_to_forward": {name: value / seconds["forward"] for name, value in seconds.items()},
        "ratio_to_itl_hf": {name: value / seconds["itl_hf, all"] for name, value in seconds.items()},
        "bergson": "measured" if baseline is not None else "not installed: not measured",
    }


def loop(features: Sequence[dict[str, list[int]]]) -> None:
    """Computes whole gradients of the same layers one row at a time, without a projection."""
    layers = embedder().layers
    weights = [cast("Tensor", layer.module.weight) for layer in layers]
    trainable_parameters = {parameter for parameter in model().parameters() if parameter.requires_grad}
    model().requires_grad_(False)
    for weight in weights:
        weight.requires_grad_(True)
    for row in features:
        ids, labels = (torch.tensor([row[key]]) for key in ("input_ids", "labels"))
        torch.autograd.grad(model()(input_ids=ids, labels=labels, use_cache=False).loss, weights)
    for parameter in model().parameters():
        parameter.requires_grad_(parameter in trainable_parameters)


def bergson(features: Sequence[dict[str, list[int]]], batches: list[list[int]]) -> Callable[[], Any] | None:
    """Returns a call of bergson on the same rows and batches, or `None` if it is not installed."""
    try:
        from bergson import CollectorComputer, GradientProcessor, InMemoryCollector  # type: ignore[import-not-found]
        from bergson import IndexConfig as Config
    except ImportError:
        return None
    data = Dataset.from_list([{key: row[key] for key in ("input_ids", "labels")} for row in features])
    baseline: Any = AutoModelForCausalLM.from_pretrained(str(smollm2()), dtype=torch.float32)
    baseline.eval()
    baseline.requires_grad_(False)
    baseline.get_input_embeddings().requires_grad_(True)  # as bergson's own worker does

    def run() -> Any:
        with tempfile.TemporaryDirectory() as folder:  # bergson writes the losses there
            Path(f"{folder}/run.part").mkdir()
            config = Config(run_path=f"{folder}/run", projection_dim=16, loss_reduction="mean")
            processor = GradientProcessor(projection_dim=16)
            collector = InMemoryCollector(model=baseline.base_model, data=data, cfg=config, processor=processor)
            computer = CollectorComputer(baseline, data, collector=collector, batches=batches, cfg=config)
            computer.run_with_collector_hooks("rows")
        return collector.gradients

    return run


MEASURE = """
import sys, torch
from transformers import LlamaConfig, LlamaForCausalLM
torch.set_num_threads(1)
from itl_hf.embedding.embedders.gradients import Gradients
from itl_hf.text import Tokens
from recipes.benchmarks.gradients import tokenizer
def status_bytes(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) * 1024
kind, vocabulary, length = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
config = LlamaConfig(vocab_size=vocabulary, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
    num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=4096, tie_word_embeddings=True)
model = LlamaForCausalLM(config).eval()
embedder = Gradients(model, tokenizer=tokenizer(), batch_tokens=8 * length)
def rows(count, length):
    return [Tokens([(7 * i + j) % vocabulary for j in range(length)], length - 16) for i in range(count)]
embedder.embed_prepared(rows(1, 32))
before = status_bytes("VmRSS")
if kind == "itl_hf":
    embedder.embed_prepared(rows(8, length))
else:
    ids = torch.tensor([row.input_ids for row in rows(8, length)])
    labels = torch.where(torch.arange(length) < length - 16, -100, ids)
    model(input_ids=ids, labels=labels, use_cache=False).loss.backward()
print(status_bytes("VmHWM") - before)
"""


def memory() -> dict[str, Any]:
    """Peak memory above the loaded model for 8 rows, 16 labels each; a training step's backward pass for comparison."""
    results: dict[str, Any] = {"rows": 8, "labels_a_row": 16}
    smollm2()
    for vocabulary, length in ((49_152, 128), (49_152, 1024), (196_608, 128), (196_608, 1024)):
        case: dict[str, float] = {"logits_mib": 8 * length * vocabulary * 4 / 2**20}
        for kind in ("itl_hf", "backward"):
            if kind == "backward" and case["logits_mib"] > 2048:
                continue  # would need three times as much memory
            command = [sys.executable, "-c", MEASURE, kind, str(vocabulary), str(length)]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            case[f"{kind}_mib"] = float(output.split()[-1]) / 2**20
        results[f"vocabulary {vocabulary}, length {length}"] = case
    return results


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "quality": quality,
    "labels": labels,
    "speed": speed,
    "memory": memory,
}


if __name__ == "__main__":
    run(PARTS, RESULTS, __doc__)
