"""One question to a source and its JSON answer: parsed without loss, asked once more if it was cut.

What every client needs between `HttpSource` and the rows: members that an envelope must have, and refusals that
name what is wrong without naming a person. What a row means belongs to the client of that source.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from datalake_assets.exact_json import DuplicateKeys, JsonError, JsonValue, loads
from datalake_assets.sources.errors import PermanentSourceError, TransientSourceError
from datalake_assets.sources.http import Answer, HttpSource
from datalake_assets.sources.kinds import JSON


class Exchange:
    """One question, from the request to the parsed answer.

    Args:
        http: The source.
        asked: What is asked for, as shown in errors and pointers; never a person's id.
        personal: Values of the request that must appear in no text.
        todo: What an operator does about an answer that cannot be trusted.
    """

    def __init__(
        self,
        http: HttpSource,
        asked: str,
        *,
        personal: Iterable[str] = (),
        todo: str = "Nothing of it was kept. Ask the operator of the source with the request id.",
    ) -> None:
        self._http = http
        self._asked = asked
        self._personal = tuple(personal)
        self.redactor = http.redactor.knowing(self._personal)
        self._todo = todo

    async def ask(
        self,
        method: str,
        path: str = "",
        *,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        accept: tuple[str, ...] = JSON,
    ) -> tuple[JsonValue, Answer]:
        """The parsed document and the answer it came in, whose attempts count every one that was made.

        Raises:
            TransientSourceError: The source failed on every attempt, or cut its answer twice.
            PermanentSourceError: It refused, or answered something that is no JSON.
        """
        attempts = 0
        asked_again = False
        while True:
            answer = await self._http.request(
                method, path, params=params, json=json, key=self._asked, accept=accept, personal=self._personal
            )
            attempts += answer.attempts
            try:
                return self.parsed(answer), replace(answer, attempts=attempts)
            except JsonError as error:
                # A complete body that is no JSON would be the same again; one that was cut would not.
                if answer.whole and answer.body.rstrip().endswith((b"}", b"]")):
                    raise self.refusal("is not readable", answer, error.what) from None
                if asked_again:
                    raise TransientSourceError(
                        f"The answer of {self._http.name} to {self._asked} ended early, twice. {error.what}",
                        where=self.pointer(answer),
                        todo="A proxy or gateway may be cutting answers off; run the load again later.",
                        status=answer.status,
                    ) from None
                asked_again = True

    def parsed(self, answer: Answer) -> JsonValue:
        """The document; a source that writes JSON in a way of its own is read in one.

        Raises:
            JsonError: It is no JSON.
        """
        return loads(answer.body)

    def member(self, document: JsonValue, name: str, answer: Answer) -> JsonValue:
        """A member that the envelope must have, in an object that must be one."""
        if not isinstance(document, dict):
            raise self.refusal(f"has {kind_of(document)} where an object with {name!r} belongs", answer)
        if isinstance(document, DuplicateKeys):
            raise self.refusal(f"names a field beside {name!r} twice", answer)
        if name not in document:
            said = "; ".join(map(self.shown, _said(document)))
            raise self.refusal(f"has no {name!r}", answer, f"It said: {said}." if said else "")
        return document[name]

    def shown(self, value: JsonValue) -> str:
        """A value of the envelope, fit to be read in an error."""
        text = repr(value) if isinstance(value, str) else kind_of(value)
        return self.redactor.excerpt(text.encode("utf-8", errors="replace"), SHOWN_CHARACTERS)

    def refusal(self, what: str, answer: Answer, detail: str = "") -> PermanentSourceError:
        """An answer that cannot be trusted; `what` continues "The answer of ... to ..."."""
        return PermanentSourceError(
            f"The answer of {self._http.name} to {self._asked} {what}. {detail}".rstrip(),
            where=f"{self.pointer(answer)}, attempt {answer.attempts}",
            todo=self._todo,
            status=answer.status,
        )

    def pointer(self, answer: Answer) -> str:
        """Source, question and request id, fit to be kept beside a row."""
        return f"{self._http.name} {self._asked}, {answer.url}, request id {answer.request_id}"


SHOWN_CHARACTERS: Final = 200
"""How much of a value is worth showing."""

_SPEAKING: Final = ("message", "error", "reason", "detail", "fault", "faultstring", "errorcode")
"""Members in which gateways say what is wrong (reference: CS Tools, SnapLogic and Apigee errors)."""


def _said(document: Mapping[str, JsonValue], depth: int = 3) -> Iterator[JsonValue]:
    for name in _SPEAKING:
        value = document.get(name)
        if isinstance(value, dict) and depth:
            yield from _said(value, depth - 1)
        elif value:
            yield value


def kind_of(value: JsonValue) -> str:
    """What a value is, in words that do not say what it holds."""
    if value is None:
        return "null"
    kinds: tuple[tuple[type, str], ...] = (
        (bool, "a truth value"),
        (str, "a text"),
        (dict, "an object"),
        (list, "a list"),
    )
    return next((words for kind, words in kinds if isinstance(value, kind)), "a number")


def whole_number(value: JsonValue) -> int | None:
    """A count or code; digits in a string are read too, because they leave no doubt."""
    if isinstance(value, str):
        return int(value) if _DIGITS.fullmatch(value) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


_DIGITS: Final = re.compile(r"-?[0-9]{1,18}")
