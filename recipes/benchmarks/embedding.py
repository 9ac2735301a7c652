"""Measures the speed of embedding against the usual loop and against plain forward passes, and its memory.

    python -m recipes.benchmarks.embedding                       # results/embedding.json, about twenty minutes
    python -m recipes.benchmarks.embedding --only hidden gpu

Times are CPU seconds of one thread (on a GPU, wall-clock seconds of one process). All variants of a part alternate on
the same chunks of texts, so that a busy machine slows all of them equally.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import AutoTokenizer

from itl_hf import Gradients, HiddenStates, SentenceEncoder
from itl_hf.embedding import embed, token_batches
from itl_hf.text import Tokens, plain_text
from recipes.benchmarks.parts import run
from recipes.benchmarks.pools import Texts, minilm
from recipes.offline import smollm2

RESULTS = Path(__file__).parent / "results" / "embedding.json"
CHUNK = 256
MATRIX = 8192


def mixed_texts(count: int, seed: int = 0) -> list[str]:
    """Returns prompts with answers in random order. Some are joined, so that the lengths vary widely."""
    rows = [" ".join(plain_text(row)) for row in Texts(0).pool]
    rng = random.Random(seed)
    texts = [" ".join(rng.choices(rows, k=rng.choice((1, 1, 1, 2)))) for _ in range(count)]
    return texts


def take_turns(
    ways: dict[str, Callable[[list[str]], object]], texts: list[str], chunk: int = CHUNK
) -> dict[str, float]:
    """Returns the CPU seconds of each variant over all texts. They alternate every `chunk` texts."""
    seconds = dict.fromkeys(ways, 0.0)
    for way in ways.values():
        way(texts[:16])
    for first in range(0, len(texts), chunk):
        for name, way in ways.items():
            start = time.process_time()
            way(texts[first : first + chunk])
            seconds[name] += time.process_time() - start
    return seconds


def forward_passes(model: Any, shapes: Sequence[tuple[int, int]], device: str) -> None:
    """Runs forward passes over batches of shape (rows, length), without padding, tokenization or pooling."""
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        for rows, length in shapes:
            model(input_ids=torch.randint(5, 40_000, (rows, length), generator=generator).to(device), use_cache=False)


def ideal_shapes(tokenizer: Any, texts: list[str], batch_tokens: int) -> list[tuple[int, int]]:
    """Returns the shapes of batches without padding that have as many tokens as the texts."""
    lengths = [len(ids) for ids in tokenizer(texts)["input_ids"]]
    return [
        (len(batch), round(sum(lengths[i] for i in batch) / len(batch)))
        for batch in token_batches(lengths, batch_tokens)
    ]


def usual_loop(model: Any, tokenizer: Any, texts: list[str], batch_size: int = 32) -> torch.Tensor:
    """Embeds with the usual loop: batches in the given order, padded, with the hidden states of all layers."""
    pooled_states = []
    for first in range(0, len(texts), batch_size):
        batch = tokenizer(texts[first : first + batch_size], padding=True, return_tensors="pt").to(model.device)
        with torch.no_grad():
            hidden = model(**batch, output_hidden_states=True).hidden_states[-1]
        mask = batch["attention_mask"][..., None]
        pooled_states.append((hidden * mask).sum(1) / mask.sum(1))
    return torch.cat(pooled_states)


def hidden(count: int = 2048) -> dict[str, Any]:
    """SmolLM2-135M on texts of mixed lengths: ours with all or half of the layers, the usual loop, forward passes."""
    full = HiddenStates(str(smollm2()), layer=-1)
    half = HiddenStates(full.backbone.model, tokenizer=full.tokenizer, layer=0.5)
    model, tokenizer = full.backbone.model, full.tokenizer
    texts, budget = mixed_texts(count), 8192

    def ours(embedder: HiddenStates) -> Callable[[list[str]], object]:
        return lambda part: embed(Dataset.from_dict({"text": part}), embedder, description="")

    seconds = take_turns(
        {
            "all_layers": ours(full),
            "half_of_the_layers": ours(half),
            "usual_loop": lambda part: usual_loop(model, tokenizer, part),
            "bare_forward": lambda part: forward_passes(model, ideal_shapes(tokenizer, part, budget), "cpu"),
        },
        texts,
    )
    lengths = [len(ids) for ids in tokenizer(texts)["input_ids"]]
    return {
        "texts": count,
        "tokens": sum(lengths),
        "shortest_median_longest": [min(lengths), int(np.median(lengths)), max(lengths)],
        "seconds": seconds,
        "tokens_per_second": sum(lengths) / seconds["all_layers"],
        "share_of_bare_forward": seconds["bare_forward"] / seconds["all_layers"],
        "times_the_usual_loop": seconds["usual_loop"] / seconds["all_layers"],
        "half_against_all": seconds["all_layers"] / seconds["half_of_the_layers"],
    }


def sentences(count: int = 8192) -> dict[str, Any]:
    """all-MiniLM-L6-v2: our embedder and driver against `SentenceTransformer.encode` on the same texts."""
    embedder = SentenceEncoder(minilm())
    texts = mixed_texts(count)
    model: Any = embedder.model
    seconds = take_turns(
        {
            "ours": lambda part: embed(Dataset.from_dict({"text": part}), embedder, description=""),
            "encode": lambda part: model.encode(part, batch_size=32, show_progress_bar=False),
        },
        texts,
        chunk=2048,
    )
    mine = np.asarray(embed(Dataset.from_dict({"text": texts[:64]}), embedder, description=""))
    apart = float(np.abs(mine - model.encode(texts[:64])).max())
    return {
        "texts": count,
        "seconds": seconds,
        "ours_against_encode": seconds["encode"] / seconds["ours"],
        "largest_difference": apart,
    }


MEASURE = """
import sys, torch
torch.set_num_threads(1)
from datasets import Dataset
from itl_hf import SentenceEncoder
from itl_hf.embedding import embed
from recipes.benchmarks.embedding import mixed_texts
from recipes.benchmarks.pools import minilm
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
def texts(count):
    few = mixed_texts(500)
    for i in range(count):
        yield {"text": f"{i} {few[i % 500]}"[:80]}
