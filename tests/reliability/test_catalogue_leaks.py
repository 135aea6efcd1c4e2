"""Lists that leak from training to validation, and data sets that do not fit, given to the real command line."""

import shutil
from pathlib import Path

import pytest
from abdomen_rows import CHECK, FINETUNE, PRETRAIN, finetune, spoil
from catalogue import RUN, Row, assert_refused, bundle, parametrized
from list_rows import (
    all_in_fold,
    copied,
    in_test,
    listed,
    parts_that_split_a_patient,
    row_with,
    second_cohort,
    trained_on_all,
)
from mixcl_inputs import (
    change_manifest,
    image,
    split_a_patient,
)

ROWS = (
    Row(
        "same row twice",
        PRETRAIN,
        ("dataset.json training[4]: has the same id '1' as training[1]", "remove one row"),
        listed(lambda content: content["training"].append(content["training"][1])),
        files=RUN,
    ),
    Row(
        "same image under another name of the case",
        CHECK,
        ("dataset.json training[4]: has the same image as training[1]", "remove one"),
        listed(lambda content: content["training"].append({**content["training"][1], "id": "4", "patient": "another"})),
    ),
    Row(
        "same case in training and test",
        FINETUNE,
        ("dataset.json test[0]: has the same id '1' as training[1]", "remove one row"),
        in_test(image="images/1.nii.gz"),
        files=RUN,
    ),
    Row(
        "same image in training and test",
        CHECK,
        ("dataset.json test[0]: has the same image as training[1]", "remove one"),
        in_test(image="images/1.nii.gz", id="4"),
    ),
    Row(
        "copy of an image as another patient's",
        FINETUNE,
        ("images/4.nii.gz: has the same voxels as {}/cohort/images/1.nii.gz", "remove one of the two"),
        copied(patient="another"),
    ),
    Row(
        "packed copy of an image among the test cases",
        CHECK,
        ("images/4.nii: has the same voxels as {}/cohort/images/1.nii.gz", "remove one of the two"),
        spoil(
            lambda folder: (
                shutil.copy(folder / image(1), folder / "cohort/images/4.nii"),
                change_manifest(folder, lambda content: content["test"].append({"image": "images/4.nii"})),
            )
        ),
    ),
    Row(
        "folds that split a patient",
        FINETUNE,
        ("Toy/1: patient 'patient0' is in the folds 0 and 1", "same 'fold'"),
        listed(split_a_patient),
        files=RUN,
    ),
    Row(
        "folds that split a patient, checked",
        CHECK,
        ("Toy/1: patient 'patient0' is in the folds 0 and 1", "same 'fold'"),
        listed(split_a_patient),
    ),
    Row(
        "parts that split a patient",
        CHECK,
        ("Toy/1: patient 'patient0' is in validation and, as Toy/0, in training", "give each to one part only"),
        listed(parts_that_split_a_patient),
    ),
    Row(
        "patients that were trained on",
        bundle("mixcl", "evaluate", {"checkpoint": "{}/weights.pt", "dataset_dir": "{}/cohort", "folds": 2}),
        ("cases are of patients that the network was trained on", "--allow_seen true"),
        spoil(trained_on_all),
        files=RUN,
    ),
    Row(
        "all patients in one fold",
        FINETUNE,
        ("all cases are in fold 0", "correct 'fold' in the manifest"),
        listed(all_in_fold),
        files=RUN,
    ),
    Row(
        "fold of some rows only",
        FINETUNE,
        ("Toy/1: 'fold' is given for some cases", "give it for all or none"),
        row_with(fold=0),
        files=RUN,
    ),
    Row(
        "fewer patients than folds",
        finetune(folds=5),
        ("folds: 4 patients cannot make 5 folds", "use folds up to 4"),
        spoil(),
        files=RUN,
    ),
    Row("fold that is not there", finetune(fold=2), ("fold: is 2", "use one of 0, 1"), spoil(), files=RUN),
    Row(
        "unknown part",
        CHECK,
        ("dataset.json training[1]: 'part' is 'holdout'", "use one of training, validation, test"),
        row_with(part="holdout"),
    ),
    # several data sets
    Row(
        "two data sets of one name",
        PRETRAIN,
        ("has the same name 'Toy_a'", "change 'name' in one dataset.json"),
        second_cohort(lambda content: content.update(name="Toy_a")),
        files=RUN,
    ),
    Row(
        "data sets with other labels",
        FINETUNE,
        ("Toy_b: names its labels", "fine-tune on data sets with the same labels"),
        second_cohort(lambda content: content["labels"].update({"2": "kidney"})),
        files=RUN,
    ),
    Row(
        "data sets with other modalities",
        PRETRAIN,
        ("dataset_dir: the data sets differ in modalities", "train on data sets that agree"),
        second_cohort(
            lambda content: content.update(
                modality={"0": "T1", "1": "T2"},
                training=[{**row, "image": [row["image"], None]} for row in content["training"]],
            )
        ),
        files=RUN,
    ),
)


@pytest.mark.parametrize(("row", "workers"), parametrized(ROWS))
def test_leaks_and_data_sets_that_do_not_fit_are_refused(row: Row, workers: int | None, tmp_path: Path) -> None:
    assert_refused(row, tmp_path, workers)
