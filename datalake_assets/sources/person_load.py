"""The way from a population to its documents: term queries, batches, halves, and who could not be answered for.

    members without terms to ask for ------------------> batches of ids ----> person API -> results
    students, teachers -> term queries -> no terms ----> batches of ids ----> person API -> results
                                       -> terms -------> batches of terms --> person API -> results

All run at once, so that the slow person API is busy from the start, and everything waits for its consumer. A
question that failed is no answer: a person whose terms are not known is not asked for, because a document without
terms would look like a poorer truth. That somebody has no terms looks like a source that finds nobody's; so such an
answer must be given twice, and is believed at the end, if it was not given for too many. How a source is asked belongs
to `peoplesoft.py` and `persons.py`; what is kept, and where, to the lake.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from datalake_assets.exact_json import JsonValue, defects
from datalake_assets.sources.errors import PermanentSourceError, SourceError
from datalake_assets.sources.peoplesoft import PeopleSoftQueries, UnusableRow
from datalake_assets.sources.person_answers import PERSON_ID, Take
from datalake_assets.sources.persons import BatchAnswer, PersonRequest, Persons
from datalake_assets.sources.policies import PERSON_TERMS

STUDENT_TERMS: Final = "BU_TERM_STD_FULL_TERM"
"""Query of a student's terms; its prompt is `BUID`."""

TEACHING_TERMS: Final = "BU_FACULTY_GET"
"""Query of the terms in which somebody teaches; its prompt is `EMPLID`, which is given the same id."""


@dataclass(frozen=True)
class Member:
    """One person of the population.

    Attributes:
        id: The person.
        is_student: Whether a source names the person as a student.
        is_teacher: Whether a source names the person as a teacher.
    """

    id: str = field(repr=False)
    is_student: bool
    is_teacher: bool


@dataclass(frozen=True)
class Terms:
    """The terms of one person, as the person API is asked for them; none is an answer too.

    Attributes:
        id: The person.
        student: Rows of `buid`, `acad_career`, `strm` and whatever else the query gave.
        teaching: Rows of `emplid` and `strm`.
    """

    id: str = field(repr=False)
    student: tuple[dict[str, JsonValue], ...] = field(default=(), repr=False)
    teaching: tuple[dict[str, JsonValue], ...] = field(default=(), repr=False)


class TermMemory(Protocol):
    """Answered term queries of an unfinished load of the same population, which a crash does not take along."""

    def get(self, person_id: str, /) -> Terms | None:
        """What is known of a person; None if it was not answered yet."""

    async def keep(self, answers: Sequence[Terms], /) -> None:
        """Keep some answers."""


@dataclass(frozen=True)
class PersonResult:
    """What became of one person.

    Attributes:
        id: The person.
        outcome: `data`, or `failed` where no trustworthy answer came.
        documents: What was made of the document that the source sent; several if it sent different ones, which
            contradict each other.
        rule: Why it failed: `id_malformed`, `term_query_failed`, `term_row_unusable`, `terms_doubtful`,
            `batch_failed`, `source_error` or `missing_record`; empty for data.
        reason: The same as a sentence without personal data.
        pointer: Where the answer, or the failure, came from.
    """

    id: str = field(repr=False)
    outcome: Literal["data", "failed"]
    documents: tuple[Any, ...] = field(default=(), repr=False)
    rule: str = ""
    reason: str = ""
    pointer: str = ""


@dataclass(frozen=True, kw_only=True)
class LoadProgress:
    """How far a load is.

    Attributes:
        persons: Persons with a result.
        of: Persons in all.
        failed: Persons that failed.
        terms_asked: Persons whose terms were asked for; what the memory knew is not counted.
        batches: Batches answered.
        retries: Repeated requests, of both sources.
        unusable: Lines and records that were no document of anybody.
        empty: Empty objects in place of documents.
        foreign: Documents of persons that were not asked for.
        unknown_types: Lines of types that nobody documented.
        rate_per_s: Persons per second since the start.
        remaining_s: Estimated time to the end; None while there is nothing to estimate from.
    """

    persons: int
    of: int
    failed: int
    terms_asked: int
    batches: int
    retries: int
    unusable: int
    empty: int
    foreign: int
    unknown_types: int
    rate_per_s: float
    remaining_s: float | None


