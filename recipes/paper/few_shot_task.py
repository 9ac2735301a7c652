"""The task of the few-shot experiment: a pool in which the labels of interest are rare, and a linear classifier.

Setting of Huebotter et al., "Transductive Active Learning: Theory and Applications" (NeurIPS 2024), section 5, with
definitions in place of images: a few of many labels are of interest, and the targets are unlabelled examples of these.
A head on a pre-trained encoder is trained on the rows that were picked and labelled, and tested on the labels of
interest.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

#: Rows of each label in the pool, unlabelled targets and test rows of each label of interest.
RARE, COMMON, TARGETS, TEST = 80, 200, 10, 200
#: Inverse strength of the ridge penalty, for features of norm 1, chosen with random picks on the development labels.
HEAD_C = 3.0


@dataclass(frozen=True)
class Task:
    """The data of one seed.

    Args:
        pool (`np.ndarray`):
            (N, d) features of the rows that may be picked and labelled.
        pool_labels (`np.ndarray`):
            (N,) their labels.
        targets (`np.ndarray`):
            (m, d) features of unlabelled examples of the labels of interest.
        test (`np.ndarray`):
            (t, d) features of rows to be classified, of the labels of interest.
        test_labels (`np.ndarray`):
            (t,) their labels.
        labels_of_interest (`tuple[str, ...]`):
            The labels of interest.
    """

    pool: np.ndarray
    pool_labels: np.ndarray
    targets: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray
    labels_of_interest: tuple[str, ...]


@dataclass(frozen=True)
class Sizes:
    """How many rows of each label.

    Args:
        rare (`int`):
            Rows of a label of interest in the pool.
        common (`int`):
            Rows of any other label in the pool.
        targets (`int`):
            Unlabelled examples of a label of interest.
        test (`int`):
            Test rows of a label of interest.
        labels_of_interest (`int`):
            Number of labels of interest.
    """

    rare: int = RARE
    common: int = COMMON
    targets: int = TARGETS
    test: int = TEST
    labels_of_interest: int = 5


def draw_task(features: np.ndarray, labels: np.ndarray, among: Sequence[str], seed: int, sizes: Sizes) -> Task:
    """Draws labels of interest and disjoint pool, targets and test rows.

    Args:
        features (`np.ndarray`):
            (n, d), norm 1.
        labels (`np.ndarray`):
            (n,).
        among (`Sequence[str]`):
            Labels that may be of interest.
        seed (`int`):
            Seed of all draws.
        sizes (`Sizes`):
            Numbers of rows.
    """
    generator = np.random.default_rng(seed)
    labels_of_interest = tuple(
        sorted(generator.choice(sorted(among), sizes.labels_of_interest, replace=False).tolist())
    )
    pool, targets, test = list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
    for label in sorted(set(labels.tolist())):
        rows = generator.permutation(np.flatnonzero(labels == label))
        if label not in labels_of_interest:
            pool.append(rows[: sizes.common])
            continue
        ends = np.cumsum([sizes.rare, sizes.targets, sizes.test])
        pool.append(rows[: ends[0]])
        targets.append(rows[ends[0] : ends[1]])
        test.append(rows[ends[1] : ends[2]])
    # Shuffled, because ties are broken by the lowest row number and must not favour a label.
    pool_rows = generator.permutation(np.concatenate(pool))
    test_rows = np.concatenate(test)
    return Task(
        features[pool_rows],
        labels[pool_rows],
        features[np.concatenate(targets)],
        features[test_rows],
        labels[test_rows],
        labels_of_interest,
    )


class Head:
    """A linear classifier on the encoder: multinomial logistic regression over a fixed list of labels.

    All labels have the same weight, however many rows of them were picked, since the picks are not a random sample of
    the test rows.

    Args:
        labels (`Sequence[str]`):
            All labels.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = np.array(sorted(set(labels)))
        self._model: LogisticRegression | None = None
        self._only_label: str | None = None

    def fit(self, features: np.ndarray, labels: np.ndarray) -> Head:
        """Trains on rows, (n, d), and their labels, (n,)."""
        distinct_labels = set(labels.tolist())
        self._only_label = next(iter(distinct_labels)) if len(distinct_labels) == 1 else None
        if self._only_label is None:
            model = LogisticRegression(C=HEAD_C, class_weight="balanced", max_iter=500)
            with warnings.catch_warnings():
                warnings.filterwarnings(
                    "ignore", message="The number of unique classes"
                )  # ten rows may have nine labels
                self._model = model.fit(features, labels)
        return self

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Returns the probabilities of all labels, (n, K): equal before training, and 0 for labels without a row."""
        probabilities = np.zeros((len(features), len(self.labels)))
        if self._only_label is not None:
            probabilities[:, self.labels == self._only_label] = 1
        elif self._model is None:
            probabilities[:] = 1 / len(self.labels)
        else:
            probabilities[:, np.searchsorted(self.labels, self._model.classes_)] = self._model.predict_proba(features)
        return probabilities

    def accuracy(self, features: np.ndarray, labels: np.ndarray) -> float:
        """Returns the share of rows whose label is the most probable one."""
        return float((self.labels[self.probabilities(features).argmax(1)] == labels).mean())

    def errors(self, features: np.ndarray) -> np.ndarray:
        """Returns gradients of the loss with respect to the logits at the predicted labels, (n, K)."""
        errors = self.probabilities(features)
        errors[np.arange(len(errors)), errors.argmax(1)] -= 1
        return errors
