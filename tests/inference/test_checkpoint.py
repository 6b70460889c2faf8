"""Files are the old ones or the new ones, and reading one runs nothing."""

import os
import pickle

import pytest
import torch

from pgm_expr.inference.checkpoint import load_tensors, save_tensors, write_atomically


def test_round_trip(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors = {
        "single": torch.randn(3, 2),
        "double": torch.randn(2, dtype=torch.float64),
        "transposed": torch.randn(3, 4).T,
        "number": torch.tensor(7),
        "a leaf": torch.randn(2, requires_grad=True),
    }
    notes = {"history": [{"bound": -0.1, "nothing": float("inf")}], "best": -1, "name": "Größe"}
    save_tensors(path, tensors, notes)
    loaded, read = load_tensors(path)
    assert read == notes and loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype and torch.equal(loaded[name], tensor)


def test_a_failed_write_leaves_the_old_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_atomically(path, b"old")

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
            patch.setattr(os, step, full_disk)
            write_atomically(path, b"new and longer")
        assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


def test_the_new_file_is_whole_before_it_takes_the_name(tmp_path, monkeypatch):
    path, replace = tmp_path / "a.txt", os.replace
    write_atomically(path, b"old")

    def watched(source, target):
        assert path.read_bytes() == b"old"
        with open(source, "rb") as file:
            assert file.read() == b"new"
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new" and path.stat().st_mode & 0o777 == 0o644


def test_a_missing_folder_is_an_oserror(tmp_path):
    with pytest.raises(OSError):
        write_atomically(tmp_path / "nowhere" / "a.txt", b"new")


@pytest.fixture
def whole(tmp_path):
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"weight": torch.randn(10, 10)}, {"epoch": 3})
    return path.read_bytes()


@pytest.mark.parametrize("kept", [0, 4, 8, 50, -1])
def test_a_truncated_file_is_refused_in_one_line(tmp_path, whole, kept):
    refused(tmp_path / "b.safetensors", whole[:kept])


@pytest.mark.parametrize("content", [b"gene,count\nCD3E,4\n", b"{}", b"\x00" * 64, b"\xff" * 64])
def test_a_foreign_file_is_refused_in_one_line(tmp_path, content):
    refused(tmp_path / "b.safetensors", content)


def refused(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"b\.safetensors' is not a whole safetensors") as caught:
        load_tensors(path)
    assert "\n" not in str(caught.value)


class Bomb:
    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("dump", [pickle.dump, torch.save])
def test_a_pickle_is_refused_and_not_run(tmp_path, dump):
    bomb, path = Bomb(), tmp_path / "b.safetensors"
    bomb.path = str(tmp_path / "ran")
    with open(path, "wb") as file:
        dump(bomb, file)
    refused(path, path.read_bytes())
    assert not (tmp_path / "ran").exists()


def test_a_safetensors_file_of_another_program_has_no_notes(tmp_path):
    from safetensors.torch import save_file

    save_file({"weight": torch.ones(2)}, tmp_path / "a.safetensors")
    tensors, notes = load_tensors(tmp_path / "a.safetensors")
    assert torch.equal(tensors["weight"], torch.ones(2)) and notes is None
