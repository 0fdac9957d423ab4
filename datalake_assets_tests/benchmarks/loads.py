"""What it costs to load persons into the three layers: for the first time, and with little or nothing that is new.

Every load is the engine's own, from landed snapshots, each on a lake that is as it was before the round. What loads are
held against is in `bare.py`, whether many documents cost more in `size.py`.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from statistics import median
from typing import Final

from datalake_assets import exact_json
from datalake_assets.entities import PERSON
from datalake_assets.lake import curated
from datalake_assets.lake.documents import judge, without_sensitive_keys
from datalake_assets.lake.services import Service, load_services
from datalake_assets.storage.postgres import PostgresAddress
from datalake_assets_tests.benchmarks import bare
from datalake_assets_tests.benchmarks.documents import Documents, day
from datalake_assets_tests.benchmarks.measure import Figure, Kind, Plan, in_turns, timed
from datalake_assets_tests.benchmarks.sites import Site, Work, loading, site
from datalake_assets_tests.lake.lakes import SmallLake

SERVICE: Final = "studentGeneric"
"""The service whose definition changes: students, with most paths of all."""

COMPARED: Final = 20
"""Documents that DeepDiff compares in a round: a second's work."""

BACKFILLED_DAYS: Final = 30


def first_load(plan: Plan) -> Iterator[Figure]:
    """Landing to raw, xform and curated, beside a bare COPY of the rows that come out and beside dlt's raw table."""
    with site(plan.documents) as place, place.lake() as plain:
        documents = Documents(plan.documents)
        file = place.land(0, documents.answers(0))
        plan.say(f"{plan.documents:,} documents landed")
        copy = bare.BareCopy(plain, place.folder)

        def ours(index: int) -> float:
            with place.lake() as lake:
                seconds = place.seconds(lake, loading(0))
                if index == 0:
                    asyncio.run(copy.take(lake))
            plan.say(f"loaded in {seconds:.1f} s, {copy.rows:,} rows")
            return seconds

        def by_dlt(_: int) -> float:
            with place.lake() as lake:
                return bare.load_raw_by_dlt(lake, file)

        works: list[Callable[[int], float]] = [ours, lambda _: asyncio.run(copy.seconds())]
        if bare.is_installed("dlt", plan.say):
            works.append(by_dlt)
        loads, copies, *others = in_turns(plan.rounds, *works)
        note = f"{_rate(plan.documents, loads)} documents/s"
        yield Figure("first load", "bare COPY of the same rows", loads, copies, limit=0.8, note=note)
        for dlt in others:
            note = f"dlt: {_rate(plan.documents, dlt)} documents/s"
            yield Figure("first load", "dlt, raw alone", loads, dlt, limit=1.0, note=note)


def reloads(plan: Plan) -> Iterator[Figure]:
    """Loads into a lake that holds the documents already: nothing new, another order, 1 % new, a service changed."""
    with site(plan.documents) as place, place.lake() as lake:
        documents = Documents(plan.documents)
        place.land(0, documents.answers(0))
        seconds = place.seconds(lake, loading(0))
        place.execute(lake, "vacuum analyze")
        plan.say(f"{plan.documents:,} documents loaded in {seconds:.1f} s")
        yield from _unchanged(plan, place, lake, documents)
        yield from _shuffled(plan, place, lake, documents)
        yield from _one_percent(plan, place, lake, documents)
        yield from _service_changed(plan, place, lake)