rows = int(sys.argv[1])
data = Dataset.from_generator(texts, gen_kwargs={"count": rows}, cache_dir=sys.argv[2])
embed(data, SentenceEncoder(minilm()), sys.argv[2] + "/features")
print(peak())
"""


def memory() -> dict[str, Any]:
    """Peak memory for 10k and for 40k rows. It should be nearly equal, since features are written to disk."""
    import tempfile

    results: dict[str, Any] = {}
    for rows in (10_000, 40_000):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-c", MEASURE, str(rows), folder]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        results[f"peak_mib_{rows}_rows"] = int(output.split()[-1]) / 2**20
    results["growth"] = results["peak_mib_40000_rows"] / results["peak_mib_10000_rows"]
    return results


def gpu() -> dict[str, Any]:
    """On a GPU: a Llama of about 1B parameters, random weights, bf16, T = 512."""
    if not torch.cuda.is_available():
        return {"device": "none: not measured"}
    sizes = {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32}
    return {"device": torch.cuda.get_device_name(), **accelerator("cuda", sizes, rows=64, length=512)}


def accelerator(device: str, sizes: dict[str, Any], rows: int, length: int) -> dict[str, Any]:
    """Forward passes and gradients of a random Llama: tokens per second, share of the matrix peak, ratio to a loop."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(smollm2())
    config = LlamaConfig(**sizes, num_key_value_heads=8, vocab_size=len(tokenizer), max_position_embeddings=2048)
    causal: Any = LlamaForCausalLM(config)
    causal = causal.to(device, torch.bfloat16).eval()
    ids = torch.randint(5, 40_000, (rows, length), generator=torch.Generator().manual_seed(0))
    tokens = [Tokens(row, length // 2) for row in ids.tolist()]
    ours = Gradients(causal, tokenizer=tokenizer, batch_tokens=16 * length)

    def loop() -> None:
        for row in ids[:8].to(device):
            causal.zero_grad()
            causal(input_ids=row[None], labels=row[None]).loss.backward()

    seconds = {
        "forward": wall(lambda: forward_passes(causal.model, [(16, length)] * (rows // 16), device)),
        "gradients": wall(lambda: ours.embed_prepared(tokens)),
        "per_example_loop": wall(loop) * rows / 8,
        "matrices": wall(lambda: matrices(device)),
    }
    parameters = sum(p.numel() for name, p in causal.named_parameters() if "embed" not in name and "head" not in name)
    peak = 10 * 2 * MATRIX**3 / seconds["matrices"]
    return {
        "parameters": parameters,
        "rows": rows,
        "length": length,
        "seconds": seconds,
        "tokens_per_second": rows * length / seconds["forward"],
        "share_of_matrix_peak": 2 * parameters * rows * length / seconds["forward"] / peak,
        "gradients_against_loop": seconds["per_example_loop"] / seconds["gradients"],
        "gradients_to_forward": seconds["gradients"] / seconds["forward"],
    }


def matrices(device: str) -> None:
    """Multiplies square bf16 matrices ten times, to measure the device's peak."""
    square = torch.ones(MATRIX, MATRIX, device=device, dtype=torch.bfloat16)
    for _ in range(10):
        square @ square


def wall(call: Callable[[], object]) -> float:
    """Returns the median wall-clock seconds of three calls after a warm-up call, with the device synchronized."""
    times = []
    for _ in range(4):
        start = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "hidden": hidden,
    "sentences": sentences,
    "memory": memory,
    "gpu": gpu,
}


if __name__ == "__main__":
    run(PARTS, RESULTS, __doc__)
