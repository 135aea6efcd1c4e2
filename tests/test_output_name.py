"""Names of output files made of names in data."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtmed.output_name import output_name


@pytest.mark.parametrize("name", ["demo_case1", "Kits_c0", "case:1 (left)", "Müller_7", "a.b.c", "x" * 180, "肝臓_1"])
def test_usual_names_stay_as_they_are(name: str) -> None:
    assert output_name(name) == name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("demo/case", "demo_case"),
        ("../../etc/passwd", "_._.._etc_passwd"),
        ("/etc/passwd", "_etc_passwd"),
        ("..", "_."),
        (".", "_"),
        ("", "_"),
        (".hidden", "_hidden"),
        ("a\\b", "a_b"),
        ("a\0b\nc\x1b[31m", "a_b_c_[31m"),
        ("a\ud800b\u202eb", "a_b_b"),
    ],
)
def test_what_could_lead_elsewhere_is_taken_out(name: str, expected: str) -> None:
    assert output_name(name) == expected


def test_long_names_are_cut_and_stay_apart() -> None:
    first, second = output_name("ä" * 400 + "1"), output_name("ä" * 400 + "2")
    assert first != second
    assert len(first.encode()) <= 180


@given(st.text(st.characters(), max_size=300))
def test_every_name_is_one_file_within_its_folder(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    folder = tmp_path_factory.getbasetemp()
    made = output_name(name)
    path = folder / f"{made}_seg.nii.gz"
    assert path.resolve().parent == folder.resolve()
    assert Path(made).name == made
    assert not made.startswith(".")
    assert len(os.fsencode(f".{path.name}.12345678.tmp")) <= 255
    assert output_name(made) == made
