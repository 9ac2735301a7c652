"""Options of the quickstart. The defaults are those of the numbers in README.md.

They need two cores, 6 GiB of memory and five minutes. A pool of this size, few held-out rows and an adapter on the
upper third of the layers are for that. The larger run is
`--rows_per_task 47 --heldout_per_task 32 --first_lora_layer 0`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from recipes.offline import smollm2


def _option(default: Any, help_text: str) -> Any:
    return field(default=default, metadata={"help": help_text})


@dataclass(frozen=True)
class Settings:
    """Options of `python -m recipes.quickstart`; each field is a flag of the same name."""

    model_name_or_path: str | None = _option(
        None, "Model to embed with and to fine-tune: a Hub id or a folder. Without it, SmolLM2-135M from its package."
    )
    output_dir: str = _option("outputs/quickstart", "Where selection, adapter, report and results are written.")
    num_examples: int = _option(96, "Rows to pick and train on.")
    rows_per_task: int = _option(24, "Rows of each kind of task in the pool.")
    heldout_per_task: int = _option(16, "Labelled rows of each target task to measure the loss on; never trained on.")
    layer: float = _option(0.75, "Hidden states to embed with, as a fraction of the model's depth.")
    pooling: Literal["mean", "last", "weighted_mean"] = _option(
        "mean", "How a prompt's hidden states become one vector."
    )
    batch_tokens: int = _option(4096, "Tokens in one forward pass while embedding.")
    max_length: int = _option(512, "Longer rows are cut to this many tokens.")
    lora_r: int = _option(8, "Rank of the LoRA adapter.")
    first_lora_layer: float = _option(
        2 / 3, "The adapter is on the layers from here on, as a fraction of the model's depth; 0 is all of them."
    )
    learning_rate: float = _option(1e-3, "Peak learning rate; it falls linearly to zero.")
    batch_size: int = _option(4, "Rows in a training step.")
    seed: int = _option(0, "Seed of the data, of the random picks, of the adapter's first weights and of the order.")

    def model_path(self) -> str:
        """Returns the model that was given, or the packaged one, which is converted on first use."""
        return self.model_name_or_path or str(smollm2())

    def identity(self) -> dict[str, Any]:
        """Returns the settings that a result depends on: all but the output folder."""
        return {name: value for name, value in asdict(self).items() if name != "output_dir"}

    @property
    def output(self) -> Path:
        """The output folder as a path."""
        return Path(self.output_dir)
