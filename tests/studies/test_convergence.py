"""How soon each run comes to the final Dice of the reference arm's run."""

import json

import numpy as np
import pytest
import torch
from finished_runs import run_without_scores, write_training
from scipy.stats import permutation_test
from torch.utils.tensorboard import SummaryWriter

from mtmed.studies.convergence_report import study_convergence
from mtmed.studies.convergence_values import convergence_values
from mtmed.studies.dice_curves import iterations_per_epoch, read_dice_curves
from mtmed.studies.results import Result
from mtmed.studies.smoothing import moving_average


def _run(folder, arm, dice, *, fold=0, seed=0, fraction=100.0, length=10, every=1):
    """A finished run whose epochs have 10 iterations, validated after every `every` epochs."""
    place = folder / f"{arm}-{fold}-{seed}-{fraction:g}"
    write_training(place, [1.0], {(index + 1) * every * length: value for index, value in enumerate(dice)})
    (place / "config.json").write_text(json.dumps({"iterations_per_epoch": length}))
    return Result(arm, fold, fraction, seed, "finished", place, place)


def _convergence(results, reference_arm="scratch"):
    return study_convergence(results, read_dice_curves(results), reference_arm=reference_arm)


def _of(convergence, arm):
    return next(one for one in convergence.runs if one.run.arm == arm)


def test_peak_final_and_epochs_of_known_curves(tmp_path):
    results = [
        _run(tmp_path, "scratch", [0.1, 0.3, 0.6, 0.5], every=2),
        _run(tmp_path, "early", [0.2, 0.5, 0.9, 0.8], every=2),
    ]
    convergence = _convergence(results)
    scratch, early = _of(convergence, "scratch"), _of(convergence, "early")
    assert (scratch.epochs(scratch.peak_iteration), scratch.peak) == (6, pytest.approx(0.6))
    assert (early.recorded.final, early.recorded.target) == (pytest.approx(0.8), pytest.approx(0.5))
    assert scratch.least_epochs == 6, "it overtakes its own last value before it ends"
    assert early.least_epochs == 4
    rows = {row.arm: row for row in convergence.arms}
    assert (rows["early"].epochs, rows["early"].reached, rows["early"].pairs, rows["early"].runs) == (4, 1, 1, 1)
    assert rows["early"].peak_epoch == 6


def test_smoothed_curves_are_compared_with_smoothed_and_recorded_with_recorded(tmp_path):
    generator = np.random.default_rng(3)
    rising = 0.8 * (1 - np.exp(-np.arange(1, 61) / 15))
    curves = {name: rising + gain + generator.normal(0, 0.03, 60) for name, gain in (("scratch", 0.0), ("early", 0.05))}
    curves["early"][4] = 0.9  # a spike
    convergence = _convergence([_run(tmp_path, name, values) for name, values in curves.items()])
    one = _of(convergence, "early")
    assert one.window == 3
    plain = {name: [np.mean(v[max(0, i - 2) : i + 1]) for i in range(60)] for name, v in curves.items()}
    for arrived, values in ((one.recorded, curves), (one.smoothed, plain)):
        first = next(index for index, value in enumerate(values["early"]) if value >= values["scratch"][-1])
        assert arrived.iteration == 10 * (first + 1)
        assert arrived.target == pytest.approx(values["scratch"][-1])
    assert one.recorded.iteration == 50 < one.smoothed.iteration


def test_a_run_that_never_gets_there_counts_with_its_last_epoch_and_is_named_as_such(tmp_path):
    results = [
        _run(tmp_path, "scratch", [0.1, 0.4, 0.5, 0.6]),
        _run(tmp_path, "late", [0.1, 0.2, 0.3, 0.4]),
        _run(tmp_path, "scratch", [0.1, 0.4, 0.5, 0.6], seed=1),
        _run(tmp_path, "late", [0.6, 0.6, 0.6, 0.6], seed=1),
    ]
    convergence = _convergence(results)
    late = next(row for row in convergence.arms if row.arm == "late")
    assert (late.epochs, late.reached, late.pairs) == (2.5, 1, 2)
    header, cells = convergence.arm_table()
    shown = dict(zip(header, next(line for line in cells if line[1] == "late"), strict=True))
    assert shown["epochs to the final Dice of scratch"] == "≥ 2.5"
    assert shown["reached"] == "1 of 2"
    values = next(row for row in convergence_values(convergence)["runs"] if row["arm"] == "late" and row["seed"] == 0)
    assert (values["epochs_to_reference_smoothed"], values["status_smoothed"]) == (None, "not reached")
    assert (values["epochs_to_reference"], values["status"]) == (None, "not reached")
    epochs = next(one for one in convergence.comparisons if one.measure == "epochs_to_reference")
    assert (epochs.test.difference.mean, epochs.lower_bounds) == (-1.5, 1)


