"""What is tried on each model: hidden states, early exit, gradients, packing, LoRA."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import peft
import torch
from torch import Tensor
from transformers import PreTrainedModel

from itl_hf import HiddenStates
from recipes.model_page.build import build
from recipes.model_page.gradient_check import check_gradients
from recipes.model_page.references import pooled_layers
from recipes.model_page.rows import word_ids, word_rows, word_tokenizer

#: Largest relative difference that counts as equal; where gradients could only be computed in float32, the rounding of
#: sums over a row's tokens and a mixture's experts may exceed it.
TOLERANCE, FLOAT32_TOLERANCE = 1e-5, 5e-5


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Args:
        verdict (`str`):
            `"yes"`, `"refused"` (an error of itl_hf with its reason), `"no"` (does not apply), `"wrong"` (numbers
            differ from the reference), `"fails"` (another error).
        note (`str`, *optional*):
            Reason, error or restriction.
        difference (`float`, *optional*):
            Largest relative difference from the reference.
    """

    verdict: str
    note: str = ""
    difference: float | None = None


def run_checks(name: str) -> dict[str, Any]:
    """Returns what was found for a configuration: the class, and a `Finding` for each check."""
    model = build(name)
    findings = {
        "hidden states": attempt(lambda: check_hidden_states(model)),
        "early exit": attempt(lambda: check_early_exit(model)),
        "gradients": attempt(lambda: gradients_of(lambda: build(name))),
        "packing": attempt(lambda: check_packing(model)),
        "LoRA": attempt(lambda: check_lora(name)),
    }
    return {"class": type(model).__name__, **{check: asdict(one) for check, one in findings.items()}}


def attempt(check: Callable[[], Finding]) -> Finding:
    """Runs a check; an error becomes a finding."""
    try:
        return check()
    except (ValueError, TypeError) as error:
        verdict = "refused" if _is_own(error) else "fails"
        return Finding(verdict, f"{type(error).__name__}: {error}" if verdict == "fails" else str(error))
    except Exception as error:
        return Finding("fails", f"{type(error).__name__}: {error}")


def _is_own(error: BaseException) -> bool:
    """Returns whether an error was raised by itl_hf itself."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is not None and "itl_hf" in str(traceback.tb_frame.f_globals.get("__name__", ""))


def compare(results: Tensor, references: Tensor, note: str = "") -> Finding:
    """Compares rows of two matrices (n, d)."""
    if results.shape != references.shape:
        return Finding("wrong", f"shape {tuple(results.shape)} instead of {tuple(references.shape)}")
    results, references = results.double(), references.double()
    if not bool(torch.isfinite(references).all()):
        return Finding("fails", "the model's own hidden states are not finite")
    difference = float(((results - references).norm(dim=1) / references.norm(dim=1).clamp_min(1e-30)).max())
    return Finding("yes" if difference <= TOLERANCE else "wrong", note, difference)


def check_hidden_states(model: PreTrainedModel) -> Finding:
    """Compares rows of a padded batch with `output_hidden_states` of each row alone."""
    embedder = HiddenStates(model, tokenizer=word_tokenizer(), layer=[1, 0.75, -1])
    features = embedder.embed(word_rows())
    references = torch.stack([pooled_layers(embedder, [ids])[0] for ids in word_ids()])
    grouping = embedder._batches.grouping or "padded"
    note = {"padded": "", "equal lengths": "batches of one length", "single rows": "rows one by one"}[grouping]
    finding = compare(features, references, note)
    if finding.verdict == "yes" and grouping == "padded":
        finding = compare(features, pooled_layers(embedder, word_ids()))
    return finding


def check_early_exit(model: PreTrainedModel) -> Finding:
    """Counts the blocks that run for the default layer."""
    embedder = HiddenStates(model, tokenizer=word_tokenizer())
    embedder.embed(word_rows()[:1])
    ran: set[int] = set()
    blocks = list(embedder.backbone.blocks or ())
    handles = [
        block.register_forward_hook(lambda *_, number=number: ran.add(number)) for number, block in enumerate(blocks)
    ]
    embedder.embed(word_rows())
    for handle in handles:
        handle.remove()
    if not embedder.backbone._early_exit:
        return Finding("no", "every pass runs all layers")
    return Finding("yes" if len(ran) == max(embedder.layers) else "wrong", f"{len(ran)} of {len(blocks)} blocks")


def check_packing(model: PreTrainedModel) -> Finding:
    """Compares packed batches with padded ones."""
    plain, packed = (HiddenStates(model, tokenizer=word_tokenizer(), packing=packing) for packing in (False, True))
    return compare(packed.embed(word_rows()), plain.embed(word_rows()))


def gradients_of(make: Callable[[], PreTrainedModel]) -> Finding:
    """Compares sketched gradients of a batch with autograd, row by row."""
    with _quiet():
        difference, share, note = check_gradients(make)
    if difference is None:
        return Finding("refused", note)
    text = f"{100 * share:.0f}% of parameters" + (f"; {note}" if note else "")
    tolerance = FLOAT32_TOLERANCE if "float32" in note else TOLERANCE
    return Finding("yes" if difference <= tolerance else "wrong", text, difference)


def check_lora(name: str) -> Finding:
    """Compares hidden states and gradients under a LoRA adapter with those of the adapted model."""

    def adapted() -> Any:
        config = peft.LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, lora_alpha=8)
        torch.manual_seed(1)
        return peft.get_peft_model(build(name), config).float().eval()

    try:
        model = adapted()
        if not model.config.is_encoder_decoder:  # whose decoder has no input here
            with torch.no_grad():
                model(input_ids=torch.tensor(word_ids()[:1]), use_cache=False)
    except Exception as error:
        return Finding("no", f"PEFT: {type(error).__name__}: {error}")
    embedder = HiddenStates(model, tokenizer=word_tokenizer(), layer=[1, 0.75, -1])
    features = embedder.embed(word_rows())
    references = torch.stack([pooled_layers(embedder, [ids])[0] for ids in word_ids()])
    finding = compare(features, references)
    plain = HiddenStates(build(name), tokenizer=word_tokenizer(), layer=[1, 0.75, -1]).embed(word_rows())
    if finding.verdict != "yes":
        return finding
    if bool(((features - plain).norm(dim=1) < 1e-3 * plain.norm(dim=1)).any()):
        return Finding("no", "the hidden states depend on no layer that the adapter changes")
    gradients = attempt(lambda: gradients_of(adapted))
    if gradients.verdict == "refused":
        return Finding("yes", "hidden states only", finding.difference)
    return Finding(gradients.verdict, f"gradients: {gradients.note}", gradients.difference)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("itl_hf")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
