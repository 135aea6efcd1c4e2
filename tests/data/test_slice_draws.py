"""Slices of scans as boxes: each one, and neighbouring pairs."""

import itertools
from collections import Counter
from math import comb

import numpy as np
import pytest
from slice_cohort import HEIGHT, WIDTH, scan_cohort

from mtmed.data.slice_draws import AdjacentSlices, EverySlice, check_pairs
from mtmed.errors import InputError
from mtmed.randomness import random_generator


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    rows = [("p1", 7), ("p2", 12), ("p1", 1), ("p3", 9)]
    return scan_cohort(tmp_path_factory.mktemp("scans"), rows, foreground=[2, 3, 4])


def groups(draw, volumes, index, number=200):
    return [draw(volumes, index, random_generator(0, step, 0, "draw")) for step in range(number)]


def firsts(group):
    """Volume and first slice of each pair of a group."""
    boxes = [sample["patch"] for sample in group]
    for one, other in zip(boxes[::2], boxes[1::2], strict=True):
        assert one.volume == other.volume
        assert other.start[0] == one.start[0] + 1
    return [(box.volume, box.start[0]) for box in boxes[::2]]


def test_a_pass_has_every_slice_of_every_scan_once(volumes):
    draw = EverySlice(slice_offsets=[-1, 0, 1])
    boxes = [draw(volumes, index, np.random.default_rng(0))["patch"] for index in range(draw.count(volumes))]
    expected = [(volume.index, place) for volume in volumes for place in range(volume.shape[0])]
    assert [(box.volume, box.start[0]) for box in boxes] == expected
    assert {(box.start[1:], box.size, box.slice_offsets) for box in boxes} == {((0, 0), (1, HEIGHT, WIDTH), (-1, 0, 1))}
    assert draw.count(volumes) == 29
    assert draw.count(volumes[1:2]) == 12
    assert draw.count(volumes[:0]) == 0


def test_foreground_takes_its_share_of_the_turns(volumes):
    draw = EverySlice(foreground_probability=0.5)
    generator = np.random.default_rng(0)
    places = [draw(volumes, 0, generator)["patch"].start[0] for _ in range(4000)]
    shares = np.bincount(places, minlength=7) / 4000
    # slices 2, 3 and 4 have one label value each, so each is drawn alike; slice 0 is the one whose turn it is
    np.testing.assert_allclose(shares, [1 / 2, 0, 1 / 6, 1 / 6, 1 / 6, 0, 0], atol=0.04)
    assert [draw(volumes, 19, generator)["patch"].start[0] for _ in range(20)] == [0] * 20, "a scan without foreground"


def test_pairs_are_neighbours_of_one_scan_and_keep_their_distance(volumes):
    draw = AdjacentSlices(pairs=3, minimum_distance=3)
    for group in groups(draw, volumes[1:2], 0):
        chosen = firsts(group)
        assert len(group) == draw.group_size == 6
        assert {volume for volume, _ in chosen} == {0}
        starts = [first for _, first in chosen]
        assert np.diff(starts).min() >= 3
        assert 0 <= min(starts) <= max(starts) <= 10


@pytest.mark.parametrize(("minimum_distance", "gap"), [(1, 2), (2, 2), (4, 4)])
def test_all_choices_of_pairs_are_equally_likely(volumes, minimum_distance, gap):
    draw = AdjacentSlices(pairs=2, minimum_distance=minimum_distance)
    seen = Counter(tuple(first for _, first in firsts(group)) for group in groups(draw, volumes[:1], 0, 3000))
    possible = [pair for pair in itertools.combinations(range(6), 2) if pair[1] - pair[0] >= gap]
    assert len(possible) == comb(6 - (gap - 1), 2)
    expected = 3000 / len(possible)
    np.testing.assert_allclose([seen[pair] for pair in possible], expected, atol=4.5 * expected**0.5)
    assert set(seen) == set(possible)


def test_no_slice_is_in_two_pairs(volumes):
    draw = AdjacentSlices(pairs=6, minimum_distance=1)
    slices = [box["patch"].start[0] for box in draw(volumes, 1, np.random.default_rng(0))]
    assert sorted(slices) == list(range(12))


