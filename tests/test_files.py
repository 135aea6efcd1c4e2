"""Files that are there as a whole or not at all."""

import errno
import os

import pytest

from mtmed.errors import InputError
from mtmed.files import atomic_file, require_writable_folder, write_error


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "scores.csv"
    with atomic_file(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
def test_whatever_interrupts_a_write_leaves_the_old_file_and_no_fragment(tmp_path, error):
    path = tmp_path / "model.pt"
    path.write_bytes(b"old")

    def write():
        with atomic_file(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(InputError if isinstance(error, OSError) else type(error)):
        write()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_says_why_and_what_to_do(tmp_path):
    path = tmp_path / "absent" / "dataset.json"
    with pytest.raises(InputError, match=r"dataset\.json: cannot be written \(No such file.*\); name another"):
        atomic_file(path, remedy="name another").__enter__()


def test_a_full_disk_is_found_among_the_causes():
    wrapped = RuntimeError("writer failed")
    wrapped.__cause__ = OSError(errno.EDQUOT, "Disk quota exceeded")
    assert str(write_error("a.pt", wrapped, remedy="free space")) == "a.pt: no space left on the disk; free space"
    assert "cannot be written (writer failed)" in str(write_error("a.pt", RuntimeError("writer failed")))


def test_a_folder_is_made_and_tried_without_leaving_anything(tmp_path):
    assert require_writable_folder(tmp_path / "a" / "b").is_dir()
    assert os.listdir(tmp_path / "a" / "b") == []


def test_a_folder_that_cannot_be_written_is_named_or_its_option(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(InputError, match=rf"{folder}: cannot be written \(.*\); choose another output_dir"):
            require_writable_folder(folder)
        with pytest.raises(InputError, match=rf"^store_dir: {folder} cannot be written .* with --store_dir$"):
            require_writable_folder(folder, option="store_dir")
