"""Which cases are predicted: by modality, from files, folders and data sets."""

import json
from pathlib import Path
from typing import Any

import pytest

from mtmed.errors import InputError
from mtmed.inferers import inference_cases

MODALITIES = ("FLAIR", "T1", "T2")


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def write_cohort(folder: Path, modalities: tuple[str, ...], *, test: list[Any], training: list[Any] = ()) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "name": folder.name,
        "modality": {str(index): name for index, name in enumerate(modalities)},
        "labels": {"0": "background", "1": "lesion"},
        "training": list(training),
        "test": test,
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def test_one_case_is_given_by_the_names_of_its_modalities(tmp_path: Path) -> None:
    touch(tmp_path, "t1.nii.gz", "flair.nii.gz", "t2.nii.gz", "tissue.nii.gz")
    path = {name: str(tmp_path / f"{name.lower()}.nii.gz") for name in (*MODALITIES, "tissue")}
    source = {"t1": path["T1"], "Flair": path["FLAIR"], "T2": path["T2"], "maps": {"tissue": path["tissue"]}}
    assert inference_cases(source, modalities=MODALITIES) == [
        {"image": [path[name] for name in MODALITIES], "tissue": path["tissue"], "output_name": "flair"}
    ]


def test_paths_of_one_case_may_be_relative_and_path_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "flair.nii.gz", "t1.nii.gz")
    monkeypatch.chdir(tmp_path)
    rows = inference_cases({"FLAIR": Path("flair.nii.gz"), "T1": "t1.nii.gz"}, modalities=["FLAIR", "T1"])
    assert rows[0]["image"] == [str(tmp_path / "flair.nii.gz"), str(tmp_path / "t1.nii.gz")]


def test_a_missing_modality_is_named_unless_it_is_allowed(tmp_path: Path) -> None:
    touch(tmp_path, "t1.nii.gz")
    source = {"T1": str(tmp_path / "t1.nii.gz"), "T2": None}
    with pytest.raises(InputError, match="input: has no FLAIR, no T2; add its path, or pass --allow_missing true"):
        inference_cases(source, modalities=MODALITIES)
    rows = inference_cases(source, modalities=MODALITIES, allow_missing=True)
    assert rows == [{"image": [None, str(tmp_path / "t1.nii.gz"), None], "output_name": "t1"}]
    with pytest.raises(InputError, match="input: has no image; give paths by name: FLAIR, T1, T2"):
        inference_cases({}, modalities=MODALITIES, allow_missing=True)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            {"FLAIR": "flair.nii.gz", "FLAR": "x"},
            "has 'FLAR', which is no modality of the network; did you mean 'FLAIR'",
        ),
        ({"FLAIR": "flair.nii.gz", "ADC": "x"}, "has 'ADC', which is no modality .*; use FLAIR, T1"),
        ({"FLAIR": "flair.nii.gz", "T1": "gone.nii.gz"}, r"gone\.nii\.gz: no such file; correct the path"),
        ({"FLAIR": "flair.nii.gz", "T1": 3}, "'image' is"),
        ({"FLAIR": "flair.nii.gz", "T1": "flair.nii.gz", "maps": {"label": "x"}}, "'maps' has the name 'label'"),
        ({"FLAIR": "flair.nii.gz", "T1": "flair.nii.gz", "maps": {"tissue": "x.nii"}}, "x.nii: no such file"),
    ],
)
def test_a_wrong_case_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: dict[str, Any], message: str
) -> None:
    touch(tmp_path, "flair.nii.gz")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        inference_cases(source, modalities=["FLAIR", "T1"])
    assert "\n" not in str(caught.value)


