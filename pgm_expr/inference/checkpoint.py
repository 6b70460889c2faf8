"""Tensors and text on disk that are never half-written and never execute anything when read."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file at `path` in one step: a reader, or a crash, sees the old file or the new.

    Raises OSError where the disk is full or the folder is read-only; the old file stays.
    """
    descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(partial, 0o644)  # mkstemp's files are private
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def save_tensors(path: Path, tensors: Mapping[str, Tensor], notes: object = None) -> None:
    """Write named tensors, with any JSON value as `notes`, as one safetensors file."""
    whole = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    write_atomically(path, save(whole, metadata={"notes": json.dumps(notes)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], object]:
    """The tensors and the notes of `save_tensors`; ValueError for a foreign or truncated file."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, json.loads((file.metadata() or {}).get("notes", "null"))
    except SafetensorError as error:
        raise ValueError(
            f"'{path}' is not a whole safetensors file: {error}. Fit again with --overwrite."
        ) from None
