"""Pooled values of slices and scans, worked out by hand, and their intervals."""

import json

import numpy as np
import pytest

from mtmed.errors import InputError
from mtmed.metrics import image_auc, mean_interval, score_slices, slice_table, summarise_slices, write_slice_report
from mtmed.metrics.names import LOWER_IS_BETTER, METRIC_NAMES, NEITHER_IS_BETTER
from mtmed.organ_masks import organ_values
from mtmed.studies.results import read_scores

VALUES = {name: (values, values) for name, values in organ_values(("bowel", "stomach")).items()}


def _scores(patients=6, **options):
    """One or two scans of each patient, of 4 to 6 slices, in which the stomach is only above."""
    scores, slices = [], []
    for patient in range(patients):
        for day in range(1 + patient % 2):
            generator = np.random.default_rng(10 * patient + day)
            reference = (generator.random((4 + patient % 3, 6, 7)) < 0.3) * 1
            reference[2:] += 2 * (generator.random(reference[2:].shape) < 0.4)
            prediction = np.where(generator.random(reference.shape) < 0.2, 0, reference)
            prediction |= (generator.random(reference.shape) < 0.05) * 2
            known = {"dataset": "Toy", "case": f"c{patient}d{day}", "group": f"p{patient}"}
            highest = {organ: generator.random(len(reference)).round(1) for organ in VALUES}
            maps = prediction.astype(np.uint8), reference.astype(np.uint8)
            found = score_slices(*maps, VALUES, highest=highest, **known, **options)
            scores += found[0]
            slices += found[1]
    return scores, slices


def test_pooled_values_count_each_slice_once_and_scans_count_by_their_mean():
    scores, slices = _scores()
    summary = summarise_slices(scores, slices, protocol={"part": "validation"})
    means = {}
    for organ in ("bowel", "stomach"):
        own = [one for one in slices if one.organ == organ]
        of_scans = [one for one in scores if one.organ == organ]
        pooled, over_scans = summary["pooled"]["organs"][organ], summary["organs"][organ]
        means[organ] = np.nanmean([one.dice for one in own])
        assert pooled["slice_dice"]["mean"] == pytest.approx(means[organ])
        assert pooled["slice_dice"]["n"] == sum(one.reference_voxels > 0 for one in own)
        assert over_scans["slice_dice"]["mean"] == pytest.approx(np.mean([one.slice_dice for one in of_scans]))
        assert over_scans["dice"]["mean"] == pytest.approx(np.mean([one.dice for one in of_scans]))
        extra, missed = (sum(getattr(one, f"false_{kind}_voxels") for one in own) for kind in ("positive", "negative"))
        assert pooled["false_positive_to_false_negative"]["mean"] == pytest.approx(extra / missed)
        assert (pooled["false_positive_voxels"], pooled["false_negative_voxels"]) == (extra, missed)
        ranked = np.nanmean([one.competition_dice for one in own])
        apart = np.mean([one.hausdorff for one in of_scans])
        assert pooled["competition_score"]["mean"] == pytest.approx(0.4 * ranked + 0.6 * (1 - apart))
    overall = summary["pooled"]["overall"]
    assert overall["slice_dice"]["mean"] == pytest.approx(np.mean(list(means.values())))
    ranked = np.nanmean([one.competition_dice for one in slices])
    apart = np.mean([one.hausdorff for one in scores])
    assert overall["competition_score"]["mean"] == pytest.approx(0.4 * ranked + 0.6 * (1 - apart))
    assert overall["competition_dice"]["mean"] == pytest.approx(ranked)
    assert (summary["cases"], summary["patients"], summary["slices"]) == (9, 6, len(slices) // 2)
    assert summary["protocol"]["part"] == "validation"
    assert "reference lacks" not in summary["protocol"]["scores"]
    assert "0 to 1" in summary["protocol"]["scores"]["hausdorff"]


@pytest.mark.parametrize("rule", ["nan", "zero", "one"])
def test_dice_of_a_named_protocol_is_pooled_by_it_whatever_the_rule(rule):
    scores, slices = _scores(empty=rule)
    summary = summarise_slices(scores, slices)
    named = {"positive_slice_dice": "nan", "slice_dice_empty_one": "one"}
    for metric, own in named.items():
        expected = summarise_slices(*_scores(empty=own))
        for part in (lambda one: one["pooled"]["organs"]["stomach"], lambda one: one["pooled"]["overall"]):
            assert part(summary)[metric] == part(expected)["slice_dice"]
        assert summary["organs"]["stomach"][metric] == expected["organs"]["stomach"]["slice_dice"]
    counts = [summary["pooled"]["organs"]["stomach"][metric]["n"] for metric in named]
    assert counts == [sum(one.reference_voxels > 0 for one in slices if one.organ == "stomach"), len(slices) // 2]


def test_slices_are_ranked_by_their_highest_probability_organ_by_organ():
    scores, slices = _scores()
    found = summarise_slices(scores, slices, seed=2)["image_auc"]
    assert list(found) == ["bowel", "stomach"]
    own = [one for one in slices if one.organ == "stomach"]
    positive = [one.reference_voxels > 0 for one in own]
    expected = image_auc([one.highest_probability for one in own], positive, [one.group for one in own], seed=2)
    assert list(found["stomach"].values()) == list(expected)
    assert list(found["stomach"]) == ["value", "low", "high", "positives", "negatives", "n_patients"]
    # all slices have the bowel
    assert [found["bowel"][end] for end in ("value", "low", "high", "negatives")] == [None, None, None, 0]


def test_scans_of_one_slice_are_images_and_score_alike_pooled_and_one_by_one():
    generator, rows = np.random.default_rng(1), ([], [])
    for number in range(12):
        reference = (generator.random((1, 8, 9)) < 0.3 * (number % 3 == 0)).astype(np.uint8)
        prediction = (generator.random((1, 8, 9)) < 0.3 * (number % 4 < 2)).astype(np.uint8)
        known = {"dataset": "Toy", "case": f"c{number}", "group": f"p{number}"}
        highest = {"bowel": [prediction.mean()]}
        for found, more in zip(
            rows, score_slices(prediction, reference, VALUES, highest=highest, **known), strict=True
        ):
            found += more
    summary = summarise_slices(*rows)
    for metric, count in (("positive_slice_dice", 4), ("slice_dice_empty_one", 12)):
        over_scans, pooled = summary["organs"]["bowel"][metric], summary["pooled"]["organs"]["bowel"][metric]
        assert over_scans["n"] == pooled["n"] == count
        assert over_scans["mean"] == pytest.approx(pooled["mean"])
    assert (summary["image_auc"]["bowel"]["positives"], summary["image_auc"]["bowel"]["negatives"]) == (4, 8)


def test_intervals_of_pooled_slices_are_those_over_patients():
    scores, slices = _scores()
    found = summarise_slices(scores, slices, seed=3)["pooled"]["organs"]["stomach"]["slice_dice"]
    own = [one for one in slices if one.organ == "stomach"]
    expected = mean_interval([one.dice for one in own], [one.group for one in own], bounds=(0, 1), seed=3)
    assert found["mean"] == pytest.approx(expected.mean)
    assert (found["n"], found["n_patients"]) == (expected.n, expected.groups)
    # other draws of the same patients
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high), abs=0.005)
    for value in summarise_slices(scores, slices)["pooled"]["overall"].values():
        if isinstance(value, dict):
            assert value["low"] < value["mean"] < value["high"]


