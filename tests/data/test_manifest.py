import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from mtmed.data.manifest import Cohort, load_cohort, load_manifest, write_manifest
from mtmed.data.recorded_split import RecordedSplit
from mtmed.errors import InputError

GENUINE = {
    "name": "Spleen",
    "description": "Spleen Segmentation",
    "reference": "Memorial Sloan Kettering Cancer Center",
    "licence": "CC-BY-SA 4.0",
    "release": "1.0 06/08/2018",
    "tensorImageSize": "3D",
    "modality": {"0": "CT"},
    "labels": {"0": "background", "1": "spleen"},
    "numTraining": 2,
    "numTest": 2,
    "training": [
        {"image": "./imagesTr/spleen_19.nii.gz", "label": "./labelsTr/spleen_19.nii.gz"},
        {"image": "./imagesTr/spleen_31.nii.gz", "label": "./labelsTr/spleen_31.nii.gz"},
    ],
    "test": ["./imagesTs/spleen_15.nii.gz", "./imagesTs/spleen_23.nii.gz"],
}
SPLIT = {"key": "patient_day", "shares": [70, 20, 10], "seed": 3}


def write(folder: Path, **changes: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    content = {key: value for key, value in (GENUINE | changes).items() if value is not None}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def row(case: str, **keys: object) -> dict[str, object]:
    return {"image": f"./i/{case}.nii.gz", "label": f"./l/{case}.nii.gz", **keys}


def test_a_genuine_decathlon_file_is_read_as_it_stands(tmp_path: Path) -> None:
    manifest = load_manifest(write(tmp_path))
    assert manifest.name == "Spleen"
    assert manifest.label_names == {0: "background", 1: "spleen"}
    assert manifest.modalities == ("CT",)
    assert [case.id for case in manifest.cases] == ["spleen_19", "spleen_31"]
    assert manifest.cases[0].image == (str(tmp_path / "imagesTr" / "spleen_19.nii.gz"),)
    assert manifest.cases[0].label == str(tmp_path / "labelsTr" / "spleen_19.nii.gz")
    assert [(case.id, case.label) for case in manifest.test_cases] == [("spleen_15", None), ("spleen_23", None)]
    assert manifest.licence == "CC-BY-SA 4.0"
    assert not manifest.has_groups
    assert [case.group for case in manifest.cases] == ["spleen_19", "spleen_31"]


def test_the_file_itself_can_be_named(tmp_path: Path) -> None:
    assert load_manifest(write(tmp_path) / "dataset.json") == load_manifest(tmp_path)


def test_all_keys_of_a_row_reach_the_case(tmp_path: Path) -> None:
    training = [row("a", id="A1", patient="p1", visit=3, slice=17, fold=2, metadata={"age": 61, "site": "x"})]
    case = load_manifest(write(tmp_path, training=training)).cases[0]
    assert (case.id, case.group, case.visit, case.slice, case.fold) == ("A1", "p1", "3", 17, 2)
    assert case.metadata == {"age": 61, "site": "x"}
    assert case.key == "Spleen/A1"


def test_channels_follow_the_modalities(tmp_path: Path) -> None:
    training = [{"image": ["a_flair.nii", "a_t1.nii"], "label": "a.nii", "id": "a"}]
    manifest = load_manifest(write(tmp_path, modality={"0": "FLAIR", "1": "T1"}, training=training))
    assert manifest.modalities == ("FLAIR", "T1")
    assert manifest.cases[0].image == (str(tmp_path / "a_flair.nii"), str(tmp_path / "a_t1.nii"))


def test_a_missing_modality_raters_and_maps_reach_the_case(tmp_path: Path) -> None:
    modality = {"0": "FLAIR", "1": "T1"}
    training = [
        {"image": [None, "a_t1.nii"], "label": ["a_r1.nii", "a_r2.nii"], "maps": {"tissue": "a_tissue.nii"}},
        {"image": ["b_flair.nii", "b_t1.nii"], "label": "b.nii"},
    ]
    test = [{"image": ["c_flair.nii", None], "maps": {"brain_mask": "/elsewhere/c.nii"}}]
    manifest = load_manifest(write(tmp_path, modality=modality, training=training, test=test))
    case = manifest.cases[0]
    assert case.id == "a_t1"
    assert case.image == (None, str(tmp_path / "a_t1.nii"))
    assert case.labels == (str(tmp_path / "a_r1.nii"), str(tmp_path / "a_r2.nii"))
    assert case.maps == {"tissue": str(tmp_path / "a_tissue.nii")}
    assert len(case.files) == 4
    assert manifest.cases[1].labels == (str(tmp_path / "b.nii"),)
    assert manifest.test_cases[0].labels == ()
    written = write_manifest(manifest, tmp_path / "copy.json")
    assert load_manifest(written) == manifest
    rows = json.loads(written.read_text())
    assert rows["training"][0] == {
        "image": [None, "./a_t1.nii"],
        "label": ["./a_r1.nii", "./a_r2.nii"],
        "maps": {"tissue": "./a_tissue.nii"},
    }
    assert rows["test"][0]["maps"] == {"brain_mask": "/elsewhere/c.nii"}


def test_overlapping_masks_and_recorded_parts_are_read_and_written(tmp_path: Path) -> None:
    labels = {"0": "background", "4": "stomach", "1": "bowel"}
    training = [
        {"image": f"p/{day}/scans", "label": "train.csv", "id": day, "patient": "p", "visit": day, "part": part}
        for day, part in (("d1", "training"), ("d2", "test"))
    ]
    manifest = load_manifest(write(tmp_path, labels=labels, overlapping=True, split=SPLIT, training=training, test=[]))
    assert manifest.overlapping
    assert manifest.split == RecordedSplit("patient_day", (70, 20, 10), 3)
    assert [(case.part, case.part_key) for case in manifest.cases] == [
        ("training", "patient_day"),
        ("test", "patient_day"),
    ]
    assert Cohort((manifest,)).organs() == ["bowel", "stomach"]
    written = write_manifest(manifest, tmp_path / "copy.json")
    assert load_manifest(written) == manifest
    assert json.loads(written.read_text())["split"] == SPLIT
    plain = load_manifest(write(tmp_path))
    assert (plain.overlapping, plain.split, plain.cases[0].part) == (False, None, None)
    assert {"overlapping", "split"}.isdisjoint(json.loads(write_manifest(plain, tmp_path).read_text()))


def test_what_is_written_is_read_back_equal(tmp_path: Path) -> None:
    training = [
        row("a", patient="p", visit="d1", slice=0, fold=0, metadata={"age": 5}),
        row("b", patient="p", visit="d2", id="other"),
    ]
    test = [{"image": "t.nii.gz", "patient": "q"}]
    manifest = load_manifest(write(tmp_path, training=training, test=test))
    write_manifest(manifest, tmp_path / "copy.json")
    assert load_manifest(tmp_path / "copy.json") == manifest
    assert "./i/a.nii.gz" in (tmp_path / "copy.json").read_text()


def test_a_manifest_written_elsewhere_still_finds_its_images(tmp_path: Path) -> None:
    manifest = load_manifest(write(tmp_path / "data"))
    (tmp_path / "lists").mkdir()
    again = load_manifest(write_manifest(manifest, tmp_path / "lists"))
    assert again == replace(manifest, folder=tmp_path / "lists")


def test_no_fragment_stays_when_writing_fails(tmp_path: Path) -> None:
    manifest = load_manifest(write(tmp_path / "data"))
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_manifest(manifest, tmp_path / "taken" / "dataset.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "taken"]


BAD = {
    "unknown key in a row": ({"training": [row("a"), row("b", lable="x")]}, r"training\[1\].*unknown key 'lable'"),
    "no label": ({"training": [{"image": "a.nii"}]}, r"training\[0\].*no 'label'"),
    "no image": ({"training": [{"label": "a.nii"}]}, r"training\[0\].*'image' is None"),
    "image of wrong type": ({"training": [{"image": 3, "label": "a.nii"}]}, r"training\[0\].*'image' is 3"),
    "empty image list": ({"training": [{"image": [], "label": "a.nii"}]}, r"training\[0\].*'image' is \[\]"),
    "all images null": (
        {"modality": {"0": "A", "1": "B"}, "training": [{"image": [None, None], "label": "c"}]},
        r"'image' is \[None, None\]",
    ),
    "one of the raters null": ({"training": [row("a", label=["x", None])]}, r"'label' is \['x', None\]; .* per rater"),
    "no rater": ({"training": [row("a", label=[])]}, r"training\[0\].*no 'label'"),
    "maps as a list": ({"training": [row("a", maps=["x"])]}, r"'maps' is \['x'\]; give an object"),
    "map without path": ({"training": [row("a", maps={"tissue": None})]}, r"'maps' is .*give names and paths"),
    "map of a taken name": (
        {"training": [row("a", maps={"image": "x"})]},
        "'maps' has the name 'image', which is taken",
    ),
    "too many channels": ({"training": [{"image": ["a", "b"], "label": "c"}]}, "2 images for 1 modalities"),
    "row is a number": ({"training": [4]}, r"training\[0\].*is 4, not a row"),
    "row is a path": ({"training": ["a.nii"]}, r"training\[0\].*not a row"),
    "fold below 0": ({"training": [row("a", fold=-1)]}, r"training\[0\].*'fold' is -1"),
    "fold is true": ({"training": [row("a", fold=True)]}, r"'fold' is True"),
    "part of another name": ({"training": [row("a", part="train")]}, r"'part' is 'train'; use one of training, val"),
    "part is a number": ({"training": [row("a", part=1)]}, "'part' is 1"),
    "part of a test row": (
        {"training": [row("a")], "test": [{"image": "t", "part": "test"}]},
        r"test\[0\]: 'part' is 'test'; give parts to rows of 'training' only",
    ),
    "part for some rows": (
        {"training": [row("a", part="test"), row("b")]},
        r"dataset\.json Spleen/b: has no 'part' though other cases have",
    ),
    "split without parts": ({"split": SPLIT, "training": [row("a")]}, "has 'split' but no row has 'part'"),
    "split without a seed": ({"split": {"key": "patient", "shares": [70, 20, 10]}}, "'split' is .*; write"),
    "split with a name as share": ({"split": SPLIT | {"shares": [70, 20, "x"]}}, "'split' is .*; write"),
    "split with two shares": ({"split": SPLIT | {"shares": [80, 20]}}, "'split' is .*; write"),
    "split by slice": ({"split": SPLIT | {"key": "slice"}}, "'split' has the key 'slice'; use one of patient"),
    "overlapping is a word": ({"overlapping": "yes"}, "'overlapping' is 'yes'; write true"),
    "overlapping masks counted on": (
        {"overlapping": True, "labels": {"0": "background", "1": "a", "2": "b", "3": "c"}},
        "'labels' has the value 3, which is no bit, though 'overlapping' is true; number the organs 1, 2, 4",
    ),
    "nine overlapping masks": ({"overlapping": True, "labels": {"0": "none", "256": "a"}}, "has the value 256"),
    "metadata is a list": ({"training": [row("a", metadata=[1])]}, "'metadata' is"),
    "visit without patient": ({"training": [row("a", visit="1")]}, r"training\[0\].*no 'patient'"),
    "slice without patient": ({"training": [row("a", slice=0)]}, r"training\[0\].*no 'patient'"),
    "patient in some rows": ({"training": [row("a", patient="p"), row("b")]}, r"training\[1\].*no 'patient'"),
    "same image twice": ({"training": [row("a"), row("a", id="b")]}, r"training\[1\].*same image as training\[0\]"),
    "same image by a detour": (
        {"training": [row("a"), {"image": "./i/../i/a.nii.gz", "label": "x", "id": "b"}]},
        "same image",
    ),
    "same id twice": ({"training": [row("a"), row("b", id="a")]}, r"training\[1\].*same id 'a' as training\[0\]"),
    "image in both parts": ({"training": [row("a")], "test": [{"image": "i/a.nii.gz", "id": "t"}]}, "same image"),
    "no labels": ({"labels": None}, "'labels' is None"),
    "labels of 5000 digits": ({"labels": {"0": "background", "9" * 5000: "liver"}}, "not whole numbers"),
    "labels without 0": ({"labels": {"1": "liver"}}, "lacks 0"),
    "label twice": ({"labels": {"0": "background", "1": "liver", "2": "liver"}}, "twice"),
    "label number with a sign": ({"labels": {"0": "background", "-1": "liver"}}, "not whole numbers"),
    "labels as a list": ({"labels": ["background", "liver"]}, "'labels' is"),
    "no modality": ({"modality": None}, "'modality' is None"),
    "modality starts at 1": ({"modality": {"1": "CT"}}, "'modality'"),
    "no training": ({"training": None}, "'training' is NoneType"),
    "nothing at all": ({"training": [], "test": []}, "'training' is empty"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_fault_is_named_in_one_line_with_the_file(tmp_path: Path, name: str) -> None:
    changes, message = BAD[name]
    with pytest.raises(InputError, match=message) as caught:
        load_manifest(write(tmp_path, **changes))  # type: ignore[arg-type]
    assert "dataset.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not JSON.*line 1"),
        (b'{"a": 1,\n "a": 2}', "key 'a' twice"),
        (b"\xff\xfe\x00", "not text"),
        (b"[]", "holds a list"),
    ],
)
def test_what_is_no_json_object_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "dataset.json").write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_manifest(tmp_path)


