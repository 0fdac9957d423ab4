"""Takes a JSON text apart while it arrives: the raw bytes of one item at a time, never the whole.

Which containers are opened is told by the client of a source; everything else is handed over as the bytes it was
written in, so that one item that is no JSON costs one item. What the bytes of an item mean is for `exact_json.py`
to say, and what an item is for the client of that source.
"""

import codecs
import re
from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple, cast

from datalake_assets.exact_json import JsonError, loads

Path = tuple[str | None, ...]
"""Where a value stands: names of members, and None for any place of a list."""

Bracket = Literal[b"[", b"{"]


class CutJsonError(JsonError):
    """A JSON text ends before its value does."""


class Part(NamedTuple):
    """Something that was met in the text.

    Attributes:
        kind: `value`: a whole value; `opened` and `closed`: the ends of a container that is taken apart.
        path: Where it stands.
        raw: The bytes of a value, without blanks around them; None if there are more of them than are held. Of a
            container, the bracket met.
        size: How many bytes the value has.
    """

    kind: Literal["opened", "value", "closed"]
    path: Path
    raw: bytes | None = None
    size: int = 0


class JsonParts:
    """Takes one JSON text in UTF-8 apart, fed in pieces of any size.

    Only the structure of opened containers is checked. A value that is handed over whole was found by its brackets
    and quotes alone: it may still be no JSON.

    Args:
        opened: Containers to take apart, by path, and the bracket each must begin with; the one around an opened
            container must be opened too. A value at such a path that begins otherwise is handed over whole.
        longest: Most bytes of one value that are held; a longer one is passed over and handed over without them.
    """

    def __init__(self, opened: Mapping[Path, tuple[Bracket, ...]], *, longest: int) -> None:
        self._opened = opened
        self._held = _Held(longest)
        self._token: _Token | None = None
        self._is_name = False
        self._containers: list[tuple[bytes, Path]] = []
        self._path: Path = ()
        self._member = ""
        self._expected = _VALUE
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._position = 0
        self._last = b""

    def feed(self, data: bytes) -> Iterator[Part]:
        """Take in the next bytes and hand over what is complete.

        Raises:
            JsonError: This is no JSON, or no UTF-8; the message gives the position, never the content.
        """
        self._check_utf8(data)
        start = 0
        if self._position < len(codecs.BOM_UTF8):
            while start < len(data) and data[start] == codecs.BOM_UTF8[self._position + start]:
                start += 1
                if self._position + start == len(codecs.BOM_UTF8):
                    break
        while start < len(data):
            if self._token is None:
                start = _BLANKS.match(data, start).end()  # type: ignore[union-attr]
                if start == len(data):
                    break
                part, start = self._step(data, start)
                if part is not None:
                    yield part
            else:
                end = self._token.end(data, start)
                self._held.add(data[start : len(data) if end is None else end])
                if end is None:
                    break
                start = end
                part = self._finished()
                if part is not None:
                    yield part
        self._position += len(data)
        self._last = (data.rstrip() or self._last)[-1:]

    def finish(self) -> Iterator[Part]:
        """Hand over what only the end of the text completes.

        Raises:
            CutJsonError: The text ends before its value does.
            JsonError: It does so although it ends as such a text must: a quote or a bracket in it is wrong.
        """
        self._check_utf8(b"", final=True)
        if self._token is not None and self._token.ends_with_the_text:
            part = self._finished()
            if part is not None:
                yield part
        if self._expected == _NOTHING:
            return
        outermost = self._containers[0][0] if self._containers else b""
        if outermost and self._last == _CLOSING[outermost]:
            raise JsonError(
                f"The text is not JSON: it ends with {self._last.decode()}, but a value in it never does "
                f"({self._position} bytes)."
            )
        raise CutJsonError(f"The text ends after {self._position} bytes, before its value does.")

    def _step(self, data: bytes, start: int) -> tuple[Part | None, int]:
        """Take one token of an opened container, or begin one that is held."""
        byte = data[start : start + 1]
        expected = self._expected
        if byte in b"]}" and expected in _MAY_CLOSE and byte == _CLOSING[self._containers[-1][0]]:
            _, path = self._containers.pop()
            self._after_value()
            return Part("closed", path, byte), start + 1
        if expected in (_COMMA, _COLON) and byte == (b"," if expected == _COMMA else b":"):
            in_object = self._containers[-1][0] == b"{"
            self._expected = _NAME if expected == _COMMA and in_object else _VALUE
            return None, start + 1
        if expected in (_NAME, _NAME_OR_END) and byte == b'"':
            self._begin(_Text(), is_name=True)
            return None, start
        if expected in (_VALUE, _VALUE_OR_END) and byte not in b",:]}":
            path = self._path_of_value()
            if byte in b"[{" and byte in self._opened.get(path, ()):
                self._containers.append((byte, path))
                self._expected = _VALUE_OR_END if byte == b"[" else _NAME_OR_END
                return Part("opened", path, byte), start + 1
            self._path = path
            self._begin(_Text() if byte == b'"' else _Nest() if byte in b"[{" else _Word(), is_name=False)
            return None, start
        raise JsonError(f"The text is not JSON: {expected} is missing at byte {self._position + start}.")

    def _begin(self, token: "_Token", *, is_name: bool) -> None:
        self._token, self._is_name = token, is_name

    def _path_of_value(self) -> Path:
        if not self._containers:
            return ()
        bracket, path = self._containers[-1]
        return (*path, None) if bracket == b"[" else (*path, self._member)

    def _finished(self) -> Part | None:
        raw, size = self._held.take()
        self._token = None
        if not self._is_name:
            self._after_value()
            return Part("value", self._path, raw, size)
        name = None if raw is None else loads(raw)
        if name is None:
            raise JsonError(f"The name of a member is longer than the {self._held.most} bytes that are held.")
        self._member = cast(str, name)
        self._expected = _COLON
        return None

    def _after_value(self) -> None:
        self._expected = _COMMA if self._containers else _NOTHING

    def _check_utf8(self, data: bytes, *, final: bool = False) -> None:
        # Almost every piece is ASCII; what an earlier piece left unfinished is no ASCII either.
        if data.isascii() and data and not self._utf8.getstate()[0]:
            return
        try:
            self._utf8.decode(data, final)
        except UnicodeDecodeError as error:
            if final:
                raise CutJsonError(f"The text ends after {self._position} bytes, inside a character.") from None
            position = self._position + error.start
            raise JsonError(f"The text is not UTF-8: byte {position} or one close before it is not valid.") from None


