"""The actions of a user, as functions that can be sent to the client process."""

from __future__ import annotations

import time
import warnings
from unittest import mock

from itl_hf import Selection


def push(selection, repo_id="me/subset", **options):
    return selection.push_to_hub(repo_id, **options)


def push_with_warnings(selection, repo_id="me/subset", **options):
    """Returns the texts of the warnings."""
    with warnings.catch_warnings(record=True) as warning_list:
        warnings.simplefilter("always")
        selection.push_to_hub(repo_id, **options)
    return [str(warning.message) for warning in warning_list]


def push_without_waiting(selection, repo_id="me/subset", **options):
    """Returns the seconds of all pauses, including those of `huggingface_hub`, without waiting."""
    pauses = []
    with mock.patch.object(time, "sleep", pauses.append):
        selection.push_to_hub(repo_id, **options)
    return pauses


def pull(repo_id="me/subset", **options):
    """Returns the selection and the texts of the warnings."""
    with warnings.catch_warnings(record=True) as warning_list:
        warnings.simplefilter("always", UserWarning)
        selection = Selection.from_hub(repo_id, **options)
    return selection, [str(warning.message) for warning in warning_list if warning.category is UserWarning]


def load(repo_id="me/subset", name=None, **options):
    from datasets import load_dataset

    rows = load_dataset(repo_id, name, split="train", **options)
    return rows.features, list(rows)


def load_card(repo_id="me/subset"):
    from huggingface_hub import DatasetCard

    card = DatasetCard.load(repo_id)
    card.validate()
    return card.data.to_dict(), card.text


def make_dataset(repo_id, rows, card=None):
    """Publishes a dataset that is not a selection, with `datasets` itself."""
    from datasets import Dataset
    from huggingface_hub import DatasetCard

    Dataset.from_list(rows).push_to_hub(repo_id)
    if card is not None:
        DatasetCard(card).push_to_hub(repo_id, repo_type="dataset")


def upload(repo_id, path, data):
    from huggingface_hub import HfApi

    HfApi().upload_file(path_or_fileobj=data, path_in_repo=path, repo_id=repo_id, repo_type="dataset")


def make_repository(repo_id, **options):
    from huggingface_hub import HfApi

    HfApi().create_repo(repo_id, repo_type="dataset", **options)
