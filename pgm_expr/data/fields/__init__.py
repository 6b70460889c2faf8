"""Columns of obs as entries of minibatches: one class a kind of column, `FIELDS` lists them.

To add a kind, write its class beside the others (see `Field`), add it to `FIELDS`, and give `fit`
the argument that it names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pgm_expr.data.fields.batch import Batch
from pgm_expr.data.fields.categorical import CategoricalCovariate
from pgm_expr.data.fields.continuous import ContinuousCovariate
from pgm_expr.data.fields.donor import Donor
from pgm_expr.data.fields.field import Field
from pgm_expr.data.fields.label import Label
from pgm_expr.data.fields.perturbation import Perturbation
from pgm_expr.data.fields.target import Target
from pgm_expr.data.fields.version_0_5 import fields_of_0_5
from pgm_expr.data.messages import listing, near

__all__ = [
    "ARGUMENTS",
    "FIELDS",
    "Batch",
    "CategoricalCovariate",
    "ContinuousCovariate",
    "Donor",
    "Encoding",
    "Field",
    "Label",
    "Perturbation",
    "Target",
    "learn_fields",
]

FIELDS: tuple[type[Field], ...] = (  # in the order of the entries and of the condition's columns
    Label,
    Batch,
    CategoricalCovariate,
    ContinuousCovariate,
    Perturbation,
    Target,
    Donor,
)
ARGUMENTS = {name: text for kind in FIELDS for name, text in kind.arguments.items()}

F = TypeVar("F", bound=Field)
Kinds = Sequence[type[Field]]


def learn_fields(
    kind: type[F], obs: pd.DataFrame, arguments: Mapping[str, object], train: np.ndarray
) -> tuple[F, ...]:
    """The fields of one kind; none where `arguments` gives none of its arguments."""
    given = {n: arguments[n] for n in kind.arguments if arguments.get(n) is not None}
    return kind.learn(obs, train, **given) if given else ()


@dataclass(frozen=True)
class Encoding:
    """How the columns of obs are encoded: the fields of a fit.

    Learned once, on the data of the fit, kept with the run as JSON, and applied to query data,
    whose unseen levels are refused by name. Levels are strings, whatever their type in obs.

    Parameters
    ----------
    fields
        Fitted fields, in the order of `FIELDS`.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> obs = pd.DataFrame({"type": ["B", "T", None, "T"], "age": [20.0, 40.0, 30.0, np.nan]})
    >>> arguments = {"labels_key": "type", "continuous_covariate_keys": ["age"]}
    >>> encoding = Encoding.learn(obs, arguments, train=np.array([0, 1]))
    >>> encoding.dims(), encoding.features
    ({'labels': 2, 'conditions': 2}, ('age', 'age is missing'))
    >>> encoded = encoding.encode(obs)
    >>> encoded["label"].tolist(), encoded["condition"].tolist()
    ([0, 1, -1, 1], [[-1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    >>> encoding.set_to(encoded, {"age": 50})["condition"].tolist()
    [[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [2.0, 0.0]]
    """

    fields: tuple[Field, ...] = ()

    @classmethod
    def learn(
        cls,
        obs: pd.DataFrame,
        arguments: Mapping[str, object],
        train: np.ndarray,
        kinds: Kinds = FIELDS,
    ) -> Encoding:
        """Learn levels from all cells, means and standard deviations from the training cells.

        Parameters
        ----------
        obs
            One row a cell.
        arguments
            Arguments of `fit` by name, see `ARGUMENTS`. None stands for an argument not given.
        train
            Positions of the training cells.
        kinds
            Kinds of columns that there are.

        Returns
        -------
        The fields of the columns that `arguments` name.

        Raises
        ------
        ValueError
            For an unknown argument or column, a column without levels, a column of numbers that is
            not numeric or constant, a column of levels that holds a number, a control that is not
            in its column, and a cell without a donor.
        """
        known = [name for kind in kinds for name in kind.arguments]
        for name in arguments:
            if name not in known:
                raise ValueError(
                    f"unknown argument {name!r}: expected one of {listing(known, 20)}."
                    f"{near(name, known)} Pass one of these."
                )
        learned = (learn_fields(kind, obs, arguments, train) for kind in kinds)
        return cls(tuple(field for fields in learned for field in fields))

    def encode(self, obs: pd.DataFrame) -> dict[str, np.ndarray]:
        """The minibatch entries of all N cells of `obs`.

        Parameters
        ----------
        obs
            One row a cell. Columns that models predict (label, target) may be absent, and so may
            columns that no model sees (donor).

        Returns
        -------
        `label` (N,) int64, -1 where missing, unlabelled or (with a warning) unseen; `batch` (N,)
        int64; `condition` (N, C) float32; `perturbation` (N, P) float32, ones for those a cell
        received, in combinations never seen too; `target` (N, 1) float32, standardised, NaN where
        missing. Each only where the fit named its column.

        Raises
        ------
        ValueError
            For an absent column, a missing batch or perturbation, and an unseen batch, category
            or single perturbation.
        """
        parts: dict[str, list[np.ndarray]] = {}
        for field in self.fields:
            absent = field.predicted and field.key not in obs
            if field.entry and not absent:
                parts.setdefault(field.entry, []).append(field.encode(obs))
        return {
            entry: np.concatenate(values, axis=1) if len(values) > 1 else values[0]
            for entry, values in parts.items()
        }

    def set_to(
        self,
        encoded: Mapping[str, np.ndarray],
        levels: Mapping[str, object],
        n: int | None = None,
    ) -> dict[str, np.ndarray]:
        """The entries of the same cells with columns of obs set to one level in all of them.

        Parameters
        ----------
        encoded
            What `encode` returns for N cells. It is left as it is.
        levels
            Level by column of obs. A number may be text, such as "80".
        n
            Number of cells, needed only where `encoded` has no entry.

        Returns
        -------
        The entries, changed ones as new arrays.

        Raises
        ------
        ValueError
            For a column that the fit did not use or predicts, a level it has not seen, and text
            for a number.
        """
        changed = dict(encoded)
        for key, level in levels.items():
            for field in self._of(key):
                value = field.set_to(level)  # raises where models are not conditioned on it
                before = changed.get(field.entry, value)
                cells = len(next(iter(changed.values()))) if n is None else n
                after = np.broadcast_to(before, (cells, *before.shape[1:])).copy()
                after[self._columns(field)] = value
                changed[field.entry] = after
        return changed

    def _of(self, key: str) -> list[Field]:
        """The fields of a column: those that models can be conditioned on, if there are any."""
        fields = [field for field in self.fields if field.key == key]
        if not fields:
            known = dict.fromkeys(field.key for field in self.fields if field.settable)
            do = "Name one of these." if known else "Fit with the column."
            raise ValueError(
                f"the fit did not use obs column {key!r}: it used {listing(known)}."
                f"{near(key, known)} {do}"
            )
        return [field for field in fields if field.settable] or fields

    def _columns(self, field: Field) -> tuple:
        """Where the values of a field stand in its entry, as an index."""
        beside = [other for other in self.fields if other.entry == field.entry]
        if len(beside) == 1:
            return (...,)
        start = sum(other.size for other in beside[: beside.index(field)])
        return (..., slice(start, start + field.size))

    def parts(self, encoded: Mapping[str, Any]) -> Iterator[tuple[Field, Any]]:
        """Each field that `encoded` has the entry of, with its values there, a view."""
        for field in self.fields:
            if field.entry in encoded:
                yield field, encoded[field.entry][self._columns(field)]

    def indicators(self, encoded: Mapping[str, Tensor]) -> Tensor | None:
        """What generators are conditioned on, (N, C) float: codes one-hot, the rest as it is.

        Unlabelled cells have zeros in the place of their label; targets are left out. None where
        there are no columns.
        """
        parts = [f.indicators(columns) for f, columns in self.parts(encoded) if f.settable]
        return torch.cat(parts, -1) if parts else None

    def dims(self) -> dict[str, int]:
        """Sizes by constructor argument: those of `labels`, `batches`, `conditions` and
        `perturbations` that the fit has."""
        sizes: dict[str, int] = {}
        for field in self.fields:
            if field.dimension:
                sizes[field.dimension] = sizes.get(field.dimension, 0) + field.size
        return sizes

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the C columns of `condition`."""
        return tuple(name for field in self.fields for name in field.features)

    @property
    def labels(self) -> tuple[str, ...]:
        """Levels of the label, none where the fit has no label."""
        label = self.get(Label)
        return label.levels if label else ()

    def get(self, kind: type[F]) -> F | None:
        """The field of that kind, the first of several; None where the fit has none."""
        return next((field for field in self.fields if isinstance(field, kind)), None)

    @staticmethod
    def requires(kinds: Kinds = FIELDS) -> dict[str, str]:
        """Which arguments of `fit` provide each minibatch entry and constructor argument."""
        provided: dict[str, list[str]] = {}
        for kind in kinds:
            for name in (kind.entry, kind.dimension):
                if name:
                    provided.setdefault(name, []).append(next(iter(kind.arguments)))
        return {name: " or ".join(arguments) for name, arguments in provided.items()}

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers, for `json.dumps`."""
        return {"fields": [field.to_json() for field in self.fields]}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any], kinds: Kinds = FIELDS) -> Encoding:
        """The inverse of `to_json`; reads the encodings of pgm_expr 0.5.0 too.

        Raises
        ------
        ValueError
            For a kind of column that is not among `kinds`.
        """
        known = {kind.kind: kind for kind in kinds}
        fields = fields_of_0_5(stored) if "columns" in stored else stored["fields"]
        for field in fields:
            if field["kind"] not in known:
                raise ValueError(
                    f"the encoding holds a column of the unknown kind {field['kind']!r}: known "
                    f"are {listing(known)}. Update pgm_expr."
                )
        return cls(tuple(known[field["kind"]].from_json(field) for field in fields))