def test_a_folder_of_data_sets_is_a_cohort(tmp_path: Path) -> None:
    write(tmp_path / "liver", name="Liver", labels={"0": "background", "1": "liver"})
    write(tmp_path / "spleen")
    write(tmp_path / ".hidden", name="Hidden")
    cohort = load_cohort(tmp_path)
    assert cohort.datasets == ("Liver", "Spleen")
    assert cohort.label_names("Liver") == {0: "background", 1: "liver"}
    assert [case.key for case in cohort.cases][:2] == ["Liver/spleen_19", "Liver/spleen_31"]
    assert load_cohort([tmp_path / "liver", str(tmp_path / "spleen" / "dataset.json")]) == cohort


def test_a_cohort_without_labels_keeps_all_else(tmp_path: Path) -> None:
    raters = ["./l/x.nii.gz", "./l/x2.nii.gz"]
    write(tmp_path, training=[row("x", patient="p") | {"label": raters}], test=[row("y", patient="q")])
    cohort = load_cohort(tmp_path)
    blind = cohort.without_labels()
    hidden = [case for manifest in blind.manifests for case in manifest.test_cases]
    assert [case.labels for case in (*blind.cases, *hidden)] == [(), ()]
    assert [replace(case, label=None, raters=()) for case in cohort.cases] == list(blind.cases)
    assert [replace(case, label=None) for case in cohort.manifests[0].test_cases] == hidden
    assert blind.label_names(cohort.datasets[0]) == cohort.label_names(cohort.datasets[0])


