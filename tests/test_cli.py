import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mtmed.cli import COMMANDS, main


def make_spleen(folder: Path, cases: int = 3) -> Path:
    for index in range(cases):
        data = np.random.default_rng(index).integers(-1000, 1000, (8, 8, 6)).astype(np.int16)
        for part, voxels in (("imagesTr", data), ("labelsTr", (data > 900).astype(np.uint8))):
            path = folder / part / f"spleen_{index}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(voxels, np.diag([1, 1, 2, 1])), path)
    return folder


def test_help_names_every_command_and_loads_no_training_library() -> None:
    script = (
        "import sys\nfrom mtmed.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "assert not {'torch', 'monai'} & set(sys.modules), sorted(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in COMMANDS:
        assert command.name in done.stdout


def test_the_layouts_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["manifest", "--list"]) == 0
    out = capsys.readouterr().out
    assert "msd_spleen" in out
    assert "CC BY-NC-SA 4.0" in out


def test_a_manifest_is_written_then_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_spleen(tmp_path)
    assert main(["manifest", "msd_spleen", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "3 labelled cases of 3 patients, 0 test cases, 0 left out" in out
    assert "3 labelled cases; the complete data set has 41" in out
    assert f"next: mtmed check {tmp_path}" in out
    assert len(json.loads((tmp_path / "dataset.json").read_text())["training"]) == 3

    assert main(["check", str(tmp_path), "--json", str(tmp_path / "report.json")]) == 0
    out = capsys.readouterr().out
    assert "8 x 8 x 6" in out
    assert "spleen 3" in out
    assert out.splitlines()[-1] == "0 errors, 0 notices"
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["errors"] == []
    assert report["cases"][0]["shape"] == [8, 8, 6]


def test_an_existing_file_is_kept_unless_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_spleen(tmp_path)
    (tmp_path / "dataset.json").write_text("precious")
    assert main(["manifest", "msd_spleen", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "dataset.json: exists already" in error
    assert "--overwrite" in error
    assert (tmp_path / "dataset.json").read_text() == "precious"
    assert main(["manifest", "msd_spleen", str(tmp_path), "--output", str(tmp_path / "other.json")]) == 0
    assert (tmp_path / "dataset.json").read_text() == "precious"
    assert main(["manifest", "msd_spleen", str(tmp_path), "--overwrite"]) == 0
    assert (tmp_path / "dataset.json").read_text() == (tmp_path / "other.json").read_text()


def test_errors_of_a_check_are_lines_on_stderr_and_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_spleen(tmp_path)
    assert main(["manifest", "msd_spleen", str(tmp_path)]) == 0
    (tmp_path / "imagesTr" / "spleen_1.nii.gz").write_bytes(b"")
    (tmp_path / "labelsTr" / "spleen_2.nii.gz").unlink()
    capsys.readouterr()
    arguments = ["check", str(tmp_path), "--patch-size", "8", "8", "16", "--spacing", "1", "1", "1"]
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith(str(tmp_path))]
    assert len(lines) == 2
    assert "spleen_1.nii.gz: is empty" in lines[0]
    assert "spleen_2.nii.gz: no such file" in lines[1]
    assert "smaller than the patch of 8x8x16" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "nowhere"], "nowhere: no such file or folder"),
        (["check", "."], "has no dataset.json; write one with 'mtmed manifest LAYOUT"),
        (["check", ".", "--patch-size", "8", "0", "8"], "--patch-size: is [8, 0, 8]"),
        (["manifest"], "needs a layout and a folder"),
        (["manifest", "msd_spleem", "."], "did you mean 'msd_spleen'"),
        (["manifest", "msd_spleen", "."], "no file matches 'imagesTr/"),
        (["manifest", "msd_spleen", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_exit_1(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_commands_have_distinct_names() -> None:
    assert len({command.name for command in COMMANDS}) == len(COMMANDS)