async def load_persons(
    members: Iterable[Member],
    *,
    queries: PeopleSoftQueries,
    persons: Persons,
    memory: TermMemory,
    take: Take,
    answered: Container[str] = (),
    ask_all_for_terms: bool = False,
    without_terms: float = 0.5,
    batch_terms: int = 600,
    batch_ids: int = 100,
    queries_at_once: int = PERSON_TERMS.concurrency,
    progress: Callable[[LoadProgress], None] | None = None,
) -> AsyncGenerator[list[PersonResult]]:
    """Ask for everybody, and give what became of them, batch by batch in the order of finishing.

    Use it inside `contextlib.aclosing`: a consumer that stops early ends everything that is under way.

    Args:
        members: The population; ids of no university form fail unasked.
        queries: PeopleSoft, open.
        persons: The person API, open.
        memory: Term queries that were answered before.
        take: Makes of each document what is kept of it, as soon as it is read.
        answered: Members who are not asked for, because their documents came before.
        ask_all_for_terms: Whether anybody may be a student or a teacher, named as one or not.
        without_terms: Share (0 to 1) of the students, and of the teachers, up to which it is believed that they have
            no terms. Two of them always are.
        batch_terms: Most terms in one batch, unless one person has more.
        batch_ids: Most persons in one batch without terms.
        queries_at_once: Persons whose terms are asked for at the same time.
        progress: Told how far the load is, every 10 seconds and at its end.

    Yields:
        One result per member who is asked for, each exactly once.

    Raises:
        SourceError: A source refuses everybody, e.g. the logon, or was stopped after too many failures.
        ValueError: A member stands in the population twice.
    """
    load = _Load(
        list(members),
        queries=queries,
        persons=persons,
        memory=memory,
        take=take,
        answered=answered,
        ask_all_for_terms=ask_all_for_terms,
        without_terms=without_terms,
        batch_terms=batch_terms,
        batch_ids=batch_ids,
        queries_at_once=queries_at_once,
        progress=progress,
    )
    # A task of its own: a task group around a `yield` would cancel the consumer and not its children.
    running = asyncio.create_task(load.run())
    running.add_done_callback(lambda _: load.finished.put_nowait(None))
    try:
        while (results := await load.finished.get()) is not None:
            yield results
            load.room.release()
        await running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


