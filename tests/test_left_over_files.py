"""What a killed process left half-written is removed by the next one, and never taken for a result."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mtmed.errors import InputError
from mtmed.files import atomic_file, remove_fragments
from mtmed.studies.attempt import start_attempt
from mtmed.studies.study_folder import is_finished
from mtmed.submission.packing import prediction_files
from mtmed.transforms import tissue_cache


def half_written(path: Path) -> Path:
    """What `atomic_file` leaves of a file when its process is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fragment = path.with_name(f".{path.name}.4242.tmp")
    fragment.write_bytes(b"half")
    return fragment


def test_the_temporary_name_is_the_one_that_is_removed(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "model.pt") as file:
        file.write(b"half")
        (fragment,) = tmp_path.iterdir()
        kept = fragment.read_bytes()
    fragment.write_bytes(kept)
    remove_fragments(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


@pytest.mark.parametrize("name", ["model.pt", ".hidden", ".note.tmp", ".model.pt.x7.tmp", "model.pt.7.tmp"])
def test_other_files_stay(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    remove_fragments(tmp_path)
    assert (tmp_path / name).is_file()


def test_fragments_of_one_file_are_removed_and_those_of_others_stay(tmp_path: Path) -> None:
    fragments = [half_written(tmp_path / name) for name in ("a[1].json", "a1.json")]
    remove_fragments(tmp_path, name="a[1].json")
    assert [path.exists() for path in fragments] == [False, True]
    remove_fragments(tmp_path / "not there")


def test_a_tissue_map_is_made_anew_and_the_half_one_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    t1 = np.random.default_rng(0).normal(100, 10, (4, 5, 6)).astype(np.float32)
    tissue = np.full(t1.shape, 3, np.uint8)
    monkeypatch.setattr(tissue_cache, "segment_tissue", lambda *_, **__: tissue)
    key = tissue_cache.tissue_key(t1, spacing=[1.0, 1.0, 1.0])
    own, other = half_written(tmp_path / f"{key}.nii.gz"), half_written(tmp_path / "other.nii.gz")
    (tmp_path / f"{key}.nii.gz").write_bytes(b"half")
    made = tissue_cache.cached_tissue(t1, affine=np.eye(4), cache_dir=tmp_path)
    assert np.array_equal(made, tissue)
    assert np.array_equal(np.asarray(nib.load(tmp_path / f"{key}.nii.gz").dataobj), tissue)
    # another process may be writing the other one
    assert (own.exists(), other.exists()) == (False, True)


def test_a_half_written_marker_is_no_finished_job_and_is_removed(tmp_path: Path) -> None:
    fragment = half_written(tmp_path / "done.json")
    (tmp_path / "run").mkdir()
    assert not is_finished(tmp_path)
    attempt = start_attempt(tmp_path, ["true"], {})
    assert attempt is not None
    attempt.wait_ended()
    assert not fragment.exists()


def test_half_written_predictions_are_not_packed(tmp_path: Path) -> None:
    half_written(tmp_path / "case_1_seg.nii.gz")
    half_written(tmp_path / "case_1_seg.json")
    with pytest.raises(InputError):
        prediction_files(tmp_path)