def test_a_shorter_run_that_did_not_get_there_is_no_pair(tmp_path):
    results = [_run(tmp_path, "scratch", [0.1, 0.4, 0.5, 0.6]), _run(tmp_path, "short", [0.1, 0.2])]
    epochs = next(one for one in _convergence(results).comparisons if one.measure == "epochs_to_reference")
    assert (epochs.test.difference.n, epochs.test.unpaired, epochs.lower_bounds) == (0, 1, 0)
    assert epochs.verdict == "no run in both arms"


def test_differences_are_paired_by_fold_and_seed_and_tested_exactly(tmp_path):
    generator = np.random.default_rng(2)
    results = []
    for fold in range(2):
        for seed in range(4):
            for arm, gain in (("scratch", 0.0), ("early", 0.1)):
                dice = np.sort(generator.uniform(0.2 + gain, 0.7 + gain, 12))
                results.append(_run(tmp_path, arm, dice, fold=fold, seed=seed))
    convergence = _convergence(results)
    by_pair = {(one.run.arm, one.run.fold, one.run.seed): one for one in convergence.runs}
    for measure, value in (
        ("final_dice", lambda o: o.recorded.final),
        ("epochs_to_reference", lambda o: o.least_epochs),
    ):
        differences = [
            value(by_pair["early", fold, seed]) - value(by_pair["scratch", fold, seed])
            for fold in range(2)
            for seed in range(4)
        ]
        one = next(one for one in convergence.comparisons if one.measure == measure)
        expected = permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf)
        assert one.test.difference.mean == pytest.approx(np.mean(differences))
        assert one.test.p == pytest.approx(expected.pvalue)
        assert (one.test.difference.groups, one.family) == (8, 1)
    assert one.verdict == "significantly sooner"


def test_holm_counts_all_planned_arms_and_fractions_of_a_measure(tmp_path):
    results = [
        _run(tmp_path, arm, [0.1, 0.2 + 0.1 * ("a" in arm)], seed=seed, fraction=fraction)
        for arm in ("scratch", "ab", "ba")
        for seed in range(2)
        for fraction in (10.0, 100.0)
    ]
    comparisons = _convergence(results).comparisons
    assert len(comparisons) == 12
    assert {one.family for one in comparisons} == {4}
    assert all(one.p_holm == min(1.0, 4 * one.test.p) for one in comparisons)
    assert {one.verdict for one in comparisons} == {"cannot be significant"}


def test_an_arm_that_is_later_is_only_not_sooner(tmp_path):
    results = []
    for seed in range(7):
        results.append(_run(tmp_path, "scratch", [0.5, 0.5, 0.5], seed=seed))
        results.append(_run(tmp_path, "late", [0.1, 0.2, 0.5], seed=seed))
    epochs = next(one for one in _convergence(results).comparisons if one.measure == "epochs_to_reference")
    assert epochs.p_holm < 0.05
    assert epochs.verdict == "not sooner"


def test_a_single_pair_has_a_difference_without_interval(tmp_path):
    convergence = _convergence([_run(tmp_path, "scratch", [0.1, 0.5]), _run(tmp_path, "early", [0.6, 0.7])])
    header, cells = convergence.comparison_table()
    shown = [dict(zip(header, line, strict=True)) for line in cells]
    assert [line["difference (95 % interval)"] for line in shown] == [
        "+0.200 (no interval)",
        "+0.200 (no interval)",
        "-1.0 (no interval)",
    ]
    assert {line["result"] for line in shown} == {"cannot be significant"}


def test_runs_without_dice_or_without_reference_run_are_named(tmp_path):
    results = [
        _run(tmp_path, "scratch", [0.1, 0.5]),
        run_without_scores("scratch", "missing", seed=1),
        _run(tmp_path, "early", [0.6, 0.7]),
        _run(tmp_path, "early", [0.6, 0.8], seed=1),
        _run(tmp_path, "silent", []),
        Result("gone", 0, 100.0, 0, "finished"),
    ]
    convergence = _convergence(results)
    assert convergence.without_dice == ("silent, 100 %, fold 0, seed 0", "gone, 100 %, fold 0, seed 0")
    assert "no validation Dice: silent, 100 %, fold 0, seed 0" in convergence.notes()
    rows = {row.arm: row for row in convergence.arms}
    assert (rows["scratch"].runs, rows["scratch"].planned) == (1, 2)
    assert (rows["early"].runs, rows["early"].pairs, rows["early"].reached) == (2, 1, 1)
    assert rows["early"].final == pytest.approx(0.75)
    statuses = {(row["arm"], row["seed"]): row["status_smoothed"] for row in convergence_values(convergence)["runs"]}
    assert statuses == {("scratch", 0): "reached", ("early", 0): "reached", ("early", 1): "no reference run"}
    silent = dict(zip(*[convergence.arm_table()[0]], convergence.arm_table()[1][2], strict=True))
    assert (silent["arm"], silent["runs"], silent["final Dice"], silent["reached"]) == (
        "silent",
        "0 of 1",
        "-",
        "0 of 0",
    )
    assert {one.verdict for one in convergence.comparisons} == {"runs missing"}


def test_without_reference_arm_or_without_dice_there_is_nothing(tmp_path):
    with_dice, without = [_run(tmp_path, "a", [0.1])], [_run(tmp_path, "b", [])]
    assert _convergence(with_dice, reference_arm=None) is None
    assert _convergence(without, reference_arm="b") is None


