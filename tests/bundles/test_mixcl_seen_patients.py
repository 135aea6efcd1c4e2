"""MixCL on one data set: its pre-training learns from labels, so it keeps to the patients of the fine-tuning."""

from pathlib import Path

import pytest
import torch
from running import run_in_process

from mtmed.bundle import patient_digests
from mtmed.bundle.messages import mendable
from mtmed.data import load_cohort, make_split
from mtmed.networks.weights import load_weights

ONE_STEP = {"epochs": 1, "iterations_per_epoch": 1}


@pytest.fixture
def pretrain(run_bundle, cohorts, tmp_path):
    """Pre-train on the data set of the fine-tuning; returns the options that give the encoder to it."""

    def start(**split) -> dict[str, object]:
        given = {"dataset_dir": cohorts["organs"], "output_dir": str(tmp_path / "pretrained"), **ONE_STEP, **split}
        return {**ONE_STEP, "pretrained": str(run_bundle("pretrain", **given) / "encoder.pt"), "val_interval": 1}

    return start


def digests(cohorts, **split) -> list[str]:
    return patient_digests(make_split(load_cohort(cohorts["organs"]).cases, **split).training)


def test_an_encoder_of_the_same_fold_is_taken_and_its_patients_count_as_seen(pretrain, run_bundle, cohorts, tmp_path):
    encoder = pretrain(folds=2, fold=0)
    settings = load_weights(encoder["pretrained"])["settings"]
    assert settings["trained_on"] == settings["labels_of"] == digests(cohorts, folds=2, fold=0)
    model = run_bundle("finetune", **encoder) / "model.pt"
    assert load_weights(model)["settings"]["trained_on"] == settings["trained_on"]
    given = {"checkpoint": str(model), "dataset_dir": cohorts["organs"], "folds": 2, "fold": 1, "device": "cpu"}
    with pytest.raises(Exception) as caught:  # noqa: PT011
        run_in_process("evaluate", {**given, "output_dir": str(tmp_path / "scores")})
    assert "2 of 2 cases are of patients that the network was trained on" in str(mendable(caught.value))


@pytest.mark.parametrize(
    ("split", "said"),
    [
        pytest.param({}, "cases are of patients that the network was trained on", id="all patients"),
        pytest.param({"folds": 2, "fold": 1}, "cases are of patients that the network was trained on", id="other fold"),
        pytest.param({"folds": 2, "fold": 0}, "pretrained: learnt from the labels of 1 patients", id="more labels"),
    ],
)
def test_an_encoder_that_saw_more_than_the_fine_tuning_may_is_refused(
    split, said, pretrain, run_bundle, refusal, tmp_path: Path
):
    given = {**pretrain(**split), "fraction": 50, "output_dir": str(tmp_path / "finetuned")}
    text = refusal("finetune", **given)
    assert said in text
    assert "--allow_seen true" in text
    assert not (tmp_path / "finetuned" / "checkpoint.pt").exists()
    assert (run_bundle("finetune", **given, allow_seen=True) / "model.pt").is_file()


def test_an_encoder_that_does_not_say_whom_it_saw_is_taken(pretrain, run_bundle):
    encoder = pretrain()
    content = load_weights(encoder["pretrained"])
    for name in ("trained_on", "labels_of", "split_key"):
        del content["settings"][name]
    torch.save(content, encoder["pretrained"])
    assert (run_bundle("finetune", **encoder) / "model.pt").is_file()