def test_an_unknown_data_set_is_refused_by_name(tmp_path: Path) -> None:
    cohort = load_cohort(write(tmp_path))
    with pytest.raises(InputError, match=r"liver.*choose one of Spleen"):
        cohort.label_names("liver")


def test_two_data_sets_of_one_name_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b")
    with pytest.raises(InputError, match="same name 'Spleen'"):
        load_cohort(tmp_path)


def test_a_folder_without_manifest_names_the_command_and_the_layouts(tmp_path: Path) -> None:
    for load in (load_manifest, load_cohort):
        with pytest.raises(InputError, match=r"mtmed manifest LAYOUT .*btcv.*msd_spleen"):
            load(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: no such file or folder"):
        load_cohort(tmp_path / "nowhere")


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(InputError, match="list of data sets is empty"):
        load_cohort([])


def test_missing_patients_are_said_once_for_the_cohort(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "a", name="A")
    write(tmp_path / "b", name="B")
    write(tmp_path / "c", name="C", training=[row("x", patient="p")], test=[])
    with caplog.at_level(logging.INFO, logger="mtmed"):
        cohort = load_cohort(tmp_path)
    assert isinstance(cohort, Cohort)
    assert [record.getMessage() for record in caplog.records] == [
        "A, B: no row has 'patient', so each case counts as its own patient"
    ]
