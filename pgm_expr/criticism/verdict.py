"""The verdict of a criticism: a sentence per section, each with its rule, and one on all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .section import BAD, DOUBTFUL, GOOD, Section, Sentence
from .sections import SECTIONS

MARKS = {GOOD: "Good", DOUBTFUL: "Doubtful", BAD: "Bad"}


def verdict(found: Mapping[str, Any], sections: Sequence[Section] = SECTIONS) -> list[Sentence]:
    """What a criticism found, the most important first.

    Parameters
    ----------
    found
        What `criticize` returned.
    sections
        Sections that are judged; those not measured are left out.

    Examples
    --------
    >>> found = {"two_sample": {"auc": 0.74, "auc_floor": 0.51}}
    >>> (sentence,) = verdict(found)
    >>> print(f"{sentence.mark}. {sentence.text}")
    bad. Generated cells: classifier AUC, generated against real: 0.740 (real against real: 0.510).
    """
    sentences = [
        section.judge(found[section.name])
        for section in sorted(sections, key=lambda section: section.rank)
        if section.name in found and not isinstance(section.judge, str)
    ]
    collapse = found.get("collapse")
    return [_of_collapsed(each) if collapse else each for each in sentences if each]


def _of_collapsed(sentence: Sentence) -> Sentence:
    """Nothing is good of a story whose latent space is not in use."""
    mark = DOUBTFUL if sentence.mark == GOOD else sentence.mark
    return Sentence(mark, sentence.text, f"{sentence.rule}; never good after a posterior collapse")


def headline(sentences: Sequence[Sentence]) -> str:
    """The topics of a verdict by mark, in one line.

    Examples
    --------
    >>> headline([Sentence("good", "Drawn counts: all errors near the floor.", "...")])
    'Good: Drawn counts.'
    """
    if not sentences:
        return "Nothing was judged."
    topics = {mark: [s.text.split(":")[0] for s in sentences if s.mark == mark] for mark in MARKS}
    return " ".join(f"{MARKS[mark]}: {', '.join(of)}." for mark, of in topics.items() if of)
