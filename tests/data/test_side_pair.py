"""Pairs of kidneys: balance, who may meet whom, and what is refused."""

import itertools
import logging

import numpy as np
import pytest
import torch
from side_cohort import sided_cohort

from mtmed.data.crops import CropDataset, crop_loader
from mtmed.data.region import SIDES
from mtmed.data.side_pair import SidePair, sided_volumes
from mtmed.errors import InputError
from mtmed.randomness import random_generator

SIZE = (8, 8, 6)
# patient b was examined twice, c has one kidney; patient a of another data set is somebody else
ROWS = [
    ("kits", "a", "LR"),
    ("kits", "b", "LR"),
    ("kits", "b", "LR"),
    ("kits", "c", "R"),
    ("own", "a", "LR"),
    ("own", "d", "LR"),
]


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    return sided_cohort(tmp_path_factory.mktemp("cases"), ROWS)


def draws(volumes, number=3000, **options):
    """Pairs as (volume, side) of patch and partner, each case in turn."""
    draw = SidePair(region_size=SIZE, **options)
    pairs = []
    for step in range(number):
        boxes = draw(volumes, step % len(volumes), random_generator(5, step, 0, "draw"))
        pairs.append(tuple((boxes[role].volume, boxes[role].region.value) for role in ("patch", "partner")))
    return pairs


def test_half_of_the_pairs_are_of_one_side(volumes):
    pairs = draws(volumes)
    same = np.mean([first[1] == second[1] for first, second in pairs])
    assert abs(same - 0.5) < 4 * (0.25 / len(pairs)) ** 0.5


def test_half_of_the_pairs_are_of_one_side_whatever_the_anchor(volumes):
    pairs = draws(volumes, 6000)
    for anchor in {first for first, _ in pairs}:
        same = [anchor[1] == second[1] for first, second in pairs if first == anchor]
        assert abs(np.mean(same) - 0.5) < 4 * (0.25 / len(same)) ** 0.5, anchor


def test_each_case_is_the_patch_in_turn_with_either_side(volumes):
    pairs = draws(volumes, 1200)
    assert [first[0] for first, _ in pairs] == [step % 6 for step in range(1200)]
    left = np.mean([first[1] == 1 for first, _ in pairs if first[0] != 3])
    assert left == pytest.approx(0.5, abs=0.06)
    assert {first[1] for first, _ in pairs if first[0] == 3} == {2}


def test_partners_are_drawn_alike_among_all_others(volumes):
    partners = [second for first, second in draws(volumes, 6000) if first == (0, 1) and second[1] == 2]
    counts = {partner: partners.count(partner) / len(partners) for partner in set(partners)}
    assert set(counts) == {(1, 2), (2, 2), (3, 2), (4, 2), (5, 2)}
    assert all(share == pytest.approx(0.2, abs=0.09) for share in counts.values())


def test_two_examinations_of_a_patient_never_meet_but_namesakes_of_two_data_sets_do(volumes):
    pairs = draws(volumes)
    assert all(volumes.patient(first[0]) != volumes.patient(second[0]) for first, second in pairs)
    met = {(first[0], second[0]) for first, second in pairs}
    assert (0, 4) in met
    assert not met & {(1, 2), (2, 1)}


def test_one_patient_may_give_both_kidneys_if_allowed_but_no_kidney_meets_itself(volumes):
    pairs = draws(volumes, different_patients=False)
    own = [(first, second) for first, second in pairs if volumes.patient(first[0]) == volumes.patient(second[0])]
    assert {first[1] == second[1] for first, second in own} == {False}
    assert any(first[0] == second[0] for first, second in own)
    assert any({first[0], second[0]} == {1, 2} for first, second in own)


def test_the_other_kind_is_drawn_where_one_kind_has_no_partner(tmp_path):
    volumes = sided_cohort(tmp_path, [("kits", "a", "LR"), ("kits", "b", "L")])
    kinds = {(first, second[1]) for first, second in draws(volumes, 200)}
    # the only right kidney meets the left one of the other patient alone
    assert kinds == {((0, 1), 1), ((0, 2), 1), ((1, 1), 1), ((1, 1), 2)}


