"""The sampler that verl builds from its configuration: against verl's interface, and against the class itself."""

from __future__ import annotations

import importlib
import sys
import types
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset

from itl_hf.training import SelectionSampler, verl_sampler
from itl_hf.training.verl_sampler import VerlSelectionSampler
from tests.training import tiny


def parquet_rows(num_rows=40, **columns):
    """Rows as verl's preprocessing scripts write them."""
    prompts = [[{"role": "user", "content": text}] for text in tiny.pool(num_rows, text=True)["prompt"]]
    infos = [{"split": "train", "index": row} for row in range(num_rows)]
    return Dataset.from_dict({"prompt": prompts, "extra_info": infos, **columns})


@pytest.fixture(scope="module")
def selection(tmp_path_factory):
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    embedder = tiny.HiddenStates(tiny.model(), tokenizer=tokenizer, layer=2)
    selected = tiny.Selector(embedder).select(parquet_rows(), ["row90 and to to"], 8, replay_share=0.2)
    selected.save(tmp_path_factory.mktemp("selected") / "selection")
    return selected, str(tmp_path_factory.getbasetemp() / "selected0" / "selection")


def rl_dataset(rows):
    """What the sampler gets of verl's `RLHFDataset`: a length, and the rows as a `datasets.Dataset`."""
    return type("RLHFDataset", (), {"dataframe": rows, "__len__": lambda self: len(self.dataframe)})()


def config(folder, **options):
    # With omegaconf verl's section is a DictConfig, which is read in the same way.
    return {"seed": 3, "sampler": {"class_path": "pkg://...", "class_name": "...", "selection": folder, **options}}


def test_the_picks_and_the_order_are_those_of_the_selection(selection):
    selected, folder = selection
    sampler = VerlSelectionSampler(data_source=rl_dataset(parquet_rows()), data_config=config(folder))
    assert list(sampler) == selected.training_indices.tolist()
    assert len(sampler) == 10
    shuffled = VerlSelectionSampler(rl_dataset(parquet_rows()), config(folder, order="shuffled"))
    expected = SelectionSampler(selected, order="shuffled", seed=3)
    passes = []
    for epoch in range(3):
        expected.set_epoch(epoch)
        passes.append(list(shuffled))
        assert passes[-1] == list(expected)
    assert passes[0] != passes[1] != passes[2]


def test_a_checkpoint_in_the_middle_of_an_epoch(selection):
    _, folder = selection
    whole, resumed = (VerlSelectionSampler(rl_dataset(parquet_rows()), config(folder, order="shuffled")) for _ in "ab")
    list(whole)
    passing = iter(whole)
    rows = [next(passing) for _ in range(4)]
    resumed.load_state_dict(whole.state_dict())
    assert rows + list(resumed) == list(VerlSelectionSampler.__iter__(_at_epoch(folder, 1)))
    assert list(resumed) == list(_at_epoch(folder, 2))


def _at_epoch(folder, epoch):
    sampler = VerlSelectionSampler(rl_dataset(parquet_rows()), config(folder, order="shuffled"))
    for _ in range(epoch):
        list(sampler)
    return sampler


def test_rows_that_verl_dropped_are_left_out_and_the_others_found(selection):
    selected, folder = selection
    numbers = selected.training_indices.tolist()
    kept = [row for row in range(40) if row not in (numbers[1], numbers[9], 17)]
    rows = parquet_rows().select(kept)
    with pytest.warns(UserWarning, match="2 of the 10 picks are not in verl's dataset"):
        sampler = VerlSelectionSampler(rl_dataset(rows), config(folder, order="interleaved"))
    found = [rows[position]["extra_info"]["index"] for position in sampler]
    assert sorted(found) == sorted(set(numbers) & set(kept))


def test_what_is_not_the_pool_is_refused(selection):
    _, folder = selection
    with pytest.raises(ValueError, match="another 'prompt' than the row that was picked"):
        VerlSelectionSampler(rl_dataset(parquet_rows().shuffle(seed=0)), config(folder))
    without_numbers = parquet_rows().remove_columns("extra_info").select(range(30))
    with pytest.raises(ValueError, match=r"has 30 rows.*extra_info\.index.*export --format verl"):
        VerlSelectionSampler(rl_dataset(without_numbers), config(folder))
    with pytest.raises(ValueError, match=r"data\.sampler has no option 'ordre'"):
        VerlSelectionSampler(rl_dataset(parquet_rows()), config(folder, ordre="gain"))
    with pytest.raises(ValueError, match=r"data\.sampler needs selection="):
        VerlSelectionSampler(rl_dataset(parquet_rows()), {"sampler": {}})


def test_it_is_a_sampler_of_verl_where_verl_is_installed(selection, monkeypatch):
    """verl asserts `isinstance(sampler, AbstractSampler)`; a stand-in where the package is not installed."""
    _, folder = selection
    try:
        interface = importlib.import_module("verl.experimental.dataset.sampler")
    except ImportError:
        names = ["verl", "verl.experimental", "verl.experimental.dataset", "verl.experimental.dataset.sampler"]
        modules = {name: types.ModuleType(name) for name in names}
        interface = modules[names[-1]]
        interface.AbstractSampler = type("AbstractSampler", (torch.utils.data.Sampler,), {})
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)
    try:
        module = importlib.reload(verl_sampler)
        sampler = module.VerlSelectionSampler(data_source=rl_dataset(parquet_rows()), data_config=config(folder))
        assert isinstance(sampler, interface.AbstractSampler)
        assert isinstance(sampler, torch.utils.data.Sampler)
    finally:
        monkeypatch.undo()
        importlib.reload(verl_sampler)


def test_the_section_of_hydra_is_read():
    omegaconf = pytest.importorskip("omegaconf")
    section = omegaconf.OmegaConf.create({"sampler": {"order": "gain"}})
    with pytest.raises(ValueError, match="needs selection="):
        VerlSelectionSampler(SimpleNamespace(), section)