@pytest.mark.parametrize("slices", range(9))
@pytest.mark.parametrize("minimum_distance", [1, 2, 3, 4])
def test_capacity_is_that_of_the_densest_choice(slices, minimum_distance):
    gap = max(minimum_distance, 2)
    assert AdjacentSlices(minimum_distance=minimum_distance).capacity(slices) == len(range(0, slices - 1, gap))


def test_pairs_of_a_patient_come_from_all_scans(volumes):
    draw = AdjacentSlices(pairs=4, minimum_distance=2, group="patient")
    assert draw.count(volumes) == 3
    counts = Counter()
    for group in groups(draw, volumes.select([0, 2, 0]), 0, 300):
        pairs = firsts(group)
        assert len(pairs) == 4
        for volume, members in itertools.groupby(pairs, key=lambda pair: pair[0]):
            starts = [first for _, first in members]
            assert volume in (0, 2), "the scan of one slice gives none"
            assert len(starts) == 1 or np.diff(starts).min() >= 2
            counts[volume] += len(starts)
    assert counts[0] == pytest.approx(600, abs=60), "both scans can give three pairs, so each gives two on average"


def test_a_group_depends_on_the_generator_only(volumes):
    draw = AdjacentSlices(pairs=3, minimum_distance=2)
    first, second, other = (draw(volumes, 1, random_generator(seed, 0, 0, "draw")) for seed in (0, 0, 1))
    assert first == second
    assert first != other


def test_scans_that_cannot_give_the_pairs_are_named(volumes):
    with pytest.raises(InputError) as caught:
        check_pairs(volumes, AdjacentSlices(pairs=4, minimum_distance=3))
    assert str(caught.value) == (
        "pairs: is 4, more pairs of neighbouring slices than these scans give: scans/0 (2), scans/2 (0), scans/3 (3); "
        "lower it to 2, lower 'minimum_distance' (now 3), or leave these scans out"
    )
    check_pairs(volumes[1:2], AdjacentSlices(pairs=4))


def test_a_patient_needs_the_pairs_in_all_scans_together(volumes):
    draw = AdjacentSlices(pairs=4, minimum_distance=2, group="patient")
    check_pairs(volumes.select([0, 2, 0]), draw)
    with pytest.raises(InputError, match=r"these patients give: scans/p1 \(3\); lower it to 3, "):
        check_pairs(volumes.select([0, 2, 1]), draw)


def test_a_scan_of_one_slice_gives_no_pair(volumes):
    with pytest.raises(InputError, match=r"scans/2 \(0\); leave these scans out"):
        check_pairs(volumes, AdjacentSlices(pairs=1))
    with pytest.raises(InputError, match=r"scans/2 \(0\); contrast of neighbouring slices needs"):
        check_pairs(volumes[2:3], AdjacentSlices(pairs=1))


def test_many_short_scans_are_counted_not_listed(volumes):
    with pytest.raises(InputError, match=r"give: scans/2 \(0\), scans/0 \(2\), .* and 3 more; "):
        check_pairs(volumes.select([2, 0, 0, 0, 0, 0, 0, 0]), AdjacentSlices(pairs=4))


@pytest.mark.parametrize(
    ("draw", "options", "text"),
    [
        (EverySlice, {"slice_offsets": []}, r"slice_offsets: is \[\]"),
        (EverySlice, {"slice_offsets": [0.5]}, r"slice_offsets: is \[0.5\]"),
        (EverySlice, {"slice_offsets": [True]}, r"slice_offsets: is \[True\]"),
        (EverySlice, {"slice_offsets": ["a"]}, r"slice_offsets: is \['a'\]"),
        (EverySlice, {"slice_offsets": 2}, r"slice_offsets: is 2; give whole numbers"),
        (EverySlice, {"foreground_probability": 1.5}, "foreground_probability: is 1.5"),
        (AdjacentSlices, {"pairs": 0}, "pairs: is 0"),
        (AdjacentSlices, {"pairs": True}, "pairs: is True"),
        (AdjacentSlices, {"minimum_distance": True}, "minimum_distance: is True"),
        (AdjacentSlices, {"minimum_distance": 0}, "minimum_distance: is 0"),
        (AdjacentSlices, {"group": "batch"}, "group: is 'batch'; choose one of scan, patient"),
        (AdjacentSlices, {"slice_offsets": []}, "slice_offsets"),
    ],
)
def test_options_that_are_not_allowed_are_refused(draw, options, text):
    with pytest.raises(InputError, match=text):
        draw(**options)
