"""Resuming a run from a checkpoint, also in the middle of an epoch.

A run trains on the same rows after resuming because three things are restored:

- *The selection and its order.* With every checkpoint, the settings of the attached selection are written to
  `trainer_state.json` under [`STATE_NAME`]. `state_from_checkpoint` compares them when training resumes: another
  selection, order or seed is an error instead of a run that silently trains on other rows.
- *The position in the epoch.* The Trainer restores it: it iterates over the epoch from its start and skips the batches
  that were trained on. This works because the order of an epoch depends on the selection, the seed and the epoch
  alone. `Attachment.on_epoch_begin` sets the epoch of the sampler also if the epoch is resumed in the middle. In a
  training loop of your own, `SelectionSampler.state_dict` and `load_state_dict` save and restore the position.
- *The picks of active rounds.* The checkpoint holds the picks of every round, and `ActiveRounds.resume_run` reads them,
  so that the round that was interrupted is not selected again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import TrainerState

#: Key of the attached selection in `trainer_state.json`.
STATE_NAME = "ItlSelectionCallback"


def export_state(selection_state: dict[str, Any]) -> dict[str, Any]:
    """Returns the entry of an attached selection in `trainer_state.json`."""
    # The Trainer may rebuild a callback from `args` and `attributes` alone, so there are none.
    return {"args": {}, "attributes": {}, "selection": selection_state}


def state_from_checkpoint(trainer_state: TrainerState, settings: dict[str, Any]) -> dict[str, Any]:
    """Reads the state of the selection that a checkpoint was trained with, and checks that it is the attached one.

    Args:
        trainer_state (`transformers.TrainerState`):
            The state that the Trainer read from the checkpoint.
        settings (`dict`):
            The settings of the selection that is attached now.

    Returns:
        `dict`: What `Attachment.state` returned when the checkpoint was written.

    Raises:
        `ValueError`: If the checkpoint was written without an attached selection or with other settings.
    """
    callback_states: Any = trainer_state.stateful_callbacks
    callback_state = callback_states.get(STATE_NAME)
    advice = (
        "Attach what it was trained with, or start a new run from its weights: load them as the model and call train() "
        "without resume_from_checkpoint."
    )
    if callback_state is None:
        raise ValueError(
            f"This checkpoint (step {trainer_state.global_step}) was saved without an attached selection. {advice}"
        )
    selection_state: dict[str, Any] = callback_state["selection"]
    differences = describe_differences(selection_state, json.loads(json.dumps(settings)))
    if differences:
        raise ValueError(
            f"This checkpoint (step {trainer_state.global_step}) was trained on another selection than the one "
            f"attached now: {differences}. {advice}"
        )
    return selection_state


def describe_differences(saved_settings: Mapping[str, Any], current_settings: Mapping[str, Any]) -> str:
    """Lists the current settings that have another value in a saved state.

    Returns:
        `str`: The names with both values, separated by commas; empty if all values are equal.

    Example:
        >>> describe_differences({"order": "gain", "seed": 1}, {"order": "gain", "seed": 2})
        'seed 1 (here 2)'
    """
    names = [name for name, value in current_settings.items() if saved_settings.get(name) != value]
    if "kind" in names:  # a selection against active rounds: every other setting differs too
        names = ["kind"]
    return ", ".join(f"{name} {saved_settings.get(name)!r} (here {current_settings[name]!r})" for name in names)
