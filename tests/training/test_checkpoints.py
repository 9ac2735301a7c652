"""The checkpoint to resume from is the newest that was written to its end."""

from __future__ import annotations

import pytest
import torch

from itl_hf.training.checkpoints import last_whole_checkpoint


def checkpoint(folder, step, ranks=("",)):
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    for rank in ranks:
        torch.save({"state": torch.zeros(3)}, path / f"rng_state{rank}.pth")
    (path / "trainer_state.json").write_text('{"global_step": 1}')
    return path


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("name", ["trainer_state.json", "rng_state.pth"])
def test_one_that_was_not_written_to_its_end_is_passed_over(tmp_path, name):
    assert last_whole_checkpoint(tmp_path) is None
    older, newer = checkpoint(tmp_path, 9), checkpoint(tmp_path, 10)
    (tmp_path / "checkpoint-99").mkdir()
    (tmp_path / "checkpoint-best").mkdir()
    assert last_whole_checkpoint(tmp_path) == newer
    cut(newer / name)
    assert last_whole_checkpoint(tmp_path) == older


def test_every_process_must_have_written_its_state(tmp_path):
    older, newer = (checkpoint(tmp_path, step, ("_0", "_1")) for step in (1, 2))
    assert last_whole_checkpoint(tmp_path, 2) == newer
    cut(newer / "rng_state_1.pth")
    assert last_whole_checkpoint(tmp_path, 2) == older
    only_model = checkpoint(tmp_path, 3, ())
    assert last_whole_checkpoint(tmp_path, 2) == only_model
