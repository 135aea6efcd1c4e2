"""The validation metric over whole scans against NumPy and MONAI, and over processes."""

import math
import os

import numpy as np
import pytest
import torch
import torch.multiprocessing
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.metrics import DiceMetric

from mtmed.errors import InputError
from mtmed.metrics import MeanScanDice, score_slices
from mtmed.organ_masks import organ_values, pack_masks

ORGANS = ("atrium", "ventricle", "wall")


def _scans(seed, count=5):
    """Masks of prediction and reference, K H W D, of scans of different sizes; some lack an organ in one or both."""
    generator = torch.Generator().manual_seed(seed)
    scans = []
    for index in range(count):
        masks = torch.rand(2, 3, 4 + index, 7, 5, generator=generator) < 0.4
        masks[1, 0] &= index != 1
        masks[:, 1] &= index != 2
        masks[0, 2] &= index != 3
        scans.append((masks[0], masks[1]))
    return scans


def _expected(scans, rule):
    found = {}
    for channel, organ in enumerate(ORGANS):
        values = []
        for masks in scans:
            ours, theirs = (mask[channel].numpy() for mask in masks)
            size = int(ours.sum()) + int(theirs.sum())
            empty = {"nan": math.nan, "zero": 0.0, "one": 1.0}[rule]
            values.append(2 * int((ours & theirs).sum()) / size if size else empty)
        found[organ] = float(np.nanmean(values))
    return found


@pytest.mark.parametrize("rule", ["nan", "zero", "one"])
def test_values_are_means_over_scans_and_the_rule_is_for_two_empty_masks(rule):
    metric = MeanScanDice(ORGANS, empty=rule)
    for prediction, reference in _scans(0):
        metric.update(([pack_masks(prediction)], [pack_masks(reference)]))
    expected = _expected(_scans(0), rule)
    assert metric.per_organ() == pytest.approx(expected)
    assert metric.compute() == pytest.approx(np.mean(list(expected.values())))


@pytest.mark.parametrize("rule", ["nan", "zero", "one"])
def test_values_are_those_of_the_report(rule):
    values = {name: (own, own) for name, own in organ_values(ORGANS).items()}
    metric, found = MeanScanDice(ORGANS, empty=rule), {organ: [] for organ in ORGANS}
    for masks in _scans(1):
        prediction, reference = (pack_masks(mask) for mask in masks)
        metric.update(([prediction], [reference]))
        for score in score_slices(prediction[0].numpy(), reference[0].numpy(), values, empty=rule)[0]:
            found[score.organ].append(score.dice)
    assert metric.per_organ() == pytest.approx({organ: np.nanmean(own) for organ, own in found.items()})


@pytest.mark.parametrize("shape", [(9, 6), (9, 6, 4)], ids=["images", "volumes"])
def test_scans_with_the_organ_score_as_with_monai(shape):
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(4, 3, *shape, generator=generator)
    label = torch.rand(4, 3, *shape, generator=generator) < 0.5
    metric = MeanScanDice(ORGANS)
    metric.update((logits, MetaTensor(pack_masks(label, axis=1).float())))
    expected = DiceMetric(include_background=True, reduction="mean_batch")
    expected(logits > 0, label)
    assert list(metric.per_organ().values()) == pytest.approx(expected.aggregate().tolist())


def test_one_organ_is_read_from_logits_and_from_a_map():
    logits = torch.randn(1, 4, 6, 5, generator=torch.Generator().manual_seed(0))
    label = (torch.rand(1, 4, 6, 5, generator=torch.Generator().manual_seed(1)) < 0.5).float()
    ours, maps = MeanScanDice(["wall"]), MeanScanDice(["wall"])
    ours.update(([logits], [label]))
    maps.update(([(logits > 0).to(torch.uint8)], [label]))
    assert ours.compute() == maps.compute() > 0


def test_nothing_to_score_is_nan():
    metric = MeanScanDice(ORGANS)
    metric.update((torch.zeros(1, 1, 2, 4, 4), torch.zeros(1, 1, 2, 4, 4)))
    assert math.isnan(metric.compute())
    assert metric.per_organ() == {}


def test_engine_gets_the_mean_and_the_organs_by_name():
    scans = [(pack_masks(prediction), pack_masks(reference)) for prediction, reference in _scans(1)]
    engine = Engine(lambda engine, batch: {"pred": batch[0][None], "label": batch[1][None]})
    MeanScanDice(ORGANS).attach(engine, "scan_dice")
    engine.run(scans)
    found = dict(engine.state.metrics)
    assert set(found) == {"scan_dice", *(f"scan_dice/{organ}" for organ in ORGANS)}
    engine.run(scans[:1])
    assert engine.state.metrics["scan_dice"] != found["scan_dice"]


def _process(rank, folder):
    os.environ.update(MASTER_ADDR="127.0.0.1", RANK=str(rank), WORLD_SIZE="2")
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    metric = MeanScanDice(ORGANS)
    for prediction, reference in _scans(2)[:1] if rank == 0 else _scans(2)[1:]:
        metric.update(([pack_masks(prediction)], [pack_masks(reference)]))
    torch.save((metric.compute(), metric.per_organ()), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_give_what_one_gives_on_all_scans(tmp_path):
    torch.multiprocessing.spawn(_process, (str(tmp_path),), nprocs=2)
    expected = _expected(_scans(2), "nan")
    for rank in range(2):
        mean, organs = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert organs == pytest.approx(expected, abs=1e-12)
        assert mean == pytest.approx(np.mean(list(expected.values())), abs=1e-12)


def test_wrong_arguments_are_refused():
    with pytest.raises(InputError, match="organs: are none"):
        MeanScanDice([])
    with pytest.raises(ValueError, match="'nan', 'zero' or 'one'"):
        MeanScanDice(ORGANS, empty="skip")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="2 channels for 3 organs"):
        MeanScanDice(ORGANS).update((torch.zeros(1, 2, 4, 4), torch.zeros(1, 1, 4, 4)))
    with pytest.raises(ValueError, match="bring them to one grid"):
        MeanScanDice(ORGANS).update((torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 5)))
