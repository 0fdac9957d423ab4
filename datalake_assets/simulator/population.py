"""Keyed hashing: how invented data and faults are drawn without a state or a sequence.

Every draw is a pure function of a seed and of the names of what is drawn, so any order, any repetition and
any number of connections give the same bytes. What is drawn does not belong here: terms stand in `terms.py`,
faults in `faults.py`.
"""

from bisect import bisect_right
from collections.abc import Hashable, Iterable, Sequence
from datetime import date
from hashlib import blake2b
from math import floor, log, log1p
from typing import Final, TypeVar

T = TypeVar("T")

_LEAST_POOL = 2**64
_NEVER: Final = date.max.toordinal() + 1


class Dice:
    """Draws that depend on a seed and on names, and on nothing else.

    Args:
        seed: Two dice with one seed draw alike.
    """

    def __init__(self, seed: int | str) -> None:
        self._key = blake2b(str(seed).encode(), digest_size=32).digest()

    def number(self, *names: object) -> int:
        """A whole number from 0 to 2**64 - 1."""
        text = "\x1f".join(str(name) for name in names)
        return int.from_bytes(blake2b(text.encode(), digest_size=8, key=self._key).digest(), "big")

    def below(self, bound: int, *names: object) -> int:
        """A whole number from 0 to `bound` - 1."""
        return self.number(*names) % bound

    def chance(self, rate: float, *names: object) -> bool:
        """True in a share `rate` of all names."""
        return self.number(*names) < rate * 2**64

    def pick(self, options: Sequence[T], *names: object) -> T:
        """One of the options."""
        return options[self.below(len(options), *names)]

    def shuffled(self, items: Iterable[T], *names: object) -> list[T]:
        """The items in an order of their own for these names."""
        numbered = list(enumerate(items))
        numbered.sort(key=lambda pair: self.number(*names, pair[0]))
        return [item for _, item in numbered]

    def text(self, length: int, *names: object) -> str:
        """Hexadecimal text of up to 128 characters, for invented keys and passwords."""
        text = "\x1f".join(str(name) for name in names)
        return blake2b(text.encode(), digest_size=64, key=self._key).hexdigest()[:length]

    def draws(self, *names: object) -> "Draws":
        """A sequence of draws for one thing that needs many."""
        text = "\x1f".join(str(name) for name in names)
        return Draws(blake2b(text.encode(), digest_size=64, key=self._key))


class Draws:
    """Draws in a row, cheaper than as many named ones; for what is always drawn whole and in one order.

    Args:
        source: A keyed hash of what is drawn for.
    """

    def __init__(self, source: "blake2b") -> None:
        self._source = source
        self._pool = int.from_bytes(source.digest(), "big")

    def below(self, bound: int) -> int:
        """A whole number from 0 to `bound` - 1."""
        if self._pool < _LEAST_POOL:
            self._source.update(b"\x1e")
            self._pool = int.from_bytes(self._source.digest(), "big")
        self._pool, drawn = divmod(self._pool, bound)
        return drawn

    def chance(self, rate: float) -> bool:
        """True in a share `rate` of all draws, to a millionth."""
        return self.below(1_000_000) < rate * 1_000_000

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[self.below(len(options))]

    def weighted(self, options: Sequence[T], weights: Sequence[float]) -> T:
        """One of the options, each as often as its weight says."""
        mark = self.below(1_000_000) / 1_000_000 * sum(weights)
        for option, weight in zip(options, weights, strict=True):
            mark -= weight
            if mark < 0:
                return option
        return options[-1]

    def shuffled(self, items: Iterable[T]) -> list[T]:
        """The items in another order."""
        mixed = list(items)
        for place in range(len(mixed) - 1, 0, -1):
            other = self.below(place + 1)
            mixed[place], mixed[other] = mixed[other], mixed[place]
        return mixed


class Occurrences:
    """When something happens to things, again and again, drawn as the gaps between.

    Any day is reached without a walk through all days before it.

    Args:
        dice: The draws.
        name: What the draws are named.
        rates: Chances of happening on a day, in turn: of the first occurrence, of the one after it, and so on.
    """

    def __init__(self, dice: Dice, name: str, rates: tuple[float, ...]) -> None:
        self._dice = dice
        self._name = name
        self._rates = rates
        self._known: dict[Hashable, tuple[int, ...]] = {}

    def until(self, thing: Hashable, first: int, last: int) -> tuple[int, int]:
        """How often it happened to a thing after `first` up to `last`, and when it did last (`first`, if never)."""
        known = self._known.get(thing, (first,))
        if known[-1] <= last:
            longer = list(known)
            while longer[-1] <= last:
                longer.append(min(_NEVER, longer[-1] + self._gap(thing, len(longer) - 1)))
            # Replaced as a whole, so that threads that ask at once see the same.
            self._known[thing] = known = tuple(longer)
        count = max(0, bisect_right(known, last) - 1)
        return count, known[count]

    def _gap(self, thing: Hashable, place: int) -> int:
        rate = self._rates[place % len(self._rates)]
        if rate <= 0.0:
            return _NEVER
        if rate >= 1.0:
            return 1
        share = (self._dice.number(self._name, thing, place) + 1) / 2**64
        return 1 + floor(log(share) / log1p(-rate))
