"""From one object a source answered with to one row of landing: cleaned, checked, keyed, digested.

A document that cannot be kept becomes a quarantined answer with the rule it breaks; it never stops its
neighbours. Sensitive keys are gone before anything else happens to a document. Where documents come from
(`sources/`) and how snapshots are written (`landing.py`) do not belong here.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from operator import is_not
from typing import Final

from datalake_assets import exact_json
from datalake_assets.entities import SENSITIVE_KEYS, Column, Entity
from datalake_assets.exact_json import JsonValue
from datalake_assets.lake.canonical import canonical, digest
from datalake_assets.lake.outcomes import Outcome

DUPLICATE_DOCUMENT: Final = "duplicate_document"
"""Rule that a document breaks by sharing its key with another one; nothing is wrong with itself."""

KeyValue = str | int | None
Key = tuple[KeyValue, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """One row of landing.

    Attributes:
        key: Values of the entity's key columns; a part is None when a quarantined document does not tell it.
        outcome: What became of the key.
        source: Pointer to where the answer came from: endpoint, request, ordinal; no personal data.
        digest: Digest of the document, for outcome `data`.
        document: The cleaned document as UTF-8 JSON; for a quarantined one, whatever can be kept of it.
        rule: Name of the rule a quarantined document breaks, or the kind of failure.
        reason: The same as a sentence, without values of the document.
    """

    key: Key
    outcome: Outcome
    source: str
    digest: bytes | None = None
    document: bytes | None = None
    rule: str | None = None
    reason: str | None = None

    @property
    def keyed(self) -> bool:
        """Whether every part of the key is known."""
        return None not in self.key


def judge(entity: Entity, value: JsonValue, source: str) -> Answer:
    """Turn one object of an answer into a row of landing.

    Returns:
        An answer with outcome `data` or `quarantined`.
    """
    document = without_sensitive_keys(value)
    key = key_of(entity, document)
    text = exact_json.dumps_sound(document)
    broken = _broken_rule(entity, document, key, text)
    if broken is None:
        return Answer(
            key=key,
            outcome=Outcome.DATA,
            source=source,
            digest=digest(document, entity.ordered),
            document=text or exact_json.dumps(document),
        )
    rule, reason = broken
    return Answer(
        key=key,
        outcome=Outcome.QUARANTINED,
        source=source,
        document=exact_json.dumps_ascii(document),
        rule=rule,
        reason=reason,
    )


def unusable(entity: Entity, rule: str, reason: str, source: str) -> Answer:
    """A quarantined row for a part of an answer that is no document at all."""
    return Answer(key=(None,) * len(entity.key), outcome=Outcome.QUARANTINED, source=source, rule=rule, reason=reason)


def settle_duplicates(answers: Iterable[Answer], entity: Entity) -> Iterator[Answer]:
    """Leave one answer a key, of answers that fit into memory; those whose key comes more than once come last.

    Equal documents collapse into one. Of different ones the first in canonical order is kept and the others
    are quarantined, so that the choice does not depend on the order of the answer. A key of which any document
    is quarantined keeps its last state: its other documents are quarantined too.
    """
    held = list(answers)
    repeated: dict[Key, list[Answer]] = {key: [] for key in repeated_keys(answer.key for answer in held)}
    for answer in held:
        group = repeated.get(answer.key)
        if group is None:
            yield answer
        else:
            group.append(answer)
    for group in repeated.values():
        yield from _settle(group, entity)


def repeated_keys(keys: Iterable[Key]) -> dict[Key, None]:
    """The keys that come more than once, in the order in which they do so for the first time."""
    seen: set[Key] = set()
    repeated: dict[Key, None] = {}
    for key in keys:
        if None not in key:
            if key in seen:
                repeated[key] = None
            seen.add(key)
    return repeated


def _settle(group: list[Answer], entity: Entity) -> Iterator[Answer]:
    distinct: dict[bytes | None, Answer] = {}
    for answer in sorted(group, key=lambda answer: answer.document or b""):
        if answer.outcome is Outcome.DATA:
            distinct.setdefault(answer.digest, answer)
    refused = [answer for answer in group if answer.outcome is not Outcome.DATA]
    ranked = sorted(
        distinct.values(),
        key=lambda answer: canonical(exact_json.loads(answer.document or b"null"), entity.ordered),
    )
    yield from refused
    if not refused and ranked:
        yield ranked.pop(0)
    yield from map(as_duplicate, ranked)


def as_duplicate(answer: Answer) -> Answer:
    """A good document in quarantine, because another one of its key is kept."""
    return replace(
        answer,
        outcome=Outcome.QUARANTINED,
        digest=None,
        rule=DUPLICATE_DOCUMENT,
        reason="The answer holds several different documents with this key.",
    )


def without_sensitive_keys(value: JsonValue) -> JsonValue:
    """The value without `SENSITIVE_KEYS` at any depth and in any letter case; what holds none is not copied."""
    if isinstance(value, dict):
        kept = value
        for key, member in value.items():
            if _IS_SENSITIVE[key]:
                kept = type(value)(value) if kept is value else kept
                del kept[key]
            elif isinstance(member, _CONTAINERS) and (cleaned := without_sensitive_keys(member)) is not member:
                kept = type(value)(value) if kept is value else kept
                kept[key] = cleaned
        return kept
    if isinstance(value, list):
        items = [without_sensitive_keys(item) if isinstance(item, _CONTAINERS) else item for item in value]
        return items if any(map(is_not, items, value)) else value
    return value


class _SensitiveNames(dict[str, bool]):
    """Whether a member is removed, by its name. Sources use few names, again and again; only so many are remembered."""

    def __missing__(self, name: str) -> bool:
        if len(self) >= 10_000:
            self.clear()
        self[name] = is_sensitive = name.lower() in SENSITIVE_KEYS
        return is_sensitive


_IS_SENSITIVE: Final = _SensitiveNames()
_CONTAINERS: Final = (dict, list)


def key_of(entity: Entity, document: JsonValue) -> Key:
    """The key of a document; a part that is missing or of the wrong form is None."""
    return tuple(_key_part(column, document) for column in entity.key)


def value_at(document: JsonValue, path: tuple[str, ...]) -> JsonValue:
    """The value at a path of member names, or None if there is none."""
    for name in path:
        if not isinstance(document, dict):
            return None
        document = document.get(name)
    return document


def _key_part(column: Column, document: JsonValue) -> KeyValue:
    value = value_at(document, column.path)
    if column.type == "integer":
        if isinstance(value, str) and value.strip().isdecimal():
            value = int(value)
        fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31
        return value if fits else None
    if not isinstance(value, str) or not value.strip() or exact_json.defects(value):
        return None
    text = value.strip()
    if column.pattern is not None and not re.fullmatch(column.pattern, text, re.ASCII):
        return None
    return text if column.max_length is None or len(text) <= column.max_length else None


def _broken_rule(entity: Entity, document: JsonValue, key: Key, text: bytes | None) -> tuple[str, str] | None:
    if not isinstance(document, dict):
        return "not_an_object", "The document is not a JSON object."
    if text is None and (defect := exact_json.defects(document)):
        return defect, f"The document holds what the lake cannot keep: {defect.replace('_', ' ')}."
    for column, part in zip(entity.key, key, strict=True):
        if part is None:
            return (
                "unusable_key",
                f"Key column {column.name} is missing, empty, too long or of the wrong form.",
            )
    for column in entity.columns:
        value = value_at(document, column.path)
        if column.type != "varchar" or value is None:
            continue
        if not isinstance(value, str):
            return "wrong_type", f"Column {column.name} is no text."
        if column.max_length is not None and len(value.rstrip(" ")) > column.max_length:
            return "too_long", f"Column {column.name} is longer than {column.max_length} characters."
    return None
