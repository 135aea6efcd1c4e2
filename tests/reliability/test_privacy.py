"""Nothing of a DICOM header but the geometry reaches what mtmed writes or prints, in good runs and in failing ones."""

import gzip
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from abdomen_rows import evaluate, inference, pretrain, trained
from bundle_rows import two_stage
from dicom_rows import write_abdomen_series
from header_markers import MARKERS, found_in, found_in_files, mark, mark_file
from launching import Launcher
from pydicom import dcmread
from pydicom.dataset import Dataset
from two_stage_inputs import copy_x_rays

from mtmed.cli import main

PROBLEMS = (
    "0/IM0003.dcm: cannot",
    "1: has a gap",
    "2: holds slices of 2 series",
    "3/IM0001.dcm: has no position",
)


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    starter = Launcher()
    yield starter
    starter.close()


def write_marked_series(folder: Path) -> None:
    """Four abdomens, all series, and the weights of a network that was never trained."""
    trained()(folder)
    for number in range(4):
        write_abdomen_series(
            folder, number, change=lambda index, header, number=number: mark(header, image=index, series=number)
        )


def write_marked_x_rays(folder: Path) -> None:
    copy_x_rays(folder)
    for number, path in enumerate(sorted((folder / "cohort").rglob("*.dcm"))):
        mark_file(path, image=number)


def spoil_all(folder: Path) -> Path:
    """Spoil each series in another way; gives the folder."""
    for number, spoil in enumerate((_cut, _take_out, _mix, _forget_places)):
        spoil(folder / f"cohort/images/{number}")
    return folder


def _cut(folder: Path) -> None:
    path = folder / "IM0003.dcm"
    path.write_bytes(path.read_bytes()[:-100])


def _take_out(folder: Path) -> None:
    (folder / "IM0007.dcm").unlink()


def _mix(folder: Path) -> None:
    (folder.parent / "1/IM0001.dcm").rename(folder / "other.dcm")


def _forget_places(folder: Path) -> None:
    file = dcmread(folder / "IM0001.dcm")
    del file.ImagePositionPatient
    file.save_as(folder / "IM0001.dcm")


class Watched:
    """Runs commands in a folder and collects what they print.

    Args:
        folder: with a cohort in ``cohort``.
        launcher: runs the bundles; not needed for checks alone.
    """

    def __init__(self, folder: Path, launcher: Launcher | None = None) -> None:
        self.folder, self.launcher = folder, launcher
        self.inputs = {path: None for path in folder.rglob("*")}
        self.printed = ""

    def bundle(self, words: tuple[str, ...], name: str) -> int:
        """Run a bundle with its own folder for what it writes; gives its status."""
        own = [word.replace("{}/out", f"{{}}/{name}").replace("{}", str(self.folder)) for word in words[1:]]
        log = self.folder / f"{name}.printed"
        assert self.launcher is not None
        status = self.launcher.run(own, log)
        self.printed += log.read_text()
        return status

    def check(self, capfd: pytest.CaptureFixture[str]) -> int:
        """Run ``mtmed check``; gives its status."""
        capfd.readouterr()
        status = main(["check", str(self.folder / "cohort")])
        self.printed += "".join(capfd.readouterr())
        return status

    def assert_silent(self) -> None:
        """Nothing of a header was printed or written, nor is a file named by it."""
        assert not found_in(self.printed.encode()), self.printed
        assert not found_in_files(self.folder, but=self.inputs)


@pytest.fixture
def watched(tmp_path: Path, launcher: Launcher) -> Callable[[Callable[[Path], None]], Watched]:
    def make(write: Callable[[Path], None]) -> Watched:
        write(tmp_path)
        return Watched(tmp_path, launcher)

    return make


def test_the_search_finds_markers_wherever_they_are(tmp_path: Path) -> None:
    header = Dataset()
    mark(header, image=1)
    write_marked_series(tmp_path)
    write_marked_x_rays(tmp_path / "x")
    for path in (tmp_path / "cohort/images/1/IM0001.dcm", next((tmp_path / "x").rglob("*.dcm"))):
        assert found_in(path.read_bytes()) == sorted(marker.decode() for marker in MARKERS)
    text = f"of {header.PatientName}".upper()
    (tmp_path / "a.gz").write_bytes(gzip.compress(gzip.compress(text.encode("utf-16-le"))))
    with zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data/0", header.SeriesInstanceUID * 9)
    np.savez_compressed(tmp_path / "c.npz", np.frombuffer(header.PatientBirthDate.encode(), np.uint8))
    (tmp_path / f"{header.PatientID}.txt").write_bytes(b"")
    assert {"a.gz", "b.pt", "c.npz", f"{header.PatientID}.txt"} <= found_in_files(tmp_path, but={}).keys()


def test_checks_of_good_and_spoilt_series_and_of_x_rays(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name, write in (("series", write_marked_series), ("x_rays", write_marked_x_rays)):
        write(tmp_path / name)
        run = Watched(tmp_path / name)
        assert run.check(capfd) == 0
        run.assert_silent()
    run = Watched(spoil_all(tmp_path / "series"))
    assert run.check(capfd) == 1
    assert all(said in run.printed for said in PROBLEMS), run.printed
    run.assert_silent()


@pytest.mark.slow
def test_series_at_check_training_inference_and_evaluation(
    watched: Callable[[Callable[[Path], None]], Watched], capfd: pytest.CaptureFixture[str]
) -> None:
    run = watched(write_marked_series)
    assert run.check(capfd) == 0
    assert run.bundle(pretrain(), "trained") == 0, run.printed
    assert run.bundle(inference(), "predicted") == 0, run.printed
    assert run.bundle(evaluate(overlays=True), "evaluated") == 0, run.printed
    assert len(list(run.folder.glob("predicted/*.nii.gz"))) == 4
    assert list(run.folder.glob("trained/**/events.out.*"))
    run.assert_silent()


@pytest.mark.slow
def test_x_rays_at_check_training_inference_and_evaluation(
    watched: Callable[[Callable[[Path], None]], Watched], capfd: pytest.CaptureFixture[str]
) -> None:
    run = watched(write_marked_x_rays)
    assert run.check(capfd) == 0
    assert run.bundle(two_stage(), "trained") == 0, run.printed
    checkpoint = str(run.folder / "trained/model.pt")
    images = str(run.folder / "cohort")
    assert run.bundle(two_stage("inference", checkpoint=checkpoint, input=images), "predicted") == 0, run.printed
    assert run.bundle(two_stage("evaluate", checkpoint=checkpoint), "evaluated") == 0, run.printed
    run.assert_silent()


@pytest.mark.slow
def test_failing_runs(watched: Callable[[Callable[[Path], None]], Watched], capfd: pytest.CaptureFixture[str]) -> None:
    run = watched(write_marked_series)
    run.inputs |= {path: None for path in spoil_all(run.folder).rglob("*")}
    assert run.check(capfd) == 1
    assert run.bundle(pretrain(), "trained") == 1
    for number in range(4):
        words = inference(input=f"{{}}/cohort/images/{number}")
        assert run.bundle(words, f"predicted{number}") == 1
    for said in PROBLEMS:
        assert run.printed.count(said) >= 3, said
    run.assert_silent()
