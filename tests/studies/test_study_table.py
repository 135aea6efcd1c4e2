"""The table of a study: means, folds, counts, comparisons."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from finished_runs import run_with_scores, run_without_scores

from mtmed.errors import InputError
from mtmed.metrics import mean_interval
from mtmed.studies.statistics import holm
from mtmed.studies.table import study_table, table_values


def _row(table, **wanted):
    return next(row for row in table.rows if all(getattr(row, key) == value for key, value in wanted.items()))


def _study(folder, arms, *, patients=6, fractions=(100.0,), folds=2, seeds=(0,), gain=0.1):
    """Arm number k is better by k gains; each patient has two visits."""
    results = []
    for number, arm in enumerate(arms):
        for fraction in fractions:
            for fold in range(folds):
                for seed in seeds:
                    rows = [
                        (f"p{p}v{v}", f"p{p}", "lesion", 0.3 + 0.02 * p + 0.01 * v + 0.001 * seed + gain * number, 5.0)
                        for p in range(fold, patients, folds)
                        for v in (0, 1)
                    ]
                    results.append(run_with_scores(folder, arm, rows, fold=fold, fraction=fraction, seed=seed))
    return results


def test_mean_interval_folds_and_counts_of_an_arm(tmp_path):
    results = [
        run_with_scores(tmp_path, "a", [("1", "p", "liver", 0.9, 2.0), ("2", "p", "liver", None, None)]),
        run_with_scores(tmp_path, "a", [("3", "q", "liver", 0.5, 4.0), ("4", "r", "liver", 0.4, 9.0)], fold=1),
        run_without_scores("a", "failed", fold=2),
        run_without_scores("a", "missing", fold=3),
    ]
    table = study_table(results, metrics=["dice", "hd95"])
    row = _row(table, metric="dice", organ="liver")
    assert row.interval == mean_interval([0.9, 0.5, 0.4], ["p", "q", "r"], bounds=(0, 1))
    assert row.interval.mean == pytest.approx(0.6)
    assert list(row.folds) == [0, 1, 2, 3]
    assert [row.folds[0], row.folds[1]] == pytest.approx([0.9, 0.45])
    assert math.isnan(row.folds[2])
    assert (row.cases, row.patients, row.undefined, row.finished, row.planned) == (4, 3, 1, 2, 4)
    assert _row(table, metric="hd95").interval == mean_interval([2.0, 4.0, 9.0], ["p", "q", "r"])
    assert (table.failed, table.missing) == (("a, 100 %, fold 2, seed 0",), ("a, 100 %, fold 3, seed 0",))
    assert table.comparisons == ()


def test_seeds_and_visits_belong_to_their_patient(tmp_path):
    once = _study(tmp_path / "once", ["a"])
    thrice = [replace(run, seed=seed) for seed in range(3) for run in _study(tmp_path / str(seed), ["a"])]
    few, many = (study_table(own, metrics=["dice"]).rows[0] for own in (once, thrice))
    assert many.interval.groups == few.interval.groups == 6
    assert many.values == 3 * few.values
    assert (many.interval.low, many.interval.high) == pytest.approx((few.interval.low, few.interval.high))
    assert (many.cases, many.patients) == (12, 6)


def test_every_pair_of_arms_or_each_against_the_reference(tmp_path):
    results = _study(tmp_path, ["scratch", "middle", "best"])
    pairs = [(one.arm, one.against) for one in study_table(results, metrics=["dice"]).comparisons]
    assert pairs == [("middle", "scratch"), ("best", "scratch"), ("best", "middle")]
    chosen = study_table(results, metrics=["dice"], reference_arm="middle").comparisons
    assert [(one.arm, one.against) for one in chosen] == [("scratch", "middle"), ("best", "middle")]
    assert [one.test.difference.mean for one in chosen] == pytest.approx([-0.1, 0.1])
    assert [one.family for one in chosen] == [2, 2]
    assert chosen[0].test.p == chosen[1].test.p == 2 / 2**6
    assert chosen[0].p_holm == pytest.approx(4 / 2**6)


def test_five_patients_cannot_be_significant_and_eight_can(tmp_path):
    few = study_table(_study(tmp_path / "few", ["a", "b"], patients=5), metrics=["dice"]).comparisons[0]
    assert (few.test.smallest_p, few.smallest_p_holm, few.verdict) == (0.0625, 0.0625, "cannot be significant")
    many = study_table(_study(tmp_path / "many", ["a", "b"], patients=8), metrics=["dice"]).comparisons[0]
    assert many.verdict == "significantly better"
    alike = study_table(_study(tmp_path / "alike", ["a", "b"], patients=8, gain=0.0), metrics=["dice"]).comparisons[0]
    assert (alike.test.p, alike.verdict) == (1.0, "not significant")
    # six patients are enough for one comparison, 0.031, not for three, 0.094
    three = study_table(_study(tmp_path / "three", ["a", "b", "c"]), metrics=["dice"]).comparisons
    assert {one.verdict for one in three} == {"cannot be significant"}
    assert [one.smallest_p_holm for one in three] == pytest.approx([3 * 2 / 2**6] * 3)


def test_holm_runs_over_arms_fractions_and_single_organs_and_apart_over_their_mean(tmp_path):
    generator = np.random.default_rng(0)
    results = [
        run_with_scores(
            tmp_path,
            arm,
            [
                (f"{p}", f"{p}", organ, generator.uniform(0.2, 0.6) + gain, 5.0)
                for p in range(7)
                for organ in ("liver", "spleen")
            ],
            fraction=fraction,
        )
        for arm, gain in (("a", 0.0), ("b", 0.2))
        for fraction in (5.0, 100.0)
    ]
    comparisons = study_table(results, metrics=["dice", "hd95"]).comparisons
    single = [one for one in comparisons if one.metric == "dice" and one.organ != "all"]
    overall = [one for one in comparisons if one.metric == "dice" and one.organ == "all"]
    assert [(one.organ, one.fraction) for one in single] == [
        ("liver", 5.0),
        ("liver", 100.0),
        ("spleen", 5.0),
        ("spleen", 100.0),
    ]
    for family in (single, overall):
        assert [one.p_holm for one in family] == holm([one.test.p for one in family])
        assert {one.family for one in family} == {len(family)}
    liver, spleen, both = single[0].test, single[2].test, overall[0].test
    assert both.difference.mean == pytest.approx((liver.difference.mean + spleen.difference.mean) / 2)
    assert both.difference.groups == 7


def test_comparison_has_only_patients_of_both_arms(tmp_path):
    results = _study(tmp_path, ["a", "b"])
    lost = [run_without_scores("b", "missing", fold=1) if (r.arm, r.fold) == ("b", 1) else r for r in results]
    one = study_table(lost, metrics=["dice"]).comparisons[0]
    assert one.test.difference.groups == 3
    assert one.test.difference.mean == pytest.approx(0.1)
    assert one.test.unpaired == 6
    assert one.verdict == "runs missing"
    apart = [r for r in results if (r.arm, r.fold) in (("a", 0), ("b", 1))]
    one = study_table(apart, metrics=["dice"]).comparisons[0]
    assert (one.verdict, one.family) == ("no patient in both arms", 1)


def test_arms_are_not_compared_at_a_fraction_that_one_is_not_planned_for(tmp_path):
    results = _study(tmp_path, ["a"], fractions=(5.0, 100.0)) + _study(tmp_path, ["b"])
    table = study_table(results, metrics=["dice"])
    assert [one.fraction for one in table.comparisons] == [100.0]
    assert [(row.arm, row.fraction) for row in table.rows] == [("a", 5.0), ("a", 100.0), ("b", 100.0)]


def test_values_are_plain_json_without_nan(tmp_path):
    results = [*_study(tmp_path, ["a", "b"], patients=2), run_without_scores("c", "failed")]
    text = json.dumps(table_values(study_table(results, metrics=["dice"])), allow_nan=False)
    values = json.loads(text)
    assert values["runs"] == {"planned": 5, "failed": ["c, 100 %, fold 0, seed 0"], "missing": []}
    assert values["rows"][0]["folds"]["0"] == pytest.approx(0.305)
    assert values["comparisons"][1]["verdict"] == "runs missing"
    assert {one["family"] for one in values["comparisons"]} == {3}
    assert values["comparisons"][1]["p"] is None


def test_unknown_arm_organ_metric_and_no_metric_are_refused(tmp_path):
    results = _study(tmp_path, ["a", "b"])
    for options, message in (
        ({"reference_arm": "c"}, "reference_arm: is 'c'; choose from a, b"),
        ({"organs": ["liver"]}, "liver, which no run scored; choose from lesion"),
        ({"metrics": ["f1"]}, "no column f1"),
        ({"metrics": []}, "metrics: is empty"),
    ):
        with pytest.raises(InputError, match=message):
            study_table(results, **({"metrics": ["dice"]} | options))


def test_a_seed_that_one_arm_lacks_does_not_tell_the_arms_apart(tmp_path):
    # seed 1 is worse by 0.4 in both arms; arm b lacks it in fold 0, and one of its values in fold 1 is undefined
    results = []
    for arm in "ab":
        for fold in (0, 1):
            for seed in (0, 1):
                value = 0.8 - 0.4 * seed
                rows = [(f"{fold}{p}", f"{fold}{p}", "lesion", value, 1.0) for p in range(3)]
                if (arm, fold, seed) == ("b", 1, 1):
                    rows[0] = ("10", "10", "lesion", None, None)
                if (arm, fold, seed) == ("b", 0, 1):
                    results.append(run_without_scores(arm, "failed", fold=fold, seed=seed))
                else:
                    results.append(run_with_scores(tmp_path, arm, rows, fold=fold, seed=seed))
    one = study_table(results, metrics=["dice"]).comparisons[0]
    assert one.test.difference.mean == pytest.approx(0.0)
    assert one.test.p == 1.0
    assert (one.test.difference.groups, one.test.unpaired) == (6, 4)


def test_less_is_better_for_errors(tmp_path):
    results = [
        run_with_scores(tmp_path, arm, [(f"{p}", f"{p}", "liver", dice, hd95) for p in range(8)])
        for arm, dice, hd95 in (("a", 0.5, 4.0), ("b", 0.6, 6.0))
    ]
    dice, hd95 = study_table(results, metrics=["dice", "hd95"]).comparisons
    assert (dice.verdict, hd95.verdict) == ("significantly better", "significantly worse")


def test_a_balance_has_no_better_side(tmp_path):
    results = [
        run_with_scores(tmp_path, arm, [(f"{p}", f"{p}", "liver", ratio, 1.0) for p in range(8)])
        for arm, ratio in (("a", 0.5), ("b", 2.0))
    ]
    for result in results:
        scores = result.scores.read_text().replace(",dice,", ",false_positive_to_false_negative,")
        result.scores.write_text(scores)
    (one,) = study_table(results, metrics=["false_positive_to_false_negative"]).comparisons
    assert one.verdict == "significantly higher"


def test_difference_of_the_means_is_the_mean_difference_whatever_the_number_of_visits(tmp_path):
    rows = {arm: [(f"p{v}", "p", "liver", 0.2 + gain, 1.0) for v in range(5)] for arm, gain in (("a", 0.0), ("b", 0.5))}
    results = [
        run_with_scores(tmp_path, arm, [*own, ("q", "q", "liver", 0.8 + 0.1 * (arm == "b"), 1.0)])
        for arm, own in rows.items()
    ]
    table = study_table(results, metrics=["dice"])
    means = {row.arm: row.interval.mean for row in table.rows}
    assert means == pytest.approx({"a": (0.2 + 0.8) / 2, "b": (0.7 + 0.9) / 2})
    assert table.comparisons[0].test.difference.mean == pytest.approx(means["b"] - means["a"])
    assert table.rows[0].folds[0] == pytest.approx(0.5)


def test_a_case_in_some_folds_and_not_in_others_is_refused_and_another_data_set_is_not(tmp_path):
    first = [("1", "1", "liver", 0.5, 1.0), ("2", "2", "liver", 0.5, 1.0)]
    doubled = [run_with_scores(tmp_path, "a", first), run_with_scores(tmp_path, "a", first[1:], fold=1)]
    with pytest.raises(InputError, match="fold 0, seed 0: scores demo/2, which fold 1 scores too: the data changed"):
        study_table(doubled, metrics=["dice"])
    external = [run_with_scores(tmp_path / "test", "a", first, fold=fold) for fold in (0, 1, 2)]
    assert study_table(external, metrics=["dice"]).rows[0].values == 6


def test_named_pairs_are_a_family_of_their_own_and_are_not_tested_again(tmp_path):
    results = _study(tmp_path, ["a", "b", "c"])
    table = study_table(results, metrics=["dice"], reference_arm="a", compare=[("c", "b"), ("b", "a")])
    found = [(one.arm, one.against, one.planned, one.family) for one in table.comparisons if one.organ != "all"]
    organs = len({one.organ for one in table.comparisons if one.organ != "all"})
    assert set(found) == {
        ("c", "b", True, 2 * organs),
        ("b", "a", True, 2 * organs),
        ("c", "a", False, organs),
    }
