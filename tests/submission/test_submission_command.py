"""``mtmed submission``: which challenge, with which options."""

from pathlib import Path

import pytest

from mtmed.cli import main
from mtmed.submission import command


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str], dict[str, str | None]]]:
    """What the writers were called with; they take one case and write nothing."""
    made: list[tuple[str, list[str], dict[str, str | None]]] = []
    for name in ("write_isbi_submission", "write_kits_submission", "write_uw_madison_submission"):

        def write(predictions: list[str], *, name: str = name, **options: str | None) -> dict[str, Path]:
            made.append((name, predictions, options))
            return {"test01_01": Path("test01_01_seg.nii.gz")}

        monkeypatch.setattr(command, name, write)
    return made


def test_isbi_is_the_challenge_unless_another_is_named(calls: list, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submission", "a.nii.gz", "b.nii.gz", "--method", "unet", "--output", "out.zip"]) == 0
    assert main(["submission", "a", "--challenge", "isbi2015", "--method", "unet"]) == 0
    assert calls == [
        ("write_isbi_submission", ["a.nii.gz", "b.nii.gz"], {"output": "out.zip", "method": "unet"}),
        ("write_isbi_submission", ["a"], {"output": "submission.zip", "method": "unet"}),
    ]
    out = capsys.readouterr().out
    assert "written: out.zip (1 scans, test01_01_unet.nii and so on)" in out
    assert "smart-stats-tools.org" in out


def test_kits_is_packed_without_a_method(calls: list, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submission", "a", "--challenge", "kits19", "--output", "out.zip"]) == 0
    out = capsys.readouterr().out
    assert "notice: the grids were not compared" in out
    assert "kits19.grand-challenge.org" in out
    assert main(["submission", "a", "--challenge", "kits19", "--images", "kits19"]) == 0
    out = capsys.readouterr().out
    assert "grids were not compared" not in out
    assert "tumours must be 2" in out
    assert calls == [
        ("write_kits_submission", ["a"], {"output": "out.zip", "images": None}),
        ("write_kits_submission", ["a"], {"output": "submission.zip", "images": "kits19"}),
    ]


def test_uw_madison_is_a_table_of_the_slices_of_a_folder(calls: list, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submission", "a", "--challenge", "uw_madison", "--images", "test"]) == 0
    out = capsys.readouterr().out
    assert "written: submission.csv (1 scans" in out
    assert "kaggle.com/competitions/uw-madison" in out
    assert calls == [("write_uw_madison_submission", ["a"], {"output": "submission.csv", "images": "test"})]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--method: is not given; name the method, or add --challenge kits19"),
        (["--method", "unet", "--images", "x"], "--images: is not an option of isbi2015; leave it out, or add --chal"),
        (["--challenge", "uw_madison"], "--images: is not given; pass the folder of the scans"),
        (
            ["--challenge", "uw_madison", "--method", "unet"],
            "--method: is not an option of uw_madison; leave it out, or",
        ),
        (["--challenge", "kits19", "--method", "unet"], "--method: is not an option of kits19; leave it out, or add"),
    ],
)
def test_an_option_of_the_other_challenge_is_refused_in_one_line(
    calls: list, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["submission", "a", *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert calls == []


def test_an_unknown_challenge_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["submission", "a", "--challenge", "kits23"])
    error = capsys.readouterr().err
    assert "isbi2015" in error
    assert "kits19" in error
