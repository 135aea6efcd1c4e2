"""Pairs scored while an evaluator runs: what it reads, what it gives, and the files of the report."""

import csv
import json
import math

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator

from mtmed.errors import InputError
from mtmed.metrics import PairAccuracy, PairReport, PairScores, score_pairs, summarise_pairs


class Regions(torch.utils.data.Dataset):
    """Two kidneys of each of some patients, the right one brighter."""

    def __init__(self, patients=4, seed=0, sides=(1, 2)):
        generator = torch.Generator().manual_seed(seed)
        self.rows = [
            {
                "image": side + 0.6 * torch.randn(1, 4, 3, 2, generator=generator),
                "label": torch.tensor(side),
                "volume": number,
                "group": f"demo/p{number}",
            }
            for number in range(patients)
            for side in sides
        ]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


class Embed(torch.nn.Module):
    """Six values of each image as its embedding."""

    def forward(self, image):
        return image.flatten(1)[:, ::4]


def evaluator(regions, *, decollate=False, batch_size=3, handlers=None, **options):
    return SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(regions, batch_size=batch_size),
        network=Embed(),
        key_val_metric={"pair_accuracy": PairAccuracy(**options)},
        val_handlers=handlers,
        decollate=decollate,
    )


def expected(regions, **options):
    vectors = [row["image"].flatten()[::4].numpy() for row in regions.rows]
    sides, owners = [int(row["label"]) for row in regions.rows], [row["group"] for row in regions.rows]
    return score_pairs(vectors, sides, owners, **options)


@pytest.mark.parametrize("decollate", [True, False], ids=["decollated", "batched"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_an_evaluator_gets_the_accuracy_as_its_key_metric_and_all_numbers_by_name(batch_size, decollate):
    regions = Regions()
    engine = evaluator(regions, batch_size=batch_size, decollate=decollate, threshold=2.0)
    engine.run()
    scores, found = expected(regions, threshold=2.0), engine.state.metrics
    assert 0.5 < scores.accuracy("same", "opposite") < 1
    assert found == pytest.approx(
        {
            "pair_accuracy": scores.accuracy("same", "opposite"),
            "same_accuracy": scores.accuracy("same"),
            "opposite_accuracy": scores.accuracy("opposite"),
            "pair_auc": scores.auc,
            "kidneys": 8,
            "pairs": 24,
            "patients": 4,
        }
    )
    assert engine.state.best_metric == found["pair_accuracy"]
    assert isinstance(engine.state.metric_details["pair_accuracy"], PairScores)
    engine.run()  # from the beginning
    assert engine.state.metrics == found


def test_pairs_within_a_patient_are_scored_if_wanted():
    engine = evaluator(Regions(), different_patients=False)
    engine.run()
    assert engine.state.metrics["pairs"] == 28


def test_a_plain_engine_will_do_and_compute_is_the_accuracy():
    metric, regions = PairAccuracy(threshold=2.0), Regions()
    engine = Engine(lambda engine, batch: {"pred": Embed()(batch["image"])})
    metric.attach(engine, "pairs_of_kidneys")
    engine.run(DataLoader(regions, batch_size=8))
    assert (
        engine.state.metrics["pairs_of_kidneys"]
        == metric.compute()
        == expected(regions, threshold=2.0).accuracy("same", "opposite")
    )


def test_a_validation_of_one_patient_is_refused_and_one_of_one_side_has_no_accuracy(tmp_path):
    # ignite logs the error of a handler and raises it again
    with pytest.raises(InputError, match="2 kidneys of 1 patients"):
        evaluator(Regions(patients=1)).run()
    engine = evaluator(Regions(sides=(1,)), handlers=[PairReport(output_dir=tmp_path)])
    engine.run()
    assert math.isnan(engine.state.metrics["pair_accuracy"])
    assert math.isnan(engine.state.metrics["pair_auc"])
    assert 0 <= engine.state.metrics["same_accuracy"] <= 1
    assert json.loads((tmp_path / "summary.json").read_text())["pair_accuracy"]["mean"] is None


def test_report_has_means_with_intervals_and_a_row_per_patient(tmp_path):
    regions = Regions(patients=6)
    evaluator(regions, handlers=[PairReport(output_dir=tmp_path / "new")], threshold=2.0).run()
    scores = expected(regions, threshold=2.0)
    summary = json.loads((tmp_path / "new" / "summary.json").read_text())
    assert summary == json.loads(json.dumps({"epoch": 1, **summarise_pairs(scores)}))
    assert summary["kidneys"] == {"left": 6, "right": 6}
    assert summary["pairs"] == {"same": 30, "opposite": 30}
    assert (summary["patients"], summary["protocol"]["threshold"]) == (6, 2.0)
    for name, kinds in (("pair_accuracy", ("same", "opposite")), ("same_accuracy", ("same",))):
        assert summary[name]["mean"] == pytest.approx(scores.accuracy(*kinds))
        assert summary[name]["low"] <= summary[name]["mean"] <= summary[name]["high"]
        assert (summary[name]["n"], summary[name]["n_patients"], summary[name]["n_undefined"]) == (6, 6, 0)
    with (tmp_path / "new" / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["dataset"] + "/" + row["group"] for row in rows] == [f"demo/p{number}" for number in range(6)]
    assert all((row["kidneys"], row["same_pairs"], row["opposite_pairs"]) == ("2", "10", "10") for row in rows)
    assert np.mean([float(row["pair_accuracy"]) for row in rows]) == pytest.approx(summary["pair_accuracy"]["mean"])
    assert float(rows[2]["same_accuracy"]) == pytest.approx(scores.by_patient[0, 2])


def test_each_validation_takes_the_place_of_the_last_one_and_only_the_first_process_writes(tmp_path, monkeypatch):
    regions = Regions(patients=3)
    engine = evaluator(regions, handlers=[PairReport(output_dir=tmp_path)])
    engine.run()
    before = (tmp_path / "scores.csv").read_text()
    regions.rows = Regions(patients=5, seed=1).rows
    again = evaluator(regions, handlers=[PairReport(output_dir=tmp_path)])
    again.run()
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 6 > len(before.splitlines())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["scores.csv", "summary.json"]
    monkeypatch.setattr("mtmed.metrics.pair_report.rank", lambda: 1)
    evaluator(regions, handlers=[PairReport(output_dir=tmp_path / "second")]).run()
    assert not (tmp_path / "second").exists()


def test_wrong_use_is_refused(tmp_path):
    for threshold in (0.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="threshold"):
            PairAccuracy(threshold=threshold)
    engine = Engine(lambda engine, batch: None)
    engine.state.metric_details = {}
    PairReport(output_dir=tmp_path).attach(engine)
    with pytest.raises(InputError, match="add PairAccuracy"):
        engine.run([0])
