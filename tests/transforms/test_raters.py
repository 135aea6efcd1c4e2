"""Label maps of several raters become entries of their own."""

import pytest
import torch

from mtmed.errors import InputError
from mtmed.transforms.raters import SplitRatersd


def maps(count):
    return torch.arange(count)[:, None, None, None].expand(count, 2, 2, 2)


def test_each_rater_gets_an_entry():
    data = SplitRatersd("label", count=2)({"label": maps(2)})
    assert data["label"].shape == data["label_2"].shape == (1, 2, 2, 2)
    assert (data["label"].unique(), data["label_2"].unique()) == (torch.tensor([0]), torch.tensor([1]))


def test_a_case_with_fewer_raters_repeats_its_maps():
    data = SplitRatersd("label", count=3)({"label": maps(2)})
    assert [int(data[name].max()) for name in ("label", "label_2", "label_3")] == [0, 1, 0]


def test_one_rater_can_be_chosen():
    data = SplitRatersd("label", count=2, rater=2)({"label": maps(2)})
    assert int(data["label"].max()) == 1
    assert "label_2" not in data


def test_a_case_without_label_is_passed_on():
    assert SplitRatersd("label", count=2, allow_missing_keys=True)({"image": 1}) == {"image": 1}


@pytest.mark.parametrize(("count", "rater", "given"), [(2, 2, 1), (1, None, 2)])
def test_a_missing_or_surplus_rater_is_refused(count, rater, given):
    with pytest.raises(InputError, match="raters"):
        SplitRatersd("label", count=count, rater=rater)({"label": maps(given)})
    with pytest.raises(InputError, match="choose 1 to 2"):
        SplitRatersd("label", count=2, rater=3)
