"""Every kidney once."""

import numpy as np
import pytest
import torch
from side_cohort import sided_cohort
from torch.utils.data import DataLoader

from mtmed.data.crops import CropDataset
from mtmed.data.side_pair import SidePair
from mtmed.data.side_regions import SideRegions
from mtmed.errors import InputError

SIZE = (8, 8, 6)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    rows = [("kits", "a", "LR"), ("kits", "b", ""), ("kits", "c", "R"), ("own", "a", "LR")]
    return sided_cohort(tmp_path_factory.mktemp("cases"), rows)


def test_each_kidney_is_one_sample_in_the_order_of_the_cases(volumes):
    items = list(DataLoader(SideRegions(volumes, region_size=SIZE), batch_size=None))
    assert [(item["volume"], int(item["label"]), item["group"]) for item in items] == [
        (0, 1, "kits/a"),
        (0, 2, "kits/a"),
        (2, 2, "kits/c"),
        (3, 1, "own/a"),
        (3, 2, "own/a"),
    ]
    assert {(tuple(item["image"].shape), item["image"].dtype) for item in items} == {((1, *SIZE), torch.float32)}


def test_samples_stack_to_a_batch(volumes):
    (batch,) = DataLoader(SideRegions(volumes, region_size=SIZE), batch_size=5)
    assert batch["image"].shape == (5, 1, *SIZE)
    assert batch["label"].tolist() == [1, 2, 2, 1, 2]
    assert batch["label"].dtype == torch.int64
    assert batch["group"][2] == "kits/c"


@pytest.mark.parametrize("options", [{}, {"constant": True}, {"mirror_right": True}])
def test_kidneys_look_as_in_the_pairs(volumes, options):
    regions = SideRegions(volumes, region_size=SIZE, **options)
    expected = {(item["volume"], int(item["label"])): item["image"].numpy() for item in regions}
    pairs = CropDataset(volumes[2:], SidePair(region_size=SIZE, **options), seed=0, global_batch_size=1)
    for step in range(20):
        sample = pairs[step, 0]
        for part in (sample, sample["partner"]):
            np.testing.assert_array_equal(part["image"].numpy(), expected[part["volume"] + 2, part["value"]])


def test_impossible_sizes_are_refused(volumes):
    with pytest.raises(InputError, match="region_size"):
        SideRegions(volumes, region_size=(8,))