def test_modalities_of_a_data_set_are_chosen_by_name(tmp_path: Path) -> None:
    rows = [
        {
            "image": ["a/t2.nii", "a/t1.nii", "a/flair.nii"],
            "patient": "a",
            "id": "a",
            "maps": {"tissue": "a/tissue.nii"},
        },
        {"image": ["b/t2.nii", "b/t1.nii", "b/flair.nii"], "patient": "b", "id": "b"},
    ]
    folder = write_cohort(tmp_path / "set", ("T2", "T1", "FLAIR"), test=rows)
    for source in (folder, folder / "dataset.json", tmp_path):
        assert inference_cases(source, modalities=["FLAIR", "T1"]) == [
            {
                "image": [str(folder / "a/flair.nii"), str(folder / "a/t1.nii")],
                "tissue": str(folder / "a/tissue.nii"),
                "output_name": "a_flair",
            },
            {"image": [str(folder / "b/flair.nii"), str(folder / "b/t1.nii")], "output_name": "b_flair"},
        ]
    with pytest.raises(InputError, match="set: has no modality 'PD'"):
        inference_cases(folder, modalities=["FLAIR", "PD"])


def test_a_case_of_a_data_set_that_lacks_a_modality_is_named(tmp_path: Path) -> None:
    rows = [{"image": [None, "a/t1.nii"], "patient": "a", "id": "a"}]
    folder = write_cohort(tmp_path / "set", ("FLAIR", "T1"), test=rows)
    with pytest.raises(InputError, match="set/a: has no FLAIR; pass --allow_missing true"):
        inference_cases(folder, modalities=["FLAIR", "T1"])
    rows = inference_cases(folder, modalities=["FLAIR", "T1"], allow_missing=True)
    assert rows == [{"image": [None, str(folder / "a/t1.nii")], "output_name": "t1"}]


def test_labelled_cases_are_predicted_where_there_are_no_others(tmp_path: Path) -> None:
    training = [{"image": "a.nii", "label": "la.nii"}, {"image": "b.nii", "label": "lb.nii"}]
    folder = write_cohort(tmp_path / "set", ("CT",), training=training, test=[])
    assert [row["output_name"] for row in inference_cases(folder, modalities=["CT"])] == ["a", "b"]
    write_cohort(tmp_path / "set", ("CT",), training=training, test=["c.nii"])
    assert [row["output_name"] for row in inference_cases(folder, modalities=["CT"])] == ["c"]


def test_one_modality_may_have_another_name_in_the_data_set(tmp_path: Path) -> None:
    folder = write_cohort(tmp_path / "set", ("MRI",), test=["c.nii"])
    assert inference_cases(folder, modalities=["MR"]) == [{"image": [str(folder / "c.nii")], "output_name": "c"}]


def test_one_file_with_all_modalities_is_passed_on(tmp_path: Path) -> None:
    folder = write_cohort(tmp_path / "set", ("FLAIR", "T1"), test=["both.nii"])
    rows = inference_cases(folder, modalities=["flair", "t1"])
    assert rows == [{"image": [str(folder / "both.nii")], "output_name": "both"}]
    with pytest.raises(InputError, match="set/both: has FLAIR, T1 in one file"):
        inference_cases(folder, modalities=["FLAIR"])


def test_images_without_names_are_for_networks_of_one_modality(tmp_path: Path) -> None:
    touch(tmp_path, "a/ct.nii.gz", "b/ct.nii", "b/._x.nii", "notes.txt")
    rows = inference_cases(tmp_path, modalities=["CT"])
    assert [row["output_name"] for row in rows] == ["a_ct", "b_ct"]
    assert [row["image"] for row in rows] == [[str(tmp_path / "a/ct.nii.gz")], [str(tmp_path / "b/ct.nii")]]
    assert inference_cases([tmp_path / "a", tmp_path / "b/ct.nii"], modalities=["CT"]) == rows
    with pytest.raises(
        InputError, match=r"""ct.nii.gz: does not say which .*pass --input '\{"CT": "ct.nii.gz", "PET"""
    ):
        inference_cases(tmp_path / "a" / "ct.nii.gz", modalities=["CT", "PET"])
    with pytest.raises(InputError, match="does not say which modality it is"):
        inference_cases(tmp_path, modalities=["CT", "PET"])
