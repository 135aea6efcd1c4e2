"""The validation metric over slices against NumPy and MONAI, and over processes."""

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
from mtmed.metrics import MeanSliceDice, slice_dice
from mtmed.organ_masks import pack_masks

ORGANS = ("large_bowel", "small_bowel", "stomach")


def _volumes(seed, count=4):
    """Masks of prediction and reference, K D H W, with slices that lack an organ."""
    generator = torch.Generator().manual_seed(seed)
    volumes = []
    for index in range(count):
        masks = torch.rand(2, 3, 4 + index, 7, 5, generator=generator) < 0.4
        masks[1, 0, :2] = False
        masks[0, :, 1] = False
        volumes.append((masks[0], masks[1]))
    return volumes


def _expected(volumes, rule):
    found = {}
    for channel, organ in enumerate(ORGANS):
        slices = [slice_dice(p[channel].numpy(), r[channel].numpy(), empty=rule) for p, r in volumes]
        found[organ] = float(np.nanmean(np.concatenate(slices)))
    return found


@pytest.mark.parametrize("rule", ["nan", "zero", "one"])
def test_values_are_means_over_the_slices_of_all_volumes_together(rule):
    volumes = _volumes(0)
    metric = MeanSliceDice(ORGANS, empty=rule)
    for prediction, reference in volumes:
        metric.update(([pack_masks(prediction)], [pack_masks(reference)]))
    expected = _expected(volumes, rule)
    assert metric.per_organ() == pytest.approx(expected)
    assert metric.compute() == pytest.approx(np.mean(list(expected.values())))


def test_single_slices_score_as_with_monai():
    generator = torch.Generator().manual_seed(3)
    masks = torch.rand(2, 8, 3, 9, 6, generator=generator) < 0.5
    metric = MeanSliceDice(ORGANS)
    metric.update((pack_masks(masks[0], axis=1), pack_masks(masks[1], axis=1)))
    expected = DiceMetric(include_background=True, reduction="mean_batch")
    expected(masks[0], masks[1])
    assert list(metric.per_organ().values()) == pytest.approx(expected.aggregate().tolist())


def test_logits_above_0_are_inside():
    logits = torch.randn(2, 3, 4, 6, 5, generator=torch.Generator().manual_seed(0))
    label = pack_masks(torch.rand(2, 3, 4, 6, 5, generator=torch.Generator().manual_seed(1)) < 0.5, axis=1)
    ours, maps = MeanSliceDice(ORGANS), MeanSliceDice(ORGANS)
    ours.update((logits, label))
    maps.update((pack_masks(logits > 0, axis=1), label.float()))
    assert ours.compute() == maps.compute() > 0


def test_one_organ_is_read_from_logits_and_from_a_map():
    logits = torch.randn(1, 4, 6, 5, generator=torch.Generator().manual_seed(0))
    label = MetaTensor((torch.rand(1, 4, 6, 5, generator=torch.Generator().manual_seed(1)) < 0.5).float())
    ours, maps = MeanSliceDice(["stomach"]), MeanSliceDice(["stomach"])
    ours.update(([logits], [label]))
    maps.update(([(logits > 0).to(torch.uint8)], [label]))
    assert ours.compute() == maps.compute() > 0


def test_nothing_to_score_is_nan():
    metric = MeanSliceDice(ORGANS)
    metric.update((torch.ones(1, 1, 2, 4, 4), torch.zeros(1, 1, 2, 4, 4)))
    assert math.isnan(metric.compute())
    assert metric.per_organ() == {}


def test_engine_gets_the_mean_and_the_organs_by_name():
    volumes = [(pack_masks(prediction), pack_masks(reference)) for prediction, reference in _volumes(1)]
    engine = Engine(lambda engine, batch: {"pred": batch[0][None], "label": batch[1][None]})
    MeanSliceDice(ORGANS).attach(engine, "mean_slice_dice")
    engine.run(volumes)
    found = dict(engine.state.metrics)
    assert set(found) == {"mean_slice_dice", *(f"mean_slice_dice/{organ}" for organ in ORGANS)}
    assert found["mean_slice_dice"] == pytest.approx(sum(found[f"mean_slice_dice/{organ}"] for organ in ORGANS) / 3)
    engine.run(volumes[:1])
    assert engine.state.metrics["mean_slice_dice"] != found["mean_slice_dice"]


def _process(rank, folder):
    os.environ.update(MASTER_ADDR="127.0.0.1", RANK=str(rank), WORLD_SIZE="2")
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    metric = MeanSliceDice(ORGANS)
    for prediction, reference in _volumes(2)[:1] if rank == 0 else _volumes(2)[1:]:
        metric.update(([pack_masks(prediction)], [pack_masks(reference)]))
    torch.save((metric.compute(), metric.per_organ()), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_what_one_gives_on_all_volumes(tmp_path):
    torch.multiprocessing.spawn(_process, (str(tmp_path),), nprocs=2)
    expected = _expected(_volumes(2), "nan")
    for rank in range(2):
        mean, organs = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert organs == pytest.approx(expected, abs=1e-12)
        assert mean == pytest.approx(np.mean(list(expected.values())), abs=1e-12)


def test_wrong_arguments_are_refused():
    with pytest.raises(InputError, match="organs: are none"):
        MeanSliceDice([])
    with pytest.raises(ValueError, match="'nan', 'zero' or 'one'"):
        MeanSliceDice(ORGANS, empty="skip")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="2 channels for 3 organs"):
        MeanSliceDice(ORGANS).update((torch.zeros(1, 2, 4, 4), torch.zeros(1, 1, 4, 4)))
    with pytest.raises(ValueError, match="bring them to one grid"):
        MeanSliceDice(ORGANS).update((torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 5)))
