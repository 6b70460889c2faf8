"""Donors, or samples: the units of replication."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pgm_expr.data.fields.field import Field
from pgm_expr.data.fields.levels import (
    check_key,
    codes_of,
    levels_of,
    refuse_missing,
)
from pgm_expr.data.messages import listing, near


@dataclass(frozen=True)
class Donor(Field):
    """The unit of replication of each cell, which no model sees.

    Splits and cross-validation keep donors whole, and tasks that compare conditions count donors,
    not cells. Known for every cell.
    """

    kind = "donor"
    arguments = {
        "donor_key": "Column of obs with donors or samples, which stay whole in the split.",
        "split_key": "Alias of donor_key.",
    }
    dtype = np.int64
    settable = False

    key: str
    levels: tuple[str, ...]

    @classmethod
    def learn(
        cls,
        obs: pd.DataFrame,
        train: np.ndarray,
        donor_key: str | None = None,
        split_key: str | None = None,
    ) -> tuple[Donor, ...]:
        """Levels of all cells; `split_key` is another name of `donor_key`."""
        named = {"donor_key": donor_key, "split_key": split_key}
        given = {argument: key for argument, key in named.items() if key is not None}
        if len({*given.values()}) > 1:
            raise ValueError(
                f"donor_key and split_key must name one column: got {donor_key!r} and "
                f"{split_key!r}. Pass donor_key alone."
            )
        argument, key = next(iter(given.items()))
        if key not in obs:
            raise ValueError(
                f"{argument} {key!r} is not a column of obs: it holds {listing(obs.columns)}."
                f"{near(key, obs.columns)} Name one of these or add it."
            )
        donor = cls(key, levels_of(obs, key))
        donor.groups(obs)  # refuses cells without a donor
        return (donor,)

    def groups(self, obs: pd.DataFrame) -> np.ndarray:
        """Code of each cell's donor, (N,) int64: its position in `levels`.

        Donors that the fit has not seen are numbered after those, in sorted order. Raises
        ValueError where the column or a value of it is missing.
        """
        check_key(obs, self.key)
        new = {level for level in levels_of(obs, self.key) if level not in self.levels}
        codes = codes_of(obs[self.key], (*self.levels, *sorted(new)))
        refuse_missing(obs, self.key, codes, "donor")
        return codes

    def encode(self, obs: pd.DataFrame) -> np.ndarray:
        return self.groups(obs)

    def set_to(self, level: object) -> np.ndarray:
        """Raise ValueError: a model does not see it."""
        raise ValueError(
            f"obs column {self.key!r} is the unit of replication, which no model uses: it "
            "cannot be set. Name another column."
        )

    @property
    def size(self) -> int:
        return len(self.levels)