class _Load:
    """One load: two producers of batches, and a task for each batch."""

    def __init__(
        self,
        members: list[Member],
        *,
        queries: PeopleSoftQueries,
        persons: Persons,
        memory: TermMemory,
        take: Take,
        answered: Container[str],
        ask_all_for_terms: bool,
        without_terms: float,
        batch_terms: int,
        batch_ids: int,
        queries_at_once: int,
        progress: Callable[[LoadProgress], None] | None,
    ) -> None:
        if len({member.id for member in members}) != len(members):
            raise ValueError("A person stands in the population twice; every person is asked for once.")
        self._named = {
            STUDENT_TERMS: sum(member.is_student for member in members),
            TEACHING_TERMS: sum(member.is_teacher for member in members),
        }
        self._members = [member for member in members if member.id not in answered]
        self._ask_all_for_terms = ask_all_for_terms
        self._without_terms = without_terms
        self._doubtful: list[tuple[Member, Terms]] = []
        self._queries = queries
        self._persons = persons
        self._memory = memory
        self._take = take
        self._batch_terms = batch_terms
        self._batch_ids = batch_ids
        self._queries_at_once = queries_at_once
        self._progress = progress
        self.finished: asyncio.Queue[list[PersonResult] | None] = asyncio.Queue()
        # As many batches again as are under way may wait for the consumer; that bounds the queue above and the memory.
        self.room = asyncio.Semaphore(2 * persons.concurrency)
        self._answered: asyncio.Queue[Terms | PersonResult | None] = asyncio.Queue(2 * queries_at_once)
        self._batches: asyncio.TaskGroup
        self._started = time.monotonic()
        self._retries_before = queries.stats.retries + persons.stats.retries
        self._done = self._failed = self._terms_asked = self._batches_answered = 0
        self._unusable = self._empty = self._foreign = self._unknown_types = 0

    async def run(self) -> None:
        """Everything, from the first question to the last result."""
        try:
            async with asyncio.TaskGroup() as tasks:
                heartbeat = tasks.create_task(self._heartbeat())
                async with asyncio.TaskGroup() as self._batches:
                    self._batches.create_task(self._batch_the_plain())
                    self._batches.create_task(self._batch_by_terms())
                    self._batches.create_task(self._ask_for_terms())
                heartbeat.cancel()
        except BaseExceptionGroup as group:
            failure = _first(group)
        else:
            self._tell()
            return
        raise failure

    # ---------------------------------------------------------------------------------------------- batches

    async def _batch_the_plain(self) -> None:
        """Batches of those who have no terms to ask for; they need nothing but the person API."""
        await self._give([_malformed(member) for member in self._members if not PERSON_ID.fullmatch(member.id)])
        plain = [
            PersonRequest(member.id)
            for member in self._members
            if PERSON_ID.fullmatch(member.id) and not self._needs_terms(member)
        ]
        for batch in _groups(plain, self._batch_ids):
            await self._send(batch)

    async def _batch_by_terms(self) -> None:
        """Batches of those whose terms are known by now, with and without terms apart."""
        with_terms: list[PersonRequest] = []
        without: list[PersonRequest] = []
        failed: list[PersonResult] = []
        records = 0
        while (answer := await self._answered.get()) is not None:
            if isinstance(answer, PersonResult):
                failed.append(answer)
            else:
                request = PersonRequest(answer.id, answer.student, answer.teaching)
                if with_terms and records + request.term_records > self._batch_terms:
                    await self._send(with_terms)
                    with_terms, records = [], 0
                (with_terms if request.term_records else without).append(request)
                records += request.term_records
            if len(without) == self._batch_ids:
                await self._send(without)
                without = []
            if len(failed) == self._batch_ids:
                await self._give(failed)
                failed = []
        for batch in (with_terms, without):
            if batch:
                await self._send(batch)
        await self._give(failed)

    async def _send(self, batch: Sequence[PersonRequest], *, again: bool = False) -> None:
        """Start on a batch as soon as there is room for it."""
        await self.room.acquire()
        self._batches.create_task(self._ask_for(batch, again))

    async def _ask_for(self, batch: Sequence[PersonRequest], again: bool) -> None:
        """Ask for one batch; the room it takes is given back with its results."""
        rest: list[Sequence[PersonRequest]] = []
        results: list[PersonResult] = []
        try:
            answer = await self._persons.fetch(batch, self._take)
        except SourceError as failure:
            if not _is_about_the_batch(failure):
                raise
            if len(batch) > 1:
                rest = _halves(batch)
            else:
                results = [_failed(batch[0].id, "batch_failed", failure.what, failure.where)]
        else:
            self._count(answer)
            results = [
                PersonResult(id_, "data", documents, pointer=answer.pointer)
                for id_, documents in answer.documents.items()
            ]
            unanswered = [request for request in batch if request.id not in answer.documents]
            if answer.partial:
                rest = _halves(unanswered)
            elif not again:
                rest = list(_groups(unanswered, _ASKED_AGAIN_AT_ONCE))
            else:
                results += [_unanswered(request.id, answer) for request in unanswered]
            # A partial answer holds some of its persons, so this comes to an end.
            again = again or not answer.partial
        if results:
            self._put(results)
        else:
            self.room.release()
        for part in rest:
            await self._send(part, again=again)

    async def _give(self, results: list[PersonResult]) -> None:
        """Hand over results that took no batch."""
        if results:
            await self.room.acquire()
            self._put(results)

    def _put(self, results: list[PersonResult]) -> None:
        self._done += len(results)
        self._failed += sum(result.outcome == "failed" for result in results)
        self.finished.put_nowait(results)

    # ------------------------------------------------------------------------------------------------ terms

    async def _ask_for_terms(self) -> None:
        """The terms of everybody who may have some, several persons at a time."""
        members = (member for member in self._members if PERSON_ID.fullmatch(member.id) and self._needs_terms(member))
        fresh: list[Terms] = []
        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(self._queries_at_once):
                    workers.create_task(self._ask_one_by_one(members, fresh))
            await self._believe_or_not(fresh)
        finally:
            if fresh:
                await self._memory.keep(fresh)
        await self._answered.put(None)

    async def _ask_one_by_one(self, members: Iterator[Member], fresh: list[Terms]) -> None:
        for member in members:
            known = self._memory.get(member.id)
            if known is not None:
                await self._answered.put(known)
                continue
            answer = await self._terms_of(member)
            self._terms_asked += 1
            if isinstance(answer, PersonResult):
                await self._answered.put(answer)
            elif self._lacking(member, answer):
                self._doubtful.append((member, answer))
            else:
                await self._know(answer, fresh)

    async def _know(self, answer: Terms, fresh: list[Terms]) -> None:
        """Hand on terms that are believed, and remember them."""
        fresh.append(answer)
        if len(fresh) >= _KEPT_AT_ONCE:
            kept = fresh.copy()
            fresh.clear()
            await self._memory.keep(kept)
        await self._answered.put(answer)

    async def _believe_or_not(self, fresh: list[Terms]) -> None:
        """Decide, once everybody was asked, whether those without terms are few enough to be believed."""
        lacking = Counter(
            query
            for member, terms in self._doubtful
            for query in self._lacking(member, terms)
            if (member.is_student if query == STUDENT_TERMS else member.is_teacher)
        )
        most = {query: max(_WITHOUT_TERMS_ALWAYS, self._without_terms * named) for query, named in self._named.items()}
        reasons = {
            query: f"{query} knows no terms of {lacking[query]:,} of the {named:,} people who are named for it; of "
            f"more than {most[query]:,.0f} that is not believed."
            for query, named in self._named.items()
            if lacking[query] > most[query]
        }
        for member, terms in self._doubtful:
            doubts = [reasons[query] for query in self._lacking(member, terms) if query in reasons]
            if doubts:
                await self._answered.put(_failed(member.id, "terms_doubtful", " ".join(doubts), ""))
            else:
                await self._know(terms, fresh)

    def _needs_terms(self, member: Member) -> bool:
        return self._ask_all_for_terms or member.is_student or member.is_teacher

    def _asked_of(self, member: Member) -> tuple[str, ...]:
        """The term queries that a member is asked for."""
        asked = ((STUDENT_TERMS, member.is_student), (TEACHING_TERMS, member.is_teacher))
        return tuple(query for query, is_named in asked if is_named or self._ask_all_for_terms)

    def _lacking(self, member: Member, terms: Terms) -> tuple[str, ...]:
        """The term queries that were asked for and have nothing about a member."""
        found = {STUDENT_TERMS: terms.student, TEACHING_TERMS: terms.teaching}
        return tuple(query for query in self._asked_of(member) if not found[query])

    async def _terms_of(self, member: Member) -> Terms | PersonResult:
        student: list[dict[str, JsonValue]] = []
        teaching: list[dict[str, JsonValue]] = []
        asked = self._asked_of(member)
        try:
            if STUDENT_TERMS in asked:
                student = await self._rows(STUDENT_TERMS, "BUID", member.id)
            if TEACHING_TERMS in asked:
                teaching = await self._rows(TEACHING_TERMS, "EMPLID", member.id)
        except SourceError as failure:
            if failure.source_stopped:
                raise
            return _failed(member.id, "term_query_failed", failure.what, failure.where)
        except _UnusableTerms as unusable:
            return _failed(member.id, "term_row_unusable", unusable.reason, unusable.pointer)
        return Terms(member.id, tuple(student), tuple(teaching))

    async def _rows(self, query: str, prompt: str, id_: str) -> list[dict[str, JsonValue]]:
        answer = await self._queries.run_query(query, {prompt: id_}, may_be_empty=True)
        if not answer.rows:
            answer = await self._queries.run_query(query, {prompt: id_}, may_be_empty=True)
        shape = _student_term if query == STUDENT_TERMS else _teaching_term
        rows: list[dict[str, JsonValue]] = []
        for row in answer.rows:
            shaped = row.reason if isinstance(row, UnusableRow) else shape(row, id_)
            if isinstance(shaped, str):
                raise _UnusableTerms(f"{query}: {shaped}", answer.pointer)
            if shaped not in rows:
                rows.append(shaped)
        return rows

    # --------------------------------------------------------------------------------------------- progress

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(_HEARTBEAT_S)
            self._tell()

    def _count(self, answer: BatchAnswer) -> None:
        self._batches_answered += 1
        self._unusable += len(answer.unusable)
        self._empty += answer.empty
        self._foreign += answer.foreign
        self._unknown_types += sum(answer.unknown_types.values())

    def _tell(self) -> None:
        if self._progress is None:
            return
        rate = self._done / max(time.monotonic() - self._started, 1e-9)
        self._progress(
            LoadProgress(
                persons=self._done,
                of=len(self._members),
                failed=self._failed,
                terms_asked=self._terms_asked,
                batches=self._batches_answered,
                retries=self._queries.stats.retries + self._persons.stats.retries - self._retries_before,
                unusable=self._unusable,
                empty=self._empty,
                foreign=self._foreign,
                unknown_types=self._unknown_types,
                rate_per_s=rate,
                remaining_s=(len(self._members) - self._done) / rate if rate else None,
            )
        )


