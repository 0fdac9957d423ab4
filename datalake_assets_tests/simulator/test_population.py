import random

from hypothesis import given
from hypothesis import strategies as st

from datalake_assets.simulator.population import Dice

NAMES = st.lists(st.one_of(st.text(), st.integers()), max_size=4)


@given(st.integers(0, 2**63), NAMES)
def test_a_draw_depends_on_seed_and_names_alone(seed: int, names: list[object]) -> None:
    assert Dice(seed).number(*names) == Dice(seed).number(*names)


def test_other_seeds_draw_otherwise() -> None:
    assert Dice(1).number("a") != Dice(2).number("a")


def test_names_are_not_glued_together() -> None:
    """Otherwise two draws with different names would always fall alike."""
    assert Dice(1).number("ab", "c") != Dice(1).number("a", "bc")


def test_a_draw_does_not_listen_to_random() -> None:
    """A test that seeds or uses `random` must not change the data."""
    random.seed(1)
    first = Dice(1).number("a")
    random.seed(2)
    assert Dice(1).number("a") == first


def test_a_chance_is_taken_as_often_as_it_says() -> None:
    taken = sum(Dice(1).chance(0.1, number) for number in range(10_000))
    assert 900 < taken < 1100


def test_a_chance_of_nothing_and_of_everything_are_certain() -> None:
    assert not any(Dice(1).chance(0.0, number) for number in range(1000))
    assert all(Dice(1).chance(1.0, number) for number in range(1000))


@given(st.lists(st.integers(), max_size=50))
def test_a_shuffle_keeps_every_item(items: list[int]) -> None:
    assert sorted(Dice(1).shuffled(items, "x")) == sorted(items)


def test_a_shuffle_moves_items() -> None:
    assert Dice(1).shuffled(range(20), "x") != list(range(20))