def test_a_reference_that_ends_at_nothing_gives_nothing_to_reach(tmp_path):
    results = [_run(tmp_path, "scratch", [0.0, 0.1, 0.0]), _run(tmp_path, "early", [0.0, 0.4, 0.5])]
    results += [
        _run(tmp_path, "scratch", [0.0, 0.2, 0.3], seed=1),
        _run(tmp_path, "early", [0.0, 0.4, 0.5], seed=1),
    ]
    convergence = _convergence(results)
    found = {(one.run.arm, one.run.seed): one for one in convergence.runs}
    assert found["early", 0].smoothed.status == found["scratch", 0].smoothed.status == "reference found nothing"
    assert np.isnan(found["early", 0].least_epochs)
    rows = {row.arm: row for row in convergence.arms}
    assert (rows["early"].pairs, rows["early"].reached, rows["early"].epochs, rows["early"].runs) == (1, 1, 2, 2)
    assert rows["scratch"].epochs == 3


def test_only_finished_runs_are_followed(tmp_path):
    run = _run(tmp_path, "a", [0.1, 0.2])
    running = Result("a", 0, 100.0, 0, "missing", run.training, None)
    assert not read_dice_curves([running]).curves


def test_a_resumed_run_counts_without_what_was_purged(tmp_path):
    results = [_run(tmp_path, "scratch", [0.1, 0.2, 0.3, 0.4]), _run(tmp_path, "early", [0.1, 0.9, 0.9, 0.9])]
    with SummaryWriter(str(results[1].training), purge_step=11, filename_suffix=".resumed") as events:
        for step, value in ((20, 0.3), (30, 0.4), (40, 0.5)):
            events.add_scalar("validation/mean_dice", value, step)
    early = _of(_convergence(results), "early")
    assert (early.validations, early.peak, early.least_epochs) == (4, pytest.approx(0.5), 3)


def test_length_of_an_epoch_is_the_configs_or_what_the_checkpoint_counted(tmp_path):
    assert iterations_per_epoch(tmp_path) is None
    config = tmp_path / "config.json"
    config.write_text('{"iterations_per_epoch": "$len(@cases)"}')
    assert iterations_per_epoch(tmp_path) is None
    torch.save({"iteration": 36, "epoch": 3, "model": {"weight": torch.zeros(2)}}, tmp_path / "checkpoint.pt")
    assert iterations_per_epoch(tmp_path) == 12
    config.write_text('{"iterations_per_epoch": 20}')
    assert iterations_per_epoch(tmp_path) == 20
    config.write_text("{")
    (tmp_path / "checkpoint.pt").write_bytes(b"damaged")
    assert iterations_per_epoch(tmp_path) is None


def test_where_epochs_are_not_known_iterations_are(tmp_path):
    results = [_run(tmp_path, "scratch", [0.1, 0.5]), _run(tmp_path, "early", [0.6, 0.7])]
    (results[1].training / "config.json").unlink()
    convergence = _convergence(results)
    assert "length of an epoch not known: early, 100 %, fold 0, seed 0" in convergence.notes()
    row = next(row for row in convergence_values(convergence)["runs"] if row["arm"] == "early")
    assert (row["epochs_to_reference"], row["iterations_to_reference"], row["status"]) == (None, 10, "reached")
    epochs = next(one for one in convergence.comparisons if one.measure == "epochs_to_reference")
    assert (epochs.test.difference.n, epochs.test.unpaired) == (0, 1)


def test_events_that_cannot_be_read_are_named_and_the_others_stay(tmp_path, monkeypatch):
    from mtmed.studies import dice_curves

    results = [_run(tmp_path, "scratch", [0.1, 0.5]), _run(tmp_path, "early", [0.6, 0.7])]
    read = dice_curves.read_validation_dice

    def sometimes(training):
        if "early" in training.name:
            raise OSError("no such\ndisk")
        return read(training)

    monkeypatch.setattr(dice_curves, "read_validation_dice", sometimes)
    dice = read_dice_curves(results)
    assert list(dice.curves) == results[:1]
    assert dice.unreadable == (f"validation Dice in {results[1].training}: cannot be read (no such disk)",)


def test_all_runs_of_a_fraction_are_averaged_over_the_same_number_of_validations(tmp_path):
    results = [_run(tmp_path, "scratch", np.linspace(0, 0.5, 40)), _run(tmp_path, "brief", np.linspace(0, 0.6, 10))]
    results += [_run(tmp_path, "scratch", [0.1], fraction=5.0)]
    convergence = _convergence(results)
    assert {one.run.fraction: one.window for one in convergence.runs} == {100.0: 2, 5.0: 1}
    brief = _of(convergence, "brief")
    assert brief.smoothed.final == pytest.approx(moving_average(np.linspace(0, 0.6, 10), 2)[-1])
    assert convergence.notes() == [
        "averaged with 5 % of the labels: each single validation",
        "averaged with 100 % of the labels: the last 2 validations",
    ]
