"""A network is not scored on patients that it was trained on."""

from pathlib import Path

import pytest
import torch

from mtmed.bundle import patient_digests, refuse_other_labels, refuse_seen_patients
from mtmed.data import Case
from mtmed.errors import InputError


def case(patient, visit=None, dataset="a"):
    return Case(f"{patient}-{visit}", ("image",), "label", patient, dataset, visit)


SETTINGS = {"trained_on": patient_digests([case("anna", "1"), case("anna", "2"), case("bo", "1")])}


def test_other_patients_pass():
    assert len(SETTINGS["trained_on"]) == 2
    assert refuse_seen_patients([case("cy"), case("anna", dataset="b")], SETTINGS, key="patient", allowed=False) is None


def test_a_patient_of_the_training_is_refused_at_any_visit():
    with pytest.raises(InputError, match=r"a/anna-3: 1 of 2 cases are of patients .*--fold.*--allow_seen true"):
        refuse_seen_patients([case("cy"), case("anna", "3")], SETTINGS, key="patient", allowed=False)


def test_it_can_be_allowed_and_nothing_is_known_of_older_files():
    assert refuse_seen_patients([case("anna")], SETTINGS, key="patient", allowed=True) is None
    assert refuse_seen_patients([case("anna")], {}, key="patient", allowed=False) is None


def test_another_day_of_a_patient_passes_where_days_are_split():
    settings = {"trained_on": patient_digests([case("anna", "1")], key="patient_day")}
    assert refuse_seen_patients([case("anna", "2")], settings, key="patient_day", allowed=False) is None
    with pytest.raises(InputError, match="a/anna-1"):
        refuse_seen_patients([case("anna", "1")], settings, key="patient_day", allowed=False)


@pytest.mark.parametrize(("trained", "scored"), [("patient", "patient_day"), ("patient_day", "patient")])
def test_digests_of_another_key_are_not_compared_but_refused(trained, scored):
    settings = {"trained_on": patient_digests([case("anna", "1")], key=trained), "split_key": trained}
    line = f"split_key: is {scored}, and the network was trained on a split by {trained}, .*--split_key.*--shares"
    with pytest.raises(InputError, match=line):
        refuse_seen_patients([case("cy", "1")], settings, key=scored, allowed=False)
    refuse_seen_patients([case("cy", "1")], settings, key=scored, allowed=True)
    refuse_seen_patients([case("cy", "1")], settings, key=trained, allowed=False)
    with pytest.raises(InputError, match="a/anna-1"):
        refuse_seen_patients([case("anna", "1")], settings, key=trained, allowed=False)


def test_each_network_of_an_ensemble_is_asked(tmp_path: Path):
    paths = []
    for name, settings in (("other.pt", {}), ("third.pt", SETTINGS)):
        paths.append(str(tmp_path / name))
        torch.save({"model": {}, "network_def": {}, "settings": settings}, paths[-1])
    with pytest.raises(InputError, match=rf"a/bo-2: 1 of 1 cases are of patients that {paths[1]} was trained on"):
        refuse_seen_patients([case("bo", "2")], {}, key="patient", allowed=False, ensemble_with=paths)
    refuse_seen_patients([case("bo", "2")], {}, key="patient", allowed=False, ensemble_with=paths[:1])
    refuse_seen_patients([case("bo", "2")], {}, key="patient", allowed=True, ensemble_with=paths)


def test_names_cannot_be_read_from_the_digests():
    assert not any("anna" in digest or "bo" in digest for digest in SETTINGS["trained_on"])


def test_an_encoder_with_more_labels_than_the_training_is_refused():
    cases = [case(name) for name in ("a", "b", "c")]
    labels_of = patient_digests(cases[:2])
    refuse_other_labels(cases[2:], labels_of, key="patient", allowed=False)
    refuse_other_labels(cases[1:], [], key="patient", allowed=False)
    refuse_other_labels(cases[1:], labels_of, key="patient", allowed=True)
    with pytest.raises(InputError, match=r"pretrained: learnt from the labels of 1 patients .*--fraction"):
        refuse_other_labels(cases[1:], labels_of, key="patient", allowed=False)
