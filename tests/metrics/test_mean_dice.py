"""The validation metric against MONAI's Dice, and over processes."""

import math
import os

import pytest
import torch
import torch.multiprocessing
from ignite.engine import Engine
from monai.metrics import DiceMetric

from mtmed.metrics import MeanDice

NAMES = {"0": "background", "1": "liver", "2": "spleen", "3": "kidney"}


def _volumes(seed, count=3):
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randint(0, 4, (1, 6, 5, 4), generator=generator), torch.randint(0, 4, (1, 6, 5, 4), generator=generator))
        for _ in range(count)
    ]


def test_mean_and_classes_equal_monai_where_no_mask_is_empty():
    metric, reference = MeanDice(NAMES), DiceMetric(include_background=False, num_classes=4, reduction="mean_batch")
    for prediction, label in _volumes(0):
        metric.update(([prediction], [label]))
        reference(prediction[None], label[None])
    expected = reference.aggregate()
    assert metric.per_organ() == pytest.approx(dict(zip(list(NAMES.values())[1:], expected.tolist(), strict=True)))
    assert metric.compute() == pytest.approx(float(expected.mean()))


def test_logits_are_compared_by_their_argmax():
    logits = torch.randn(2, 4, 6, 5, 4, generator=torch.Generator().manual_seed(0))
    label = torch.randint(0, 4, (2, 1, 6, 5, 4), generator=torch.Generator().manual_seed(1))
    ours, maps = MeanDice(NAMES), MeanDice(NAMES)
    ours.update((logits, label))
    maps.update((logits.argmax(1, keepdim=True), label))
    assert ours.compute() == maps.compute() > 0


@pytest.mark.parametrize(("rule", "expected"), [("nan", None), ("zero", 0.0), ("one", 1.0)])
def test_two_empty_masks_follow_the_rule_and_false_positives_cost(rule, expected):
    metric = MeanDice({0: "background", 1: "liver", 2: "spleen"}, empty=rule)
    prediction = torch.zeros(1, 4, 4, dtype=torch.uint8)
    prediction[0, 0, 0] = 2
    metric.update(([prediction], [torch.zeros(1, 4, 4, dtype=torch.uint8)]))
    assert metric.per_organ().get("liver") == expected
    assert metric.per_organ()["spleen"] == 0.0


def test_nothing_to_score_is_nan():
    metric = MeanDice({0: "background", 1: "liver"})
    metric.update(([torch.zeros(1, 4, 4)], [torch.zeros(1, 4, 4)]))
    assert math.isnan(metric.compute())


def test_engine_gets_the_mean_and_the_organs_by_name():
    volumes = _volumes(1)
    engine = Engine(lambda engine, batch: {"pred": batch[0][None], "label": batch[1][None]})
    MeanDice(NAMES).attach(engine, "mean_dice")
    engine.run(volumes)
    found = dict(engine.state.metrics)
    assert set(found) == {"mean_dice", "mean_dice/liver", "mean_dice/spleen", "mean_dice/kidney"}
    assert found["mean_dice"] == pytest.approx(sum(found[f"mean_dice/{o}"] for o in ("liver", "spleen", "kidney")) / 3)
    engine.run(volumes[:1])
    assert engine.state.metrics["mean_dice"] != found["mean_dice"]


def _process(rank, folder):
    os.environ.update(MASTER_ADDR="127.0.0.1", RANK=str(rank), WORLD_SIZE="2")
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    metric = MeanDice(NAMES)
    for prediction, label in _volumes(2)[:2] if rank == 0 else _volumes(2)[2:]:
        metric.update(([prediction], [label]))
    torch.save((metric.compute(), metric.per_organ()), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_what_one_gives_on_all_volumes(tmp_path):
    torch.multiprocessing.spawn(_process, (str(tmp_path),), nprocs=2)
    alone = MeanDice(NAMES)
    for prediction, label in _volumes(2):
        alone.update(([prediction], [label]))
    for rank in range(2):
        mean, classes = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert mean == pytest.approx(alone.compute(), abs=1e-12)
        assert classes == pytest.approx(alone.per_organ(), abs=1e-12)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="beside background"):
        MeanDice({0: "background"})
    with pytest.raises(ValueError, match="'nan', 'zero' or 'one'"):
        MeanDice(NAMES, empty="skip")  # type: ignore[arg-type]