class _UnusableTerms(Exception):
    """A row of a term query of which no term can be made; the person's terms are not known then."""

    def __init__(self, reason: str, pointer: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.pointer = pointer


_KEPT_AT_ONCE: Final = 50
"""Answers of term queries that a crash may cost."""

_WITHOUT_TERMS_ALWAYS: Final = 2
"""People without terms who are believed in a population so small that shares mean nothing."""

_ASKED_AGAIN_AT_ONCE: Final = 10
"""Persons missing from an answer are asked for once more, in groups so small that one of them harms few."""

_HEARTBEAT_S: Final = 10.0

_BATCH_STATUSES: Final = frozenset({200, 400, 413, 422})
"""Statuses of permanent failures that may be due to what one batch asked for; all others concern every batch."""


def _malformed(member: Member) -> PersonResult:
    return _failed(member.id, "id_malformed", "The id is not U and eight digits, so nobody was asked for it.", "")


def _failed(id_: str, rule: str, reason: str, pointer: str) -> PersonResult:
    return PersonResult(id_, "failed", rule=rule, reason=reason, pointer=pointer)


def _unanswered(id_: str, answer: BatchAnswer) -> PersonResult:
    if id_ in answer.refused:
        reason = f"The source answered with an error for this person, twice: {answer.refused[id_]}"
        return _failed(id_, "source_error", reason, answer.pointer)
    reason = "Twice the answer held no record of this person."
    if strange := len(answer.unusable) + answer.empty + answer.foreign:
        reason = f"{reason} The last one held {strange} records that are nobody's who was asked for."
    return _failed(id_, "missing_record", reason, answer.pointer)


def _is_about_the_batch(failure: SourceError) -> bool:
    """Whether a smaller batch may fare better."""
    if failure.source_stopped:
        return False
    return not isinstance(failure, PermanentSourceError) or failure.status in _BATCH_STATUSES


def _groups(requests: Sequence[PersonRequest], size: int) -> Iterator[Sequence[PersonRequest]]:
    return (requests[start : start + size] for start in range(0, len(requests), size))


def _halves(requests: Sequence[PersonRequest]) -> list[Sequence[PersonRequest]]:
    middle = (len(requests) + 1) // 2
    return [part for part in (requests[:middle], requests[middle:]) if part]


def _student_term(row: Mapping[str, JsonValue], id_: str) -> dict[str, JsonValue] | str:
    """A row as the person API wants it, or why it is none."""
    term = {"buid" if name.lower() == "campus_id" else name.lower(): value for name, value in row.items()}
    term.setdefault("buid", id_)
    if len(term) < len(row):
        return "two fields of a row differ in the case of their letters only."
    for name in ("buid", "acad_career", "strm"):
        term[name] = _code(term.get(name))
        if not term[name]:
            return f"a row has no {name.upper()}."
    if term["buid"] != id_:
        return "a row is about somebody else."
    if defect := defects(term):
        return f"a row holds something that cannot be kept ({defect})."
    return term


def _teaching_term(row: Mapping[str, JsonValue], id_: str) -> dict[str, JsonValue] | str:
    """A row as the person API wants it, or why it is none."""
    term = {"emplid": _code(row.get("EMPLID")) or id_, "strm": _code(row.get("STRM"))}
    if not term["strm"]:
        return "a row has no STRM."
    if defect := defects(term):
        return f"a row holds something that cannot be kept ({defect})."
    return term


def _code(value: JsonValue) -> str:
    """A code without the blanks that PeopleSoft pads with; some installations send digits as a number."""
    if isinstance(value, str):
        return value.strip()
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The failure that a group is about."""
    for error in group.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("a group holds an exception")