def test_a_pair_follows_from_seed_step_and_position(volumes):
    draw = SidePair(region_size=SIZE)

    def batches(workers, batch_size=4, start=0):
        loader = crop_loader(
            CropDataset(volumes, draw, seed=1, global_batch_size=4), batch_size=batch_size, workers=workers
        )
        loader.batch_sampler.start_step = start
        return list(itertools.islice(loader, 4))

    for first, second in zip(batches(0), batches(2), strict=True):
        for ours, theirs in ((first, second), (first["partner"], second["partner"])):
            assert all(torch.equal(ours[name], theirs[name]) for name in ("image", "value", "volume"))
    assert torch.equal(batches(0)[3]["image"], batches(0, start=3)[0]["image"])
    assert set(batches(0)[0]) == {"image", "value", "volume", "dataset", "partner", "step", "positions"}
    assert set(batches(0)[0]["partner"]) == {"image", "value", "volume", "dataset"}
    assert batches(0)[0]["value"].dtype == torch.int64


def test_only_right_kidneys_are_mirrored_and_keep_their_side(volumes):
    draw = SidePair(region_size=SIZE, mirror_right=True, constant=True)
    for step in range(50):
        for box in draw(volumes, 0, random_generator(0, step, 0, "draw")).values():
            assert box.region.mirrored == (SIDES[box.region.value] == "right")
            assert (box.region.constant, box.region.map) == (True, "side")


def test_volumes_without_kidneys_are_left_out_in_order(tmp_path):
    volumes = sided_cohort(tmp_path, [("kits", "a", ""), ("kits", "b", "LR"), ("kits", "c", ""), ("kits", "d", "R")])
    kept = sided_volumes(volumes)
    assert [volume.case.group for volume in kept] == ["b", "d"]
    assert [volume.index for volume in kept] == [0, 1]
    with pytest.raises(InputError, match=r"kits/0: has no side in the map 'side'; .*sided_volumes"):
        SidePair(region_size=SIZE)(volumes, 0, random_generator(0, 0, 0, "draw"))


def test_one_side_only_is_refused(tmp_path):
    volumes = sided_cohort(tmp_path, [("kits", str(number), "L") for number in range(7)])
    with pytest.raises(InputError, match=r"^kidney pairs: all 7 kidneys found are left ones, pairs need both sides; "):
        sided_volumes(volumes)
    with pytest.raises(InputError, match="all 2 kidneys found are right ones"):
        sided_volumes(sided_cohort(tmp_path / "right", [("kits", "a", "R"), ("kits", "b", "R")]))


def test_no_kidney_at_all_is_refused_with_the_first_remark(tmp_path):
    volumes = sided_cohort(tmp_path, [("kits", "a", ""), ("kits", "b", "")])
    with pytest.raises(InputError, match=r"none of the 2 cases has a kidney .*\(first remark: left kidney missing\)"):
        sided_volumes(volumes)
    with pytest.raises(InputError, match="in the map 'kidney'"):
        sided_volumes(volumes, map="kidney")


def test_one_patient_is_refused_unless_a_patient_may_meet_themselves(tmp_path, caplog):
    volumes = sided_cohort(tmp_path, [("kits", "a", "LR"), ("kits", "a", "LR")])
    with pytest.raises(InputError, match=r"all 4 kidneys found are of one patient.*different_patients to false"):
        sided_volumes(volumes)
    with pytest.raises(InputError, match="kits/0: has no partner for its kidney"):
        SidePair(region_size=SIZE)(volumes, 0, random_generator(0, 0, 0, "draw"))
    with caplog.at_level(logging.WARNING):
        kept = sided_volumes(volumes, different_patients=False)
    assert "all pairs are of opposite sides" in caplog.text
    assert {first[1] != second[1] for first, second in draws(kept, 100, different_patients=False)} == {True}


def test_impossible_sizes_are_refused(volumes):
    with pytest.raises(InputError, match="region_size"):
        SidePair(region_size=(0, 4, 4))
    with pytest.raises(InputError, match="region_size: has 2 extents, the volume kits/0 has 3 dimensions"):
        SidePair(region_size=(4, 4))(volumes, 0, random_generator(0, 0, 0, "draw"))
