"""The protocol of a kind of obs column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import pandas as pd
from torch import Tensor


class Field(Protocol):
    """One column of obs, as a fit reads it.

    A kind of column is a frozen dataclass that derives from this protocol and stands in `FIELDS`.
    Its attributes are what was learned from the data of the fit: strings, numbers and tuples of
    them, which `to_json` writes as they are. Class attributes say where the values go:

    kind : the name in JSON.
    arguments : arguments of `fit` that make it, the column's own first, each with its help.
    entry : key of a minibatch, empty for a column that no model sees. Kinds of one entry stand
        there side by side, in the order of `FIELDS`, `size` columns each.
    dtype : NumPy type of that entry.
    dimension : constructor argument that `size` goes to, empty where no constructor needs it.
    predicted : whether models predict it. It may be missing in query data, and is withheld where
        a model is judged: `missing` then stands in its place.
    missing : value of that entry for one cell where nothing is known.
    settable : whether a model can be conditioned on it, see `set_to`.
    """

    kind: ClassVar[str]
    arguments: ClassVar[Mapping[str, str]]
    entry: ClassVar[str] = ""
    dtype: ClassVar[type[np.generic]] = np.float32
    dimension: ClassVar[str] = ""
    predicted: ClassVar[bool] = False
    missing: ClassVar[np.ndarray | None] = None
    settable: ClassVar[bool] = True

    key: str  # the column of obs

    @classmethod
    def learn(
        cls, obs: pd.DataFrame, train: np.ndarray, *args: Any, **arguments: Any
    ) -> tuple[Self, ...]:
        """The fields that its arguments name; moments are over the cells `train`.

        A kind has its own arguments here, by name: `*args, **arguments` stands for any.
        """
        ...

    def encode(self, obs: pd.DataFrame) -> np.ndarray:
        """Its values in the minibatch entry, (N,) or (N, C)."""
        ...

    def set_to(self, level: object) -> np.ndarray:
        """What one cell of that level is encoded as, (1,) or (1, C)."""
        ...

    def decode(self, columns: np.ndarray) -> np.ndarray:
        """Encoded values as levels (N,), integers, -1 where missing, or numbers, NaN likewise."""
        return columns

    def indicators(self, columns: Tensor) -> Tensor:
        """Encoded values as what a generator is conditioned on, (N, C) float."""
        return columns.float()

    @property
    def size(self) -> int:
        """Number of levels, or of columns of the entry."""
        ...

    @property
    def name(self) -> str:
        """What tables call it: its kind, or its column where there are several of the kind."""
        return self.kind

    @property
    def features(self) -> tuple[str, ...]:
        """Names of its columns of `condition`."""
        return ()

    def to_json(self) -> dict[str, Any]:
        """Its kind and attributes, tuples as lists."""
        plain = {n: list(v) if isinstance(v, tuple) else v for n, v in vars(self).items()}
        return {"kind": self.kind, **plain}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        plain = {n: tuple(v) if isinstance(v, list) else v for n, v in stored.items()}
        plain.pop("kind", None)
        return cls(**plain)