class _Held:
    """The bytes of a value that has not ended, up to a bound."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self.most:
            self._pieces.clear()
        else:
            self._pieces.append(data)

    def take(self) -> tuple[bytes | None, int]:
        raw = b"".join(self._pieces) if self._size <= self.most else None
        size, self._size = self._size, 0
        self._pieces.clear()
        return raw, size


class _Text:
    """A string, from its first quote on."""

    ends_with_the_text = False

    def __init__(self) -> None:
        self._is_begun = False
        self._is_escaped = False

    def end(self, data: bytes, start: int) -> int | None:
        if not self._is_begun:
            self._is_begun, start = True, start + 1
        if self._is_escaped and start < len(data):
            self._is_escaped, start = False, start + 1
        end = _TEXT.match(data, start).end()  # type: ignore[union-attr]
        if end == len(data):
            return None
        if data[end] == _QUOTE:
            return end + 1
        self._is_escaped = True  # a backslash is the last byte there is
        return None


class _Nest:
    """A list or an object with all that is in it, told by brackets alone."""

    ends_with_the_text = False

    def __init__(self) -> None:
        self._depth = 0
        self._text: _Text | None = None

    def end(self, data: bytes, start: int) -> int | None:
        while True:
            if self._text is not None:
                end = self._text.end(data, start)
                if end is None:
                    return None
                self._text, start = None, end
            start = _NO_BRACKET.match(data, start).end()  # type: ignore[union-attr]
            if start == len(data):
                return None
            byte = data[start]
            if byte == _QUOTE:  # a string that goes on in the next piece
                self._text = _Text()
                continue
            self._depth += 1 if byte in _OPENING else -1
            start += 1
            if self._depth == 0:
                return start


class _Word:
    """A number, a constant, or whatever stands in the place of one."""

    ends_with_the_text = True

    def end(self, data: bytes, start: int) -> int | None:
        end = _WORD.match(data, start).end()  # type: ignore[union-attr]
        return end if end < len(data) else None


_Token = _Text | _Nest | _Word

_VALUE: Final = "a value"
_VALUE_OR_END: Final = "a value or the end of the list"
_NAME: Final = "the name of a member"
_NAME_OR_END: Final = "the name of a member or the end of the object"
_COLON: Final = "a colon"
_COMMA: Final = "a comma or a closing bracket"
_NOTHING: Final = "the end of the text"
_MAY_CLOSE: Final = frozenset({_VALUE_OR_END, _NAME_OR_END, _COMMA})

_QUOTE: Final = ord('"')
_OPENING: Final = b"[{"
_CLOSING: Final = {b"[": b"]", b"{": b"}"}

_BLANKS: Final = re.compile(rb"[ \t\r\n]*+")
_WORD: Final = re.compile(rb'[^ \t\r\n,:"\[\]{}]*+')
_TEXT: Final = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_NO_BRACKET: Final = re.compile(rb'(?:[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
