"""A few orders of things that differ from each other as much as possible."""

from itertools import permutations
from math import factorial

import numpy as np
from numpy.typing import NDArray

from mtmed.errors import InputError

__all__ = ["permutation_table"]

# all orders are listed and compared, 362,880 for nine
_MOST_THINGS = 9


def permutation_table(things: int, count: int) -> NDArray[np.int64]:
    """Orders of things, far from each other in the number of places at which they differ (Hamming distance).

    The first is the identity. Each further one is the order whose nearest neighbour among those chosen is farthest
    away; of several the one with the largest sum of distances, then the first in lexicographic order. So nothing is
    random, and a longer table begins with the shorter one.

    Source: Noroozi, Favaro 2016 (arXiv 1603.09246), Algorithm 1, which starts from a random order and goes by the mean
    distance.

    Args:
        things: how many are put in order, at most 9.
        count: how many orders; as many as there are gives all.

    Returns:
        Shape (count, things): row r has at place i the thing that stands there.

    Raises:
        InputError: there are too many things, or fewer orders than asked for.
    """
    if not 2 <= things <= _MOST_THINGS:
        raise InputError("grid", f"has {things} cells", f"give a grid of 2 to {_MOST_THINGS} cells")
    if not 2 <= count <= factorial(things):
        problem = f"is {count}, {things} cells have {factorial(things)} orders"
        raise InputError("permutations", problem, f"give a number from 2 to {factorial(things)}")
    every = np.array(list(permutations(range(things))))
    chosen = [0]
    nearest = total = (every != every[0]).sum(1)
    while len(chosen) < count:
        # a chosen order has the distance 0 to itself, so that none is taken twice
        best = int(np.lexsort((np.arange(len(every)), -total, -nearest))[0])
        chosen.append(best)
        distance = (every != every[best]).sum(1)
        nearest, total = np.minimum(nearest, distance), total + distance
    return every[chosen]