def test_one_patient_has_no_interval_and_an_organ_that_is_nowhere_no_value():
    scores, slices = _scores(1)
    nothing = np.zeros((3, 4, 4), np.uint8)
    more = score_slices(nothing, nothing, {"kidney": (4, 4)}, dataset="Toy", case="c0d0", group="p0")
    summary = summarise_slices([*scores, *more[0]], [*slices, *more[1]])
    bowel, kidney = (summary["pooled"]["organs"][organ] for organ in ("bowel", "kidney"))
    assert bowel["slice_dice"]["mean"] is not None
    assert bowel["slice_dice"]["low"] is None
    for metric in ("slice_dice", "competition_dice", "competition_score", "false_positive_to_false_negative"):
        assert kidney[metric]["mean"] is None
        assert kidney[metric]["n_patients"] == 0
    both = [summary["pooled"]["organs"][organ]["slice_dice"]["mean"] for organ in ("bowel", "stomach")]
    assert summary["pooled"]["overall"]["slice_dice"]["mean"] == pytest.approx(np.mean(both))
    assert summary["organs"]["kidney"]["n_empty"] == 1
    json.dumps(summary, allow_nan=False)


def test_scans_without_an_organ_and_missed_ones_are_counted():
    nothing, organ = np.zeros((3, 4, 4), np.uint8), np.zeros((3, 4, 4), np.uint8)
    organ[1, 1:3, 1:3] = 4
    pairs = [(organ, organ), (nothing, nothing), (nothing, organ), (organ, nothing), (np.roll(organ, 2, 1), organ)]
    scores, slices = [], []
    for number, pair in enumerate(pairs):
        found = score_slices(*pair, {"kidney": (4, 4)}, dataset="Toy", case=f"c{number}", group=f"p{number}")
        scores, slices = scores + found[0], slices + found[1]
    summary = summarise_slices(scores, slices)
    kidney = summary["organs"]["kidney"]
    assert (kidney["n"], kidney["n_empty"], kidney["n_both_empty"], kidney["n_missed"]) == (5, 2, 1, 1)
    assert (kidney["dice"]["n"], kidney["dice"]["n_undefined"]) == (4, 1)
    assert slice_table(summary).splitlines()[1].split()[-5:] == ["3", "5", "2", "1", "1"]
    assert summary["pooled"]["organs"]["kidney"]["competition_score"]["n"] == 3


def test_files_have_all_scores_and_studies_read_them(tmp_path):
    scores, slices = _scores()
    summary = write_slice_report(scores, slices, tmp_path, protocol={"empty": "nan"})
    assert json.loads((tmp_path / "summary.json").read_text()) == json.loads(json.dumps(summary))
    metrics = ["slice_dice", "dice", "hausdorff", "competition_score", "false_positive_to_false_negative"]
    read = read_scores(tmp_path / "scores.csv", metrics)
    assert [one.values["slice_dice"] for one in read] == pytest.approx([one.slice_dice for one in scores])
    assert {one.patient for one in read} == {f"Toy/p{patient}" for patient in range(6)}
    assert len((tmp_path / "slices.csv").read_text().splitlines()) == len(slices) + 1
    assert set(metrics) <= set(METRIC_NAMES)
    assert "hausdorff" in LOWER_IS_BETTER
    assert "false_positive_to_false_negative" in NEITHER_IS_BETTER
    with pytest.raises(InputError, match="nothing to report"):
        write_slice_report([], [], tmp_path)


def test_table_has_a_line_per_organ_and_one_for_all():
    lines = slice_table(summarise_slices(*_scores())).splitlines()
    assert [line.split()[0] for line in lines] == ["organ", "bowel", "stomach", "all"]
    names = ["slice Dice", "competition score", "normalised Hausdorff distance", "false positives to false negatives"]
    names += ["Dice of positive slices", "slice Dice, both empty 1", "image AUC"]
    assert all(name in lines[0] for name in names)
    alone = [[one for one in rows if one.organ == "bowel"] for rows in _scores()]
    assert len(slice_table(summarise_slices(*alone)).splitlines()) == 2
