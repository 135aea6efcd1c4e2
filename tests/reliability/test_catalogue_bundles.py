"""Pairs of kidneys, MS lesions, teachers and MixCL's labels that are wrong or odd, given to the real command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from abdomen_rows import finetune, pretrain
from abdomen_rows import spoil as spoil_abdomens
from bundle_rows import ms_lesion, siamese_kidney, two_stage
from catalogue import CHECKED, NOTHING, RUN, Prepare, Row, assert_refused, assert_works, parametrized
from mixcl_inputs import change_manifest as change_abdomens
from mixcl_inputs import label as abdomen_label
from mixcl_inputs import rewrite as rewrite_abdomen
from mixcl_inputs import split_a_patient
from ms_lesion_runs import write_brains
from siamese_kidney_inputs import (
    PATIENTS,
    change_manifest,
    cohort,
    encoder,
    image_file,
    label_file,
    rewrite,
    spoil,
    without_geometry,
)
from two_stage_inputs import GOOD as X_RAYS
from two_stage_inputs import teacher, together

# --- pairs of kidneys ---------------------------------------------------------------------------------------------

KIDNEYS = cohort(cases=PATIENTS)
PAIRS = siamese_kidney()
SEGMENT = siamese_kidney("train")
FROM_ENCODER = siamese_kidney("train", pretrained="{}/encoder.pt")
HALVES = {"proxy": "half_volume"}
# the pairs can be counted only when the volumes are prepared
REPORTED = CHECKED | {"sides.csv", "regions.png"}
NO_GEOMETRY = ("declares no orientation", "left and right are unknown", "export it again with its geometry")


NO_REFERENCE = ("validation: has no reference foreground in any of its", "choose another fold or fewer folds")


def of_one_patient(folder: Path) -> None:
    change_manifest(folder, lambda content: [row.update(patient="p") for row in content["training"]])


PAIRS_OF_KIDNEYS = (
    Row("image without geometry", PAIRS, (f"{{}}/{image_file(1)}: ", *NO_GEOMETRY),
        spoil(lambda f: without_geometry(f / image_file(1)))),
    Row("label without geometry", PAIRS, (f"{{}}/{label_file(1)}: ", *NO_GEOMETRY),
        spoil(lambda f: without_geometry(f / label_file(1)))),
    Row("hidden image without geometry", siamese_kidney(**HALVES, training_images="all"),
        (f"{{}}/{image_file(210)}: ", *NO_GEOMETRY), spoil(lambda f: without_geometry(f / image_file(210)))),
    Row("hidden image that is not there", siamese_kidney(**HALVES, training_images="all"),
        (f"{{}}/{image_file(210)}: listed under 'test', no such file", "use labelled cases only"),
        spoil(lambda f: (f / image_file(210)).unlink())),
    Row("label of kidneys that nobody named", PAIRS, (f"{{}}/{label_file(1)}: label values 3 are not in the manifest",),
        spoil(lambda f: rewrite(f / label_file(1), lambda data: data * np.uint8(3)))),
    Row("only left kidneys", PAIRS, ("kidney pairs: all 4 kidneys found are left ones, pairs need both sides",),
        cohort(cases=PATIENTS, sides=dict.fromkeys(range(PATIENTS), "left")), False, REPORTED),
    Row("only horseshoe kidneys", PAIRS, ("kidney pairs: none of the 4 cases has a kidney", "check the labels"),
        cohort(cases=PATIENTS, sides=dict.fromkeys(range(PATIENTS), "fused")), False, REPORTED),
    Row("kidneys of one patient", PAIRS, ("folds: 1 patients cannot make 3 folds", "use fold none"),
        spoil(of_one_patient), False, RUN),
    Row("pairs within one patient", siamese_kidney(fold="none"), ("kidney pairs: all 11 kidneys found are of one ",),
        spoil(of_one_patient), False, REPORTED),
    Row("validation of one patient", siamese_kidney(folds=PATIENTS),
        ("validation: has kidneys of 1 patient, and pairs",),
        KIDNEYS, False, REPORTED),
    Row("group without its labels", siamese_kidney(label_groups={"kidney": ["ren"]}),
        ("data set Toy_KiTS: has none of the labels of the group 'kidney' (ren)",), KIDNEYS),
    Row("pairs of labels that are asked of all images", siamese_kidney(training_images="all"),
        ("training_images: is 'all' (the masked proxy needs labels); choose one of fraction",), KIDNEYS),
    Row("region of two axes", siamese_kidney(region_mm=[128.0, 128.0]),
        ("region_mm: is [128.0, 128.0]; give 3 numbers",),
        KIDNEYS),
    Row("margin of 0", siamese_kidney(margin=0.0), ("margin: is 0.0; give a positive number",), KIDNEYS),
    Row("more classes than the groups", siamese_kidney("train", **{"network_def#out_channels": 5}),
        ("network_def::out_channels: is 5, the data have 2",), KIDNEYS),
    Row("one weight of two classes", siamese_kidney("train", cross_entropy_weight=[0.6]),
        ("cross_entropy_weight: is [0.6]; give 2 numbers of 0 or more",), KIDNEYS),
    Row("encoder that saw the patients", FROM_ENCODER,
        ("2 of 2 cases are of patients that the network was trained on",),
        encoder(seen=[f"case_{number:05d}" for number in range(PATIENTS)])),
    Row("encoder of another spacing", siamese_kidney("train", pretrained="{}/encoder.pt", spacing=[4.0, 4.0, 6.0]),
        ("spacing: is [4.0, 4.0, 6.0], but {}/encoder.pt was trained with [8.0, 8.0, 10.0]",), encoder()),
    Row("encoder of two channels", FROM_ENCODER,
        ("network_def::in_channels: is 1, but {}/encoder.pt was trained with 2",),
        encoder(network={"in_channels": 2})),
    Row("labels that validate empty", SEGMENT, NO_REFERENCE,
        spoil(lambda f: [rewrite(path, lambda data: data * 0) for path in f.rglob("segmentation.nii.gz")])),
)  # fmt: skip

# --- MS lesions ---------------------------------------------------------------------------------------------------

LESIONS = ms_lesion()
SINGLE = ms_lesion(variant="single")


def brains(change: Callable[[Path], Any] = lambda folder: None) -> Prepare:
    """Three patients of two visits with one thing changed."""

    def prepare(folder: Path) -> None:
        write_brains(folder / "cohort", patients=3, visits=2)
        change(folder)

    return prepare


def scan(case: str, modality: str) -> Path:
    return Path(f"cohort/images/{case}_{modality}.nii.gz")


def rewritten(path: Path | str, change: Callable[[np.ndarray], np.ndarray], shift: float = 0.0) -> Prepare:
    """Brains with the voxels of a file changed, and the file moved along the first axis, mm."""

    def spoilt(folder: Path) -> None:
        volume = nib.load(folder / path)
        affine = volume.affine.copy()
        affine[0, 3] += shift
        nib.Nifti1Image(change(np.asarray(volume.dataobj)), affine).to_filename(folder / path)

    return brains(spoilt)


def with_rows(change: Callable[[int, dict[str, Any]], Any]) -> Prepare:
    """Brains with the rows of the manifest changed."""

    def spoilt(folder: Path) -> None:
        path = folder / "cohort" / "dataset.json"
        content = json.loads(path.read_text())
        for number, row in enumerate(content["training"]):
            change(number, row)
        path.write_text(json.dumps(content))

    return brains(spoilt)


def with_skull(data: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).integers(20, 60, data.shape)
    return np.where(data == 0, noise, data).astype(np.int16)


def without_lesions(folder: Path) -> None:
    for path in (folder / "cohort" / "labels").iterdir():
        rewrite(path, lambda data: data * 0)


def without(channel: int) -> Prepare:
    return with_rows(lambda number, row: row["image"].__setitem__(channel, None) if number == 5 else None)


MS = (
    Row("T1 that does not overlap with FLAIR", SINGLE, (f"{{}}/{scan('p0_0', 'T1')}: ", "p0_0_FLAIR.nii.gz", "; "),
        rewritten(scan("p0_0", "T1"), lambda data: data, shift=500.0)),
    Row("T1 with its skull", LESIONS, ("p1_0_T1.nii.gz: is not skull-stripped: only 0.0% of its voxels are exactly 0",),
        rewritten(scan("p1_0", "T1"), with_skull)),
    Row("case without T1", ms_lesion(allow_missing=True), ("Toy_MS/p2_1: lacks the modality that its tissue map is",),
        without(1)),
    Row("case without T2", LESIONS, ("Toy_MS/p2_1: has no T2", "--allow_missing true"), without(2), False, NOTHING),
    Row("lesion mask of 0 and 255", SINGLE,
        ("p0_1_rater2.nii.gz: label values are 0 and 255 where 0 and 1 are expected", "divide the map by 255"),
        rewritten("cohort/labels/p0_1_rater2.nii.gz", lambda data: data * np.uint8(255))),
    Row("no lesion in any validated brain", SINGLE, NO_REFERENCE, brains(without_lesions)),
    Row("NaN in a T2", SINGLE, ("p0_1_T2.nii.gz: 1 voxels are NaN or infinite, the first at (3, 4, 5)", "export the"),
        rewritten(scan("p0_1", "T2"), lambda data: with_nan(data))),
    Row("visits of a patient in two folds", LESIONS, ("Toy_MS/p0_1: patient 'p0' is in the folds 0 and 1",),
        with_rows(lambda number, row: row.__setitem__("fold", number % 3))),
    Row("no tissue maps", ms_lesion(tissue="files"), ("Toy_MS/p0_0: has no map 'tissue', like 5 other cases",),
        with_rows(lambda number, row: row.pop("maps"))),
    Row("no brain mask in a row", ms_lesion(variant="single", brain_mask=True),
        ("Toy_MS/p1_0: has no map 'brain_mask'",),
        with_rows(lambda number, row: row["maps"].pop("brain_mask") if number == 2 else None)),
    Row("tissue maps of another table", ms_lesion(tissue="files", tissue_table="spm"),
        ("p1_0_tissue.nii.gz: holds the values 7, which the tissue table does not have",),
        rewritten("cohort/maps/p1_0_tissue.nii.gz", lambda data: np.where(data == 3, 7, data).astype(np.uint8))),
    Row("unknown tissue table", ms_lesion(tissue="files", tissue_table="sspm"), ("tissue table: is 'sspm', known are",),
        brains()),
    Row("unknown variant", ms_lesion(variant="multi_inputs"), ("variant: is 'multi_inputs'", "choose one of single"),
        brains()),
    Row("misspelt modality", ms_lesion(modalities=["FLAIRE", "T1"]), ("Toy_MS: has no modality 'FLAIRE'", "'FLAIR'?"),
        brains()),
    Row("modality twice", ms_lesion(modalities=["FLAIR", "T1", "T1"]), ("modalities: names 'T1' twice",), brains()),
    Row("rater that is not there", ms_lesion(variant="single", rater=3), ("rater: is 3", "1"), brains()),
    Row("rough networks of one patient", ms_lesion(fraction=5),
        ("merged_lesions: cannot be out_of_fold with one training patient", "--merged_lesions in_sample"), brains()),
)  # fmt: skip


def with_nan(data: np.ndarray) -> np.ndarray:
    data = data.astype(np.float32)
    data[3, 4, 5] = np.nan
    return data


# --- teachers -----------------------------------------------------------------------------------------------------

STUDENT = two_stage("distill", teachers=["{}/model.pt"])
TWO = two_stage("distill", teachers=["{}/model.pt", "{}/other.pt"])


def of_other(key: str, value: Any, said: str, **network: Any) -> Row:
    """A second teacher of another setting than the student."""
    problem = (
        f"{{}}/other.pt: was trained with {key} {said}; give teachers that were trained with the student's options"
    )
    return Row(f"teacher of other {key}", TWO, (problem,),
               together(teacher(), teacher("other.pt", settings={key: value}, **network)))  # fmt: skip


TEACHERS = (
    Row("no teacher", two_stage("distill"), ("teachers: is [], a student has at least one; pass --teachers",), X_RAYS),
    Row("teacher that is no path", two_stage("distill", teachers=[3]), ("teachers: has 3, which is no path",), X_RAYS),
    Row("teacher twice", two_stage("distill", teachers=["{}/model.pt"] * 2), ("teachers: has {}/model.pt twice",),
        teacher()),
    Row("second teacher that is not there", TWO, ("{}/other.pt: no such teacher; repeat the run that makes it",),
        teacher()),
    of_other("organs", ["pneumothorax", "heart"], "['pneumothorax', 'heart'], the student with ['pneumothorax']"),
    of_other("image_size", [32, 32], "[32, 32], the student with [16, 16]"),
    of_other("modalities", ["CT"], "['CT'], the student with ['CR']"),
    of_other("normalise_per", "scan", "scan, the student with slice"),
    of_other("slice_offsets", [-1, 0, 1], "[-1, 0, 1], the student with [0]", in_channels=3),
    Row("teacher that saw the validation", TWO, (" cases are of patients that {}/other.pt was trained on; pass the ",),
        together(teacher(seen="training"), teacher("other.pt", seen="validation"))),
    Row("teachers that teach nothing", two_stage("distill", teachers=["{}/model.pt"], soft_weight=0),
        ("soft_weight: is 0, so nothing would be learnt from the teachers",), teacher()),
    Row("temperature of 0", two_stage("distill", teachers=["{}/model.pt"], temperature=0),
        ("temperature: is [0]; give 1 number of 0.01 or more",), teacher()),
    Row("labels that are asked of images without", two_stage(task="contour", unlabelled=True),
        ("task: contour needs the labels of the images that it learns from; use --task rotation",), X_RAYS),
    Row("weighting of nothing", two_stage(task="none", weighting="random"),
        ("weighting: has nothing to weigh, since no auxiliary task trains with the segmentation",), X_RAYS),
)  # fmt: skip

# --- MixCL --------------------------------------------------------------------------------------------------------

MIXCL = (
    Row("MixCL without a loss", pretrain(losses=[]), ("tasks: there is none", "name at least one loss"),
        spoil_abdomens(), False, RUN),
    Row("MixCL of a label that the manifest does not have", pretrain(), ("label values 5, 10 are not in the manifest",),
        spoil_abdomens(lambda f: rewrite_abdomen(f / abdomen_label(1), lambda data: data * 5))),
    Row("MixCL at temperature 0", pretrain(temperature=0), ("temperature: 0 is not >= 0.003; give a larger number",),
        spoil_abdomens(), False, RUN),
    Row("MixCL of no pixels", pretrain(pixels_per_class=0), ("pixels_per_class", "; "), spoil_abdomens(), False, RUN),
    Row("folds that split a patient", finetune(), ("Toy/1: patient 'patient0' is in the folds 0 and 1", "same 'fold'"),
        spoil_abdomens(lambda f: change_abdomens(f, split_a_patient))),
)  # fmt: skip
REFUSED = (*PAIRS_OF_KIDNEYS, *MS, *TEACHERS, *MIXCL)
LEGAL = (
    Row("kidneys of which one is single", PAIRS, (), KIDNEYS, True, frozenset({"encoder.pt", "sides.csv"})),
    Row("heads without a tissue step", SINGLE, (), rewritten(scan("p0_0", "T1"), with_skull), True,
        frozenset({"model.pt"})),
    Row("labels alone are not asked of a student", two_stage("distill", teachers=["{}/model.pt"], hard_weight=0), (),
        teacher(), True, frozenset({"model.pt"})),
    Row("lesion mask of 0 and 0.9999", SINGLE, ("Toy_MS/p0_1: has label values within 0.001 of whole numbers",),
        rewritten("cohort/labels/p0_1_rater1.nii.gz", lambda data: data * np.float32(0.9999)), True,
        frozenset({"model.pt"})),
)  # fmt: skip


@pytest.mark.parametrize(("row", "workers"), parametrized(REFUSED))
def test_wrong_pairs_lesions_and_teachers_are_refused(row: Row, workers: int, tmp_path: Path) -> None:
    assert_refused(row, tmp_path, workers)


@pytest.mark.parametrize(("row", "workers"), parametrized(LEGAL))
def test_odd_pairs_lesions_and_teachers_work(row: Row, workers: int, tmp_path: Path) -> None:
    assert_works(row, tmp_path, workers)
