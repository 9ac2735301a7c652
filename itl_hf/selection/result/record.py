"""The record of a selection: what was asked for, what was chosen for the user, and what it was chosen from."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from itl_hf.gp.kernels import KERNELS, Kernel
from itl_hf.gp.standardization import Standardization
from itl_hf.selection.constraints import SelectionConstraints
from itl_hf.selection.protocol import Acquisition
from itl_hf.selection.registry import ACQUISITION_NAMES, acquisition_class
from itl_hf.text import ColumnMapping

JsonDict = dict[str, Any]
#: What the types of the record's fields are in JSON, where 1.0 may be written as 1.
_TYPES: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "int": int,
    "bool": bool,
    "float": (int, float),
    "JsonDict": dict,
}


@dataclass(frozen=True)
class SelectionRecord:
    """Everything that is needed to select again, and what was found on the way; JSON types only.

    Args:
        acquisition_name (`str`):
            Name of the acquisition, such as `"itl"`.
        acquisition_options (`dict`):
            Its options as they were given, and what it reads.
        kernel_options (`dict`):
            `kernel`, the name of the kernel, and its options, such as `lengthscale`.
        kernel_rule (`str`):
            `"given"`, or how the kernel was chosen.
        standardization_name (`str`):
            Preparation of the features, such as `"dimensions-unit"`, or `"none"`.
        noise_std (`float`):
            Standard deviation of the noise on the picks' answers.
        target_noise_std (`float`):
            The same for the targets' values.
        noise_rule (`str`):
            `"given"`, or how the noise was chosen.
        effective_rank (`float`):
            Number of directions that the targets span.
        pool_rows (`int`):
            N.
        target_rows (`int`):
            m.
        dimension (`int`):
            Numbers in a feature row.
        already_selected (`int`, *optional*, defaults to 0):
            Number of rows that the model was trained on before.
        undirected (`bool`, *optional*, defaults to `False`):
            Whether the targets determine the whole function, so that the objective does not depend on them.
        approximation (`dict`, *optional*):
            What was lost where a kernel was approximated by finite features.
        exactness (`dict`, *optional*):
            Picks whose gains may lie below the best by more than a `tolerance`, relative to them, because of rounding:
            their `count`, the position of the `first` among the picks, and the `largest` such share. Nothing where all
            picks are exact within the tolerance.
        many_targets (`dict`, *optional*):
            The number of `targets`, of the `pivots` among them that stood for all, and the share of the targets'
            variance that these leave over, `lost`. Nothing where all targets counted exactly.
        num_candidates (`int`, *optional*):
            Candidates of each target, in `select_rows_per_target`.
        constraints (`dict`, *optional*):
            What `SelectionConstraints.to_json` wrote.
        shortlist (`dict`, *optional*):
            The list of rows that was picked from, where it was not the whole pool: `setting` (a size or `"auto"`, then
            with `factor`), `first_size` and, after it grew for the constraints, `size`; the number of
            `near_duplicates` on it and the cosine above which rows count as such; with an embedder of its own, its
            fingerprint and the `parts` in which the rows were embedded (`itl_hf.selection.shortlist.two_stage`).
        quality (`dict`, *optional*):
            Quality of the pool's rows: `smallest`, `mean`, `largest`, and `column` where a column of the pool was
            named; nothing if it was 1 for all.
        target_weights (`dict`, *optional*):
            The same of the targets' weights, and the weights themselves as `values`.
        unusable (`dict`, *optional*):
            Rows of the pool that were never picked because their features are all zeros (`zero`) or NaN or infinite
            (`not_finite`): for each kind their `count` and the first thousand `rows`.
        embedder (`dict`, *optional*):
            Fingerprint of the pool's embedder.
        targets_embedder (`dict`, *optional*):
            Fingerprint of the targets' embedder.
        pool_fingerprint (`str`, *optional*):
            Hash of the pool's text.
        targets_fingerprint (`str`, *optional*):
            Hash of the targets' text.
        pool_source (`dict`, *optional*):
            Where the pool comes from, if it is a dataset on the Hub.
        versions (`dict`, *optional*):
            Versions of the packages that the picks depend on.
        attainable (`dict`, *optional*):
            What the attainable variance was measured on.
        screening (`dict`, *optional*):
            What `Screening.to_record` wrote.
        shift (`dict`, *optional*):
            What `ShiftRecord.to_json` wrote: how much of the targets' difference from the pool is common to all.
        coverage (`dict`, *optional*):
            Rows of the pool by group.
        formats (`dict`, *optional*):
            How `pool` and `targets` were read, such as `Alpaca (instruction, output, input)`.
        columns (`dict`, *optional*):
            The arguments `columns` and `prompt_template` of `Selector`.
        skipped (`dict`, *optional*):
            Rows of `pool` and `targets` that cannot be read and were left out (`on_bad_rows="skip"`): the number of
            them, and the first ten of each kind.
        replay (`dict`, *optional*):
            Rows of the pool that are trained on behind the picks (`itl_hf.selection.replay`): their `share` of both
            together, the `method`, the `seed`, and how many `rows` they are.
        arguments (`dict`, *optional*):
            Arguments of `itl-hf train` that decide the picks.

    Example:
        >>> from itl_hf import select_rows
        >>> record = select_rows([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0]], 1, kernel="linear", noise_std=0.5).record
        >>> record.noise_std, record.acquisition().name, record.kernel().linear
        (0.5, 'itl', True)
        >>> SelectionRecord.from_json(record.to_json()) == record
        True
    """

    acquisition_name: str
    acquisition_options: JsonDict
    kernel_options: JsonDict
    kernel_rule: str
    standardization_name: str
    noise_std: float
    target_noise_std: float
    noise_rule: str
    effective_rank: float
    pool_rows: int
    target_rows: int
    dimension: int
    already_selected: int = 0
    undirected: bool = False
    approximation: JsonDict | None = None
    exactness: JsonDict | None = None
    many_targets: JsonDict | None = None
    num_candidates: int | None = None
    constraints: JsonDict = field(default_factory=dict)
    shortlist: JsonDict | None = None
    quality: JsonDict | None = None
    target_weights: JsonDict | None = None
    unusable: JsonDict | None = None
    embedder: JsonDict | None = None
    targets_embedder: JsonDict | None = None
    pool_fingerprint: str | None = None
    targets_fingerprint: str | None = None
    pool_source: JsonDict | None = None
    versions: JsonDict = field(default_factory=dict)
    attainable: JsonDict | None = None
    screening: JsonDict | None = None
    shift: JsonDict | None = None
    coverage: JsonDict | None = None
    formats: JsonDict | None = None
    columns: JsonDict | None = None
    skipped: JsonDict | None = None
    replay: JsonDict | None = None
    arguments: JsonDict | None = None

    @property
    def kernel_name(self) -> str:
        """Name of the kernel, such as `"rbf"`."""
        return str(self.kernel_options["kernel"])

    @property
    def shortlist_setting(self) -> int | Literal["auto"] | None:
        """The size of the shortlist as it was given, as the argument `shortlist`."""
        return None if self.shortlist is None else self.shortlist["setting"]

    @property
    def weights_of_targets(self) -> list[float] | None:
        """The weight of each of the m targets; `None` if it is 1 for all."""
        return None if self.target_weights is None else [float(weight) for weight in self.target_weights["values"]]

    def to_json(self) -> JsonDict:
        """All fields that hold something, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    @classmethod
    def from_json(cls, entries: Mapping[str, Any]) -> SelectionRecord:
        """Reads what `to_json` wrote; entries of later versions are ignored.

        Raises:
            `ValueError`: If an entry is missing or of another type.
        """
        known_fields = {one.name: one for one in dataclasses.fields(cls)}
        required_names = [
            name
            for name, one in known_fields.items()
            if one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING
        ]
        absent = [name for name in required_names if name not in entries]
        if absent:
            raise ValueError(f"the record of the selection lacks {', '.join(absent)}: select again with this version")
        values = {name: value for name, value in entries.items() if name in known_fields}
        for name, value in values.items():
            kind, _, optional = str(known_fields[name].type).partition(" | ")
            if not isinstance(value, _TYPES[kind]) and not (optional and value is None):
                raise ValueError(f"{name} in the record of the selection is {value!r:.40}, and must be a {kind}")
        if not isinstance(values["kernel_options"].get("kernel"), str):
            raise ValueError("kernel_options in the record of the selection names no kernel")
        return cls(**values)

    def acquisition(self) -> Acquisition:
        """The acquisition with its options, and with the noise that was used.

        Raises:
            `ValueError`: If the acquisition is not one of this package, or its options were too long for the record.
        """
        if self.acquisition_name not in ACQUISITION_NAMES:
            raise ValueError(f"its acquisition {self.acquisition_name!r} is not one of this package")
        kind = acquisition_class(self.acquisition_name)
        names = [one.name for one in dataclasses.fields(kind) if one.init]
        options = {name: self.acquisition_options[name] for name in names if name in self.acquisition_options}
        if any(isinstance(value, str) and "sha256" in value for value in options.values()):
            raise ValueError("options of its acquisition are too long for the record")
        if "avoid" in options:
            raise ValueError("it avoids prompts, whose features the record does not hold")
        noise = {"noise_std": self.noise_std, "target_noise_std": self.target_noise_std}
        with _values_of("acquisition"):
            acquisition: Acquisition = kind(**options | noise)
        return acquisition

    def kernel(self) -> Kernel:
        """The kernel with its options.

        Raises:
            `ValueError`: If the kernel was a function, of which the record holds only the name.
        """
        options = dict(self.kernel_options)
        name = str(options.pop("kernel"))
        if name not in KERNELS:
            raise ValueError(f"the record does not hold all of its kernel ({name})")
        with _values_of("kernel"):
            return KERNELS[name](**options)

    def standardization(self) -> bool | Standardization:
        """The preparation of the features, as the argument `standardize`.

        Raises:
            `ValueError`: If the features are a weighted sum, whose weights the record rounds.
        """
        if "(" in self.standardization_name:
            raise ValueError("its features are a weighted sum, and the record rounds the weights")
        return self.standardization_name != "none" and Standardization.parse(self.standardization_name)

    def column_mapping(self) -> ColumnMapping | None:
        """The columns of the pool that users named; `None` if its format was recognised."""
        with _values_of("columns"):
            return None if self.columns is None else ColumnMapping.of(**self.columns)

    def selection_constraints(self) -> SelectionConstraints:
        """The constraints, with names of columns where columns were named.

        Raises:
            `ValueError`: If costs or groups were given as values.
        """
        with _values_of("constraints"):
            return SelectionConstraints.from_json(self.constraints)


@contextlib.contextmanager
def _values_of(name: str) -> Iterator[None]:
    """Context that raises `ValueError` where an entry of the record does not have the values that this package writes.

    Args:
        name (`str`):
            What is made of the entry.
    """
    try:
        yield
    except (TypeError, KeyError, AttributeError, IndexError, OverflowError) as error:
        raise ValueError(f"the {name} in the record of the selection cannot be read ({error}): select again") from error
