r"""NDJSON as it comes: one line of bytes at a time, whatever pieces the network made of the body.

Lines end with `\n` and nothing else: U+2028, U+2029 and U+0085 are ordinary characters inside JSON strings, at which
the HTTP library's own line reader would cut. A line that cannot be text condemns itself, not those around it. What a
line says is for the client of the source.
"""

import codecs
from collections.abc import AsyncGenerator, AsyncIterable
from typing import Final, NamedTuple

LONGEST_LINE_BYTES: Final = 16 * 1024 * 1024
"""Bound of a line; a longer one is passed over (reference: client policy, "person batch")."""


class Line(NamedTuple):
    """One line of a body.

    Attributes:
        number: From 1, blank lines included.
        data: The line in UTF-8, without its end and without a byte order mark; empty if it has a defect.
        ended: Whether a line feed ended it. Where none did, the body may have been cut inside the line.
        rule: `line_too_long` or `line_not_utf8` if its bytes cannot be used, otherwise None.
        reason: The same as a sentence.
    """

    number: int
    data: bytes
    ended: bool = True
    rule: str | None = None
    reason: str = ""


async def read_lines(pieces: AsyncIterable[bytes], *, longest: int = LONGEST_LINE_BYTES) -> AsyncGenerator[Line]:
    """Take a body apart into lines, holding no more than one of them and one piece.

    Args:
        pieces: The decoded body.
        longest: Most bytes of a line that are held.
    """
    number = 1
    held: list[bytes] = []
    size = 0
    async for piece in pieces:
        *ends, rest = piece.split(b"\n")
        for end in ends:
            size += len(end)
            if size <= longest:
                held.append(end)
            yield _line(number, held, size, longest)
            number, size = number + 1, 0
            held.clear()
        size += len(rest)
        if size <= longest:
            held.append(rest)
    if size:
        yield _line(number, held, size, longest)._replace(ended=False)


def _line(number: int, held: list[bytes], size: int, longest: int) -> Line:
    if size > longest:
        reason = f"The line has {size} bytes, more than the {longest} that are held."
        return Line(number, b"", rule="line_too_long", reason=reason)
    data = b"".join(held)
    if number == 1:
        data = data.removeprefix(codecs.BOM_UTF8)
    data = data.removesuffix(b"\r")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        reason = f"The line is not UTF-8: byte {error.start} of {len(data)} is not valid."
        return Line(number, b"", rule="line_not_utf8", reason=reason)
    return Line(number, data)