def _unchanged(plan: Plan, place: Site, lake: PostgresAddress, documents: Documents) -> Iterator[Figure]:
    file = place.land(1, documents.answers(0))

    def ours(_: int) -> float:
        seconds = place.seconds(lake, _loading_nothing_new(1, documents))
        _forget(place, lake, 1)
        return seconds

    loads, reads, proofs = in_turns(
        plan.rounds,
        ours,
        lambda _: timed(lambda: bare.read_keys_and_digests(file)),
        lambda _: timed(lambda: place.prove(1)),
    )
    case, note = "reload, nothing changed", f"{_rate(plan.documents, loads)} keys/s"
    yield Figure(case, "reading key and digest", loads, reads, limit=2.0, note=note)
    yield Figure(case, "proving the file", loads, proofs, note="SHA-256 of the whole snapshot")
    yield Figure(case, "", loads, kind=Kind.VALUE, limit=5.0, note=f"{plan.documents:,} keys")


def _shuffled(plan: Plan, place: Site, lake: PostgresAddress, documents: Documents) -> Iterator[Figure]:
    """From what a source sends to the lake: that only the order is new is found out when a document is digested."""
    numbers = range(documents.count)
    parts: list[tuple[float, float]] = []

    def ours(_: int) -> float:
        sent = (documents.sent(number, shuffled=True) for number in numbers)
        answers = (judge(PERSON, exact_json.loads(text), "bench") for text in sent)
        landed = timed(lambda: place.land(2, answers))
        loaded = place.seconds(lake, _loading_nothing_new(2, documents))
        _forget(place, lake, 2)
        parts.append((landed, loaded))
        return landed + loaded

    def digest_alone(_: int) -> float:
        return timed(lambda: bare.digest_all(documents.sent(number, shuffled=True) for number in numbers))

    def by_deepdiff(index: int) -> float:
        pairs = []
        for number in range(index * COMPARED, (index + 1) * COMPARED):
            sent = (documents.sent(number * 7 % documents.count, shuffled=way) for way in (False, True))
            before, after = (without_sensitive_keys(exact_json.loads(text)) for text in sent)
            pairs.append((before, after))
        return timed(lambda: bare.compare_by_deepdiff(pairs)) / COMPARED

    works: list[Callable[[int], float]] = [ours, digest_alone]
    if bare.is_installed("deepdiff", plan.say):
        works.append(by_deepdiff)
    loads, digests, *others = in_turns(plan.rounds, *works)
    landed, loaded = (median(values) for values in zip(*parts, strict=True))
    note = f"{landed:.2f} s to judge and land, {loaded:.2f} s to load"
    yield Figure("reload, all arrays shuffled", "the digest alone", loads, digests, limit=1.3, note=note)
    for times in others:
        each, compared = (_milliseconds(values, per) for values, per in ((loads, documents.count), (times, 1)))
        note = f"a document; {_rate(documents.count, loads)} documents/s"
        yield Figure("reload, all arrays shuffled", "DeepDiff", each, compared, limit=0.02, unit="ms", note=note)


def _one_percent(plan: Plan, place: Site, lake: PostgresAddress, documents: Documents) -> Iterator[Figure]:
    """Each round is a day of its own, on which other persons change."""

    def ours(index: int) -> float:
        place.land(10 + index, documents.answers(1 + index))
        return place.seconds(lake, loading(10 + index))

    def first_load_of_them(index: int) -> float:
        series = f"changed {index}"
        with place.lake() as small:
            place.land(0, [], series=series)
            place.land(1, documents.answers(1 + index, documents.changed_on(1 + index)), series=series)
            place.seconds(small, loading(0), series=series)  # makes the partitions
            return place.seconds(small, loading(1), series=series)

    loads, firsts = in_turns(plan.rounds, ours, first_load_of_them)
    note = f"{len(documents.changed_on(1)):,} of {documents.count:,}"
    yield Figure("reload, 1 % changed", "first load of that 1 %", loads, firsts, limit=1.5, note=note)


