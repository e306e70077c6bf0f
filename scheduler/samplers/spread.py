"""An order of a finite space in which every prefix is spread over the whole space.

Each parameter cycles through its values in rounds, every round in a different order, as in Latin hypercube
sampling (McKay, Beckman and Conover, 1979). Every point occurs exactly once. The order depends only on the
space and the seed.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from itertools import islice

from kerasweep.jobs.seeds import grid_number
from kerasweep.jobs.sweepfile.space import Params, Space

_WORD = 1 << 64


class Spread:
    """The order.

    Args:
        space: with finite dimensions only.
        seed: the sweep's.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._seed = space, seed
        self._cells = list(space.cells())

    def points(self, start: int, stop: int) -> Iterator[Params]:
        """Yield the points from number `start`, from 0, to before `stop`, as far as they exist."""
        for cell, index in islice(self._turns(), start, stop):
            yield self._space.in_file_order({**self._cells[cell].params, **self._free(cell, index)})

    def _turns(self) -> Iterator[tuple[int, int]]:
        """Yield (cell, number of earlier occurrences), with cells in proportion to their sizes."""
        times = heapq.merge(*map(self._times, range(len(self._cells))))
        return ((cell, index) for _, cell, index in times)

    def _times(self, cell: int) -> Iterator[tuple[float, int, int]]:
        size, late = self._cells[cell].size, grid_number(self._seed, cell)
        # Exact integer arithmetic, since a size may exceed the range of floats.
        return (((index * _WORD + late) / (size * _WORD), cell, index) for index in range(size))

    def _free(self, cell: int, index: int) -> Params:
        """Return a point of a cell, by its position in the order.

        The points of the other parameters come in laps, once for each value of this one, in an order that is
        the same in every lap. In the first lap this parameter's values come in shuffled rounds; in each
        further one, every point of the others gets the value that is next in its round. The parameter with
        the fewest values is handled first, so that many of its rounds fit into a lap.
        """
        params: Params = {}
        free, rest = self._cells[cell].free, self._cells[cell].size
        for place, name in enumerate(sorted(free, key=lambda name: len(free[name]))):
            count = len(free[name])
            rest //= count
            lap, index = divmod(index, rest)
            round_, turn = divmod(index, count)
            shift, factor = (grid_number(self._seed, cell, place, round_, part) for part in range(2))
            params[name] = free[name][_shuffled((turn + lap) % count, count, shift, factor % count)]
        return params


def _shuffled(index: int, count: int, shift: int, factor: int) -> int:
    """Return the new position of an index: factor · index + shift modulo `count`, with a factor coprime to
    `count`.
    """
    while math.gcd(factor, count) != 1:
        factor += 1
    return (factor * index + shift) % count
