"""`Selection`: the picked rows, why each was picked, and everything that is needed to select them again."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Dataset

from itl_hf.embedding.store.atomic_files import DamagedError
from itl_hf.selection.diagnosis.diagnosis import Diagnosis, diagnose
from itl_hf.selection.export.export import Export, export_selection
from itl_hf.selection.replay import behind_picks, gains_with_replay, replay_of
from itl_hf.selection.result import files
from itl_hf.selection.result.deferred import DeferredArray, OptionalDeferredArray
from itl_hf.selection.result.record import SelectionRecord
from itl_hf.selection.screening.screening import Screening

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo


@dataclass(frozen=True)
class Layout:
    """Two-dimensional picture of pool, targets and picks: the pool's first two principal components, or UMAP.

    Args:
        pool (`np.ndarray`):
            (P, 2) float32, a sample of the pool.
        pool_rows (`np.ndarray`):
            (P,) int64, the row numbers of that sample.
        targets (`np.ndarray`):
            (m, 2) float32.
        picks (`np.ndarray`):
            (n, 2) float32.
        explained (`np.ndarray`):
            (2,) float32, share of the pool's variance along each axis; zeros under UMAP.
        method (`str`):
            `"pca"` or `"umap"`.
    """

    pool: np.ndarray
    pool_rows: np.ndarray
    targets: np.ndarray
    picks: np.ndarray
    explained: np.ndarray
    method: str = "pca"


@dataclass(frozen=True)
class Selection:
    """Rows picked from a pool for the targets of a task.

    Args:
        dataset (`datasets.Dataset`):
            The picked rows in the order picked, the pool's columns and `pool_index`, `itl_rank` (from 1), `itl_gain`
            (see `gains`), `itl_nearest_target` (row number in `targets`), `itl_similarity` (prior correlation with that
            target under the kernel).
        targets (`datasets.Dataset`):
            The target rows as given.
        indices (`np.ndarray`):
            (n,) int64, row numbers in the pool in the order picked.
        gains (`np.ndarray`):
            (n,) float64, what each pick adds to those before it: for ITL and the baselines the information about the
            targets in nats, otherwise the value of the objective, such as the variance that a pick of VTL removes.
        target_variance (`np.ndarray`):
            (n + 1, m) float64, posterior variance of each target after 0..n picks: how unsure the model is about it.
        irreducible (`np.ndarray`):
            (m,) float64, the part of each target's variance that no row of the pool can remove. It and `whole_pool` are
            measured when one of them is first read, which may take longer than the selection.
        whole_pool (`np.ndarray`):
            (m,) float64, the variance of each target that would be left after picking every row of the pool once.
        reach (`np.ndarray`):
            (m,) float64, largest prior correlation of each target with any row of the pool.
        pool_size (`int`):
            Rows of the pool.
        record (`SelectionRecord`):
            What was asked for and chosen: acquisition, kernel, noise and its rule, embedder, fingerprints, versions.
        layout (`Layout`):
            The map of pool, targets and picks.
        extend_fn (`Callable`, *optional*):
            Continues the selection; available while pool and features are in memory, not saved.
        features (`np.ndarray`, *optional*):
            (n, d) feature rows of the picks as embedded, while they are in memory; not saved.
        shortlist_rows (`np.ndarray`, *optional*):
            (L,) int64, row numbers of the pool's rows that were embedded, where another embedder made the shortlist.
        whole_pool_information (`np.ndarray`, *optional*):
            (1,) float64, information about the targets that every row of the pool would give, in nats; NaN where it is
            not finite. Where `whole_pool` is an upper bound, this is a lower one.
        replay (`Dataset`, *optional*):
            Rows of the pool's general part that are trained on behind the picks (`replay_share`), with `pool_index`.

    Example:
        >>> from itl_hf import HiddenStates, Selector
        >>> selection = Selector(HiddenStates(model)).select(pool, targets, num_examples=6)
        >>> selection.save("selected").name
        'selected'
        >>> bool((Selection.load("selected").indices == selection.indices).all())
        True
    """

    dataset: Dataset
    targets: Dataset
    indices: np.ndarray
    gains: np.ndarray
    target_variance: np.ndarray
    reach: np.ndarray
    pool_size: int
    record: SelectionRecord
    layout: Layout
    # A descriptor is no default: both are required.
    irreducible: DeferredArray = DeferredArray()  # noqa: RUF009
    whole_pool: DeferredArray = DeferredArray()  # noqa: RUF009
    extend_fn: Callable[[int], Selection] | None = field(default=None, repr=False, compare=False)
    features: np.ndarray | None = field(default=None, repr=False, compare=False)
    shortlist_rows: np.ndarray | None = field(default=None, repr=False, compare=False)
    whole_pool_information: OptionalDeferredArray = OptionalDeferredArray()  # noqa: RUF009
    replay: Dataset | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        name, noise = self.record.acquisition_name, self.record.noise_std
        total = np.average(self.target_variance, axis=1, weights=self.record.weights_of_targets)  # (n + 1,)
        left = total[-1] / max(total[0], 1e-300)
        return (
            f"Selection({len(self)} of {self.pool_size} rows by {name} for {len(self.targets)} targets, "
            f"noise_std={noise:.3g}, target variance left {left:.0%})"
        )

    @property
    def training_dataset(self) -> Dataset:
        """The rows to train on: the picks in their order, and behind them the rows of `replay_share`.

        Without replay it is `dataset`. Replay rows have no gain and no nearest target.
        """
        return behind_picks(self.dataset, self.replay)

    @property
    def training_indices(self) -> np.ndarray:
        """Row numbers of the pool of `training_dataset`, (n + r,) int64."""
        if self.replay is None:
            return self.indices
        return np.concatenate([self.indices, np.asarray(self.replay["pool_index"][:], dtype=np.int64)])

    def save(self, directory: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Writes the selection into a folder. Files that are not of a selection are never changed.

        Images and other files that a column names by a path are written into the Parquet file. If the process dies
        meanwhile, the folder holds the earlier selection or all of this one.

        Args:
            directory (`str` or `PathLike`):
                A folder that is empty or does not exist, or that holds this selection already.
            overwrite (`bool`, *optional*, defaults to `False`):
                Replace another selection in the folder, or write beside files of something else.

        Returns:
            `Path`: The folder.

        Raises:
            `FileExistsError`: If the folder holds another selection or other files and `overwrite` is false, or if a
                file of something else has the name of a selection's file.
            `FileNotFoundError`: If an image that a column names does not exist.
            `ValueError`: If Parquet has no type for a column.
        """
        facts = {"pool_size": self.pool_size, "record": self.record.to_json(), "layout": self.layout.method}
        arrays = {name: getattr(self, name) for name in files.ARRAYS}
        for name in files.OPTIONAL_ARRAYS:
            if getattr(self, name) is not None:
                arrays[name] = getattr(self, name)
        arrays |= {f"layout.{name}": value for name, value in vars(self.layout).items() if name != "method"}
        return files.write(Path(directory), self.training_dataset, self.targets, arrays, facts, overwrite)

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> Selection:
        """Reads a selection that `save` wrote.

        Raises:
            `FileNotFoundError`: If the folder holds no selection.
            `ValueError`: If it was written by a newer version of this package, or a file is damaged, missing, or of
                another selection; the message names it.
        """
        dataset, targets, arrays, facts = files.read(Path(directory))
        num_picks = len(arrays.get("indices", dataset))
        places = {name.removeprefix("layout."): array for name, array in arrays.items() if name.startswith("layout.")}
        try:
            return cls(
                dataset=dataset if len(dataset) == num_picks else dataset.select(range(num_picks)),
                replay=replay_of(dataset, num_picks),
                targets=targets,
                layout=Layout(**places, method=facts.get("layout", "pca")),
                pool_size=facts["pool_size"],
                record=SelectionRecord.from_json(facts["record"]),
                **{name: arrays[name] for name in files.ARRAYS},  # type: ignore[arg-type]
                **{name: arrays.get(name) for name in files.OPTIONAL_ARRAYS},  # type: ignore[arg-type]
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedError(f"{directory} holds a damaged selection: {type(error).__name__}: {error}") from error

    def extend(self, num_examples: int) -> Selection:
        """Returns a selection with `num_examples` further picks: the picks of one longer selection with the same noise.

        Args:
            num_examples (`int`):
                Further rows to pick.

        Raises:
            `ValueError`: If the selection was loaded from disk, or made under a budget, group shares or `stop_when`.
        """
        if self.extend_fn is None:
            raise ValueError(
                "this selection was loaded from disk or made under limits, so it cannot be extended; select again with "
                "a larger num_examples, or from the same pool with already_selected=selection.indices"
            )
        return self.extend_fn(num_examples)

    def diagnose(self) -> Diagnosis:
        """Returns, for each target, what the picks taught and what this pool cannot teach. Print it for a table.

        Example:
            >>> diagnosis = Selection.load("selected").diagnose()
            >>> len(diagnosis.targets) == len(targets)
            True
        """
        return diagnose(self)

    @property
    def screening(self) -> Screening | None:
        """Targets whose text is in the pool or among the picks, and picks that are copies of each other.

        `None` if the picks were not screened.

        Example:
            >>> Selection.load("selected").screening.contaminated_rows
            []
        """
        return Screening.from_record(self.record.screening)

    def report(self, path: str | os.PathLike[str], **options: Any) -> Path:
        """Writes one self-contained HTML page about the selection.

        Args:
            path (`str` or `PathLike`):
                The file to write.
            **options:
                Options of `itl_hf.report.page.write_report`, for example `title`.

        Raises:
            `ImportError`: If the extra `report` is not installed.
        """
        from itl_hf.report.page import write_report

        return write_report(self, path, **options)

    def export(
        self,
        path: str | os.PathLike[str],
        format: str = "jsonl",
        *,
        name: str = "selection",
        weights: str | Sequence[float] | None = None,
        on_bad_rows: str = "error",
        overwrite: bool = False,
    ) -> Export:
        """Writes the picked rows, in the order picked, in the format of a trainer; behind them those of `replay_share`.

        Args:
            path (`str` or `PathLike`):
                The file for `"jsonl"` and `"parquet"`, a folder for the other formats.
            format (`str`, *optional*, defaults to `"jsonl"`):
                `"jsonl"` or `"parquet"`: every column as it is. `"llama_factory"`, `"axolotl"`, `"torchtune"`,
                `"unsloth"`, `"verl"` (prompts with their answers as ground truth) or `"verl_sft"`: the rows as that
                trainer reads them, with the lines that belong into its configuration. An existing `dataset_info.json`
                of LLaMA-Factory gets one more entry.
            name (`str`, *optional*, defaults to `"selection"`):
                Name of the files in the folder, and of the data set in the trainer.
            weights (`"gains"` or `Sequence[float]`, *optional*):
                A weight for each row, or the gains with a mean of 1 (replay rows get 1); for `"jsonl"` and
                `"parquet"` (column `weight`) and `"verl"` (`extra_info`).
            on_bad_rows (`"error"` or `"skip"`, *optional*, defaults to `"error"`):
                What to do about rows that the trainer would lose a part of: raise an error that lists them, or leave
                them out with a warning.
            overwrite (`bool`, *optional*, defaults to `False`):
                Replace files of the same names.

        Returns:
            `Export`: The files, the number of rows, and what to type to train on them.

        Raises:
            `FileExistsError`: If a file exists and `overwrite` is false.
            `ValueError`: If the format is unknown, or rows do not fit into it.

        Example:
            >>> Selection.load("selected").export("axolotl", "axolotl").files[1].name
            'selection.axolotl.yaml'
        """
        options: dict[str, Any] = {"name": name, "weights": weights, "on_bad_rows": on_bad_rows, "overwrite": overwrite}
        gains = gains_with_replay(self.gains, len(self.training_indices))
        return export_selection(self.training_dataset, self.record.column_mapping(), gains, path, format, **options)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        include_features: bool = False,
        include_targets: bool = False,
        store: str | os.PathLike[str] | bool | None = None,
        base_dataset: str | None = None,
        license: str | None = None,
        commit_message: str | None = None,
        overwrite_card: bool = False,
    ) -> CommitInfo:
        """Publishes the picked rows as a dataset on the Hub, in one commit, with a card that explains them.

        The rows get the column `itl_variance_left` beside rank, gain, nearest target and similarity. The card says what
        was selected from what and how, shows the map and the variance curve, and what the pool cannot teach. A later
        push replaces an earlier one; what was published stays in the repository's history. A README.md that the
        repository has already is kept: the card becomes a section of it, between two comments, and the metadata gets
        the entries that it lacks.

        Args:
            repo_id (`str`):
                `user/name`, or a name under your own account; made if it does not exist.
            private (`bool`, *optional*):
                Visibility of a new repository; `None` is your account's default.
            revision (`str`, *optional*):
                Branch to publish to, made if it does not exist.
            token (`str` or `bool`, *optional*):
                As in `huggingface_hub`; the one you logged in with if left out.
            include_features (`bool`, *optional*, defaults to `False`):
                Publish the picks' features as well, as the configuration `features`.
            include_targets (`bool`, *optional*, defaults to `False`):
                Publish the target rows as well, as the configuration `targets`. Otherwise no text of them leaves this
                machine; their number, their variances and their places on the map do.
            store (`str`, `PathLike` or `bool`, *optional*):
                The `store=` of the selector: features that are no longer in memory are read from it; left out, from
                the default cache.
            base_dataset (`str`, *optional*):
                Name of the pool on the Hub, if the record does not hold it.
            license (`str`, *optional*):
                The pool's licence as an identifier of the Hub; asked of the base dataset if left out.
            commit_message (`str`, *optional*):
                Made from the numbers if left out.
            overwrite_card (`bool`, *optional*, defaults to `False`):
                Replace the whole README.md of the repository by the card.

        Returns:
            `huggingface_hub.CommitInfo`: `commit_url`, `oid` and more.

        Raises:
            `ImportError`: If the extra `report` is not installed.
            `ValueError`: If the features are not available, `private` is set for a repository that is public, or the
                README.md of the repository cannot be read.
            `FileNotFoundError`: If an image that a column names does not exist.
            `FileExistsError`: If the repository holds files but no selection.
            `huggingface_hub.errors.HfHubHTTPError`: If the Hub refuses, for example because of a wrong token.
            `ConnectionError`: If the connection breaks; push again to complete.

        Example:
            >>> Selection.load("selected").push_to_hub("me/my-subset", private=True)  # doctest: +SKIP
        """
        try:
            from itl_hf.hub.publish import publish
        except ModuleNotFoundError as error:
            raise ImportError('publishing makes pictures and a card: pip install "itl-hf[report]"') from error

        return publish(
            self,
            repo_id,
            private=private,
            revision=revision,
            token=token,
            include_features=include_features,
            include_targets=include_targets,
            store=store,
            base_dataset=base_dataset,
            license=license,
            commit_message=commit_message,
            overwrite_card=overwrite_card,
        )

    @classmethod
    def from_hub(cls, repo_id: str, revision: str | None = None, token: str | bool | None = None) -> Selection:
        """Reads a selection that `push_to_hub` published: rows, gains, variances, map and record.

        Args:
            repo_id (`str`):
                Name of the dataset on the Hub.
            revision (`str`, *optional*):
                Branch, tag or commit.
            token (`str` or `bool`, *optional*):
                As in `huggingface_hub`.

        Returns:
            `Selection`: The selection. If the prompts were not published, its `targets` hold only their number, and a
                warning says so.

        Raises:
            `huggingface_hub.errors.RepositoryNotFoundError`: If there is no such dataset, or the token may not read it.
            `FileNotFoundError`: If the dataset holds no selection.
            `ValueError`: If it is damaged, or was written by a newer version of this package.

        Example:
            >>> selection = Selection.from_hub("me/my-subset")  # doctest: +SKIP
        """
        from itl_hf.hub.restore import restore

        return restore(repo_id, revision, token)
