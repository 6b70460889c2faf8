"""Files of tensors and text: written as a whole or not at all, and read without executing code."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file in one step, so that a reader sees either the old content or the new.

    Parameters
    ----------
    path
        The file, in an existing folder.
    content
        All its bytes.

    Raises
    ------
    OSError
        If the disk is full or the folder is read-only. The old file stays as it was.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomically(Path(folder) / "notes.txt", b"two cells")
    ...     (Path(folder) / "notes.txt").read_text()
    'two cells'
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
    """Write named tensors and notes as one safetensors file.

    Parameters
    ----------
    path
        The file, in an existing folder; replaced atomically.
    tensors
        Tensors by name, on any device.
    notes
        Any value that JSON can represent.

    Raises
    ------
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_tensors(Path(folder) / "z.safetensors", {"z": torch.ones(2)}, {"epoch": 3})
    ...     load_tensors(Path(folder) / "z.safetensors")
    ({'z': tensor([1., 1.])}, {'epoch': 3})
    """
    whole = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    write_atomically(path, save(whole, metadata={"notes": json.dumps(notes)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Read the tensors and the notes that `save_tensors` wrote.

    Parameters
    ----------
    path
        A safetensors file.

    Returns
    -------
    tuple
        Tensors by name, on the CPU, and the notes; None where the file has none.

    Raises
    ------
    ValueError
        If the file is not a safetensors file, or is truncated.

    Examples
    --------
    >>> import torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_tensors(Path(folder) / "z.safetensors", {"z": torch.ones(2)})
    ...     load_tensors(Path(folder) / "z.safetensors")
    ({'z': tensor([1., 1.])}, None)
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, json.loads((file.metadata() or {}).get("notes", "null"))
    except SafetensorError as error:
        raise ValueError(
            f"'{path}' is not a whole safetensors file: {error}. Fit again with --overwrite."
        ) from None
