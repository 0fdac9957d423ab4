"""Keyed hashing: how invented data and faults are drawn without a state or a sequence.

Every draw is a pure function of a seed and of the names of what is drawn, so any order, any repetition and
any number of connections give the same bytes. What is drawn does not belong here: terms stand in `terms.py`,
faults in `faults.py`.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")


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