def _service_changed(plan: Plan, place: Site, lake: PostgresAddress) -> Iterator[Figure]:
    """The curated table alone: of the other layers a definition changes nothing."""
    alone = tuple(service for service in load_services(PERSON).services if service.name == SERVICE)
    last = day(10 + plan.rounds - 1)

    async def load_current(persons: SmallLake) -> None:
        await persons.load_raw(last)
        await persons.load_xform(last)

    with place.lake() as other:
        place.seconds(other, load_current)
        place.seconds(other, _loading_curated(last, alone))  # makes the partition

        def ours(index: int) -> float:
            return place.seconds(lake, loading_with_fewer_paths(10 + plan.rounds - 1, 1 + index))

        def first_load_of_it(_: int) -> float:
            marks = curated.filtered_marks(PERSON)
            place.execute(other, f"truncate {PERSON.curated}, {marks}, ops.service_version")
            return place.seconds(other, _loading_curated(last, alone))

        loads, firsts = in_turns(plan.rounds, ours, first_load_of_it)
    yield Figure("one service changed", "first load of that service", loads, firsts, limit=1.2, note=SERVICE)


def backfill(plan: Plan) -> Iterator[Figure]:
    """Landed days in one go, beside each day as a load of its own; with a tenth of the documents."""
    documents = Documents(max(100, plan.documents // 10))
    days = range(1, 1 + BACKFILLED_DAYS)
    with site(documents.count * 10) as place:
        for number in (0, *days):
            place.land(number, documents.answers(number))
        plan.say(f"{1 + len(days)} days of {documents.count:,} documents landed")

        def ours(_: int) -> float:
            with place.lake() as lake:
                place.seconds(lake, loading(0))
                return place.seconds(lake, _backfilling(days))

        def day_by_day(_: int) -> float:
            with place.lake() as lake:
                place.seconds(lake, loading(0))
                return sum(place.seconds(lake, loading(number)) for number in days)

        runs, singles = in_turns(plan.rounds, ours, day_by_day)
        note = f"{documents.count:,} documents, 1 % new a day; {median(runs) / len(days):.2f} s a day"
        yield Figure(f"backfill of {len(days)} days", "the same day by day", runs, singles, limit=0.5, note=note)


def _backfilling(days: range) -> Work:
    """The history day by day; the layers that converge on it, once at the end."""

    async def load(lake: SmallLake) -> None:
        for number in days:
            await lake.load_raw(day(number))
        await lake.load_xform(day(days[-1]))
        await lake.load_curated(day(days[-1]))

    return load


def loading_with_fewer_paths(number: int, fewer: int) -> Work:
    """The load of a numbered day into the curated table alone, with so many paths less of `SERVICE`."""
    return _loading_curated(day(number), _with_fewer_paths(load_services(PERSON).services, fewer))


def _loading_curated(load_date: date, services: tuple[Service, ...]) -> Work:
    async def load(persons: SmallLake) -> None:
        receipt = await replace(persons, services=services).load_curated(load_date)
        assert receipt.rows_new or receipt.rows_changed, "A load that should have written a service has not."

    return load


def _loading_nothing_new(number: int, documents: Documents) -> Work:
    async def load(lake: SmallLake) -> None:
        receipt = await lake.load(day(number))
        assert receipt.rows_unchanged == documents.count, "A load that should have found nothing new has."

    return load


def _forget(place: Site, lake: PostgresAddress, number: int) -> None:
    """Take back all that a load that found nothing new has left."""
    date = day(number).isoformat()
    place.execute(
        lake,
        f"delete from ops.receipt where load_date = '{date}'",
        f"delete from ops.load_attempt where partition = '{date}'",
    )


def _with_fewer_paths(services: tuple[Service, ...], fewer: int) -> tuple[Service, ...]:
    return tuple(
        Service.model_validate({**service.model_dump(), "paths": service.paths[:-fewer]})
        if service.name == SERVICE
        else service
        for service in services
    )


def _rate(documents: int, seconds: tuple[float, ...]) -> str:
    return f"{documents / median(seconds):,.0f}"


def _milliseconds(seconds: tuple[float, ...], per: int) -> tuple[float, ...]:
    return tuple(value * 1000 / per for value in seconds)
