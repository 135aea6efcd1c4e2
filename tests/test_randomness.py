"""Random numbers depend on their place in the run alone, and are as random as others."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mtmed.randomness import random_generator, stream_key, torch_generator

FEW = settings(max_examples=40, deadline=None)
PLACES = st.tuples(
    st.integers(0, 2**40), st.integers(0, 10**7), st.integers(0, 4096), st.text("abcdefg ", min_size=1, max_size=12)
)


@FEW
@given(st.lists(PLACES, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_numbers_do_not_depend_on_what_was_drawn_before(places, order):
    alone = {place: random_generator(*place).random(4).tolist() for place in places}
    noise = {place: torch.rand(4, generator=torch_generator(*place)).tolist() for place in places}
    shuffled = list(places)
    order.shuffle(shuffled)
    for place in shuffled:
        np.random.random(3)  # the global states must not matter
        torch.rand(3)
        assert random_generator(*place).random(4).tolist() == alone[place]
        assert torch.rand(4, generator=torch_generator(*place)).tolist() == noise[place]


@FEW
@given(PLACES, PLACES)
def test_two_places_never_share_a_stream(one, other):
    if one == other:
        assert stream_key(*one) == stream_key(*other)
    else:
        assert stream_key(*one) != stream_key(*other)
        assert random_generator(*one).random(4).tolist() != random_generator(*other).random(4).tolist()


def test_neighbouring_places_have_keys_of_their_own():
    keys = {
        stream_key(seed, step, position, stream)
        for seed in range(4)
        for step in range(25)
        for position in range(25)
        for stream in ("crop", "elastic", "1/2", "2")
    }
    assert len(keys) == 4 * 25 * 25 * 4


def test_the_first_numbers_of_consecutive_steps_are_uniform():
    firsts = np.array([random_generator(0, step, 0, "draw").random() for step in range(8000)])
    counts, _ = np.histogram(firsts, bins=40, range=(0, 1))
    assert stats.chisquare(counts).pvalue > 0.001
    # pairs of one step and the next fill the unit square evenly
    pairs, *_ = np.histogram2d(firsts[:-1:2], firsts[1::2], bins=8, range=((0, 1), (0, 1)))
    assert stats.chisquare(pairs.ravel()).pvalue > 0.001


def test_streams_of_one_step_are_independent():
    streams = [[random_generator(3, step, 0, name).random() for step in range(4000)] for name in ("crop", "elastic")]
    places = [[random_generator(3, 0, position, "crop").random() for position in range(4000)], streams[0]]
    for one, other in (streams, places):
        assert abs(stats.spearmanr(one, other).statistic) < 4 / np.sqrt(4000)
        table, *_ = np.histogram2d(one, other, bins=6, range=((0, 1), (0, 1)))
        assert stats.chi2_contingency(table).pvalue > 0.001


def test_a_number_is_what_it_was_when_this_was_written():
    """Runs must go on after an update as they began."""
    assert stream_key(0, 0, 0, "crop") == 8648241327834210026
    assert random_generator(7, 3, 1, "elastic").integers(0, 1000, 5).tolist() == [873, 422, 395, 749, 855]
