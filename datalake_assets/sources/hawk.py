"""Hawk: each request is signed anew, and each answer is believed only if it is signed for that very request.

Written from the protocol (https://github.com/mozilla/hawk/blob/main/API.md), because a library that compares the
request's time with the present refuses sound answers that took longer than its skew. An answer's signature covers
the nonce of the request that it answers, so it can be neither old nor meant for another; the deadline of the attempt
bounds its age. How requests are sent and repeated belongs to `http.py`, which asks for a signature for every attempt.
"""

import base64
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from datalake_assets.sources.errors import PermanentSourceError

_PORTS: Final = {"http": 80, "https": 443}
_LONGEST_HEADER: Final = 4096
_ATTRIBUTE: Final = re.compile(r'(\w+)="([^"\\]*)"\s*(?:,\s*|$)')
_SKEW_S: Final = 60
"""How far clocks may be apart where nobody has set it otherwise."""


class Hawk:
    """One client of one source, by its id and key.

    Args:
        client_id: Names the key; sent in the clear.
        key: Shared with the source; never sent.
    """

    def __init__(self, client_id: str, key: SecretStr) -> None:
        if not re.fullmatch(r"[\x20-\x7e]+", client_id) or '"' in client_id or "\\" in client_id:
            raise PermanentSourceError(
                "The id of a Hawk client holds a character that its header cannot carry.", todo="Set it again."
            )
        self._client_id = client_id
        self._key = key

    def __repr__(self) -> str:
        return "Hawk(***)"

    def sign(self, method: str, url: str, content: bytes = b"", content_type: str = "") -> "HawkSignature":
        """Sign one attempt of one request, with a time and a nonce of its own.

        Args:
            method: `GET` or `POST`.
            url: The address byte for byte as it is sent.
            content: The body.
            content_type: Its type as it is sent.
        """
        return HawkSignature(
            self._client_id,
            self._key,
            method,
            url,
            payload_hash(content, content_type),
            timestamp=int(time.time()),
            nonce=secrets.token_urlsafe(9),
        )

    def why_refused(self, headers: Mapping[str, str]) -> str:
        """What can be wrong if the source refuses a logon; it never tells which.

        Args:
            headers: The answer's headers, names in lower case.
        """
        apart = _seconds_apart(headers.get("date", ""))
        clock = "this machine's clock is wrong"
        if apart is not None and apart > _SKEW_S / 2:
            clock = f"this machine's clock is wrong ({apart:.0f} seconds apart from the source's)"
        return f"The id or the key is wrong, or {clock}, or this machine is not on the source's allow-list."


class HawkSignature:
    """The signature of one attempt, and the check of its answer.

    Args:
        client_id: Names the key.
        key: Shared with the source.
        method: `GET` or `POST`.
        url: The address byte for byte as it is sent.
        content_hash: Hash of body and type.
        timestamp: Seconds since 1970.
        nonce: Never used twice.
    """

    def __init__(
        self,
        client_id: str,
        key: SecretStr,
        method: str,
        url: str,
        content_hash: str,
        *,
        timestamp: int,
        nonce: str,
    ) -> None:
        parts = urlsplit(url)
        resource = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        port = parts.port or _PORTS[parts.scheme]
        self._key = key
        self._signed = (str(timestamp), nonce, method.upper(), resource, (parts.hostname or "").lower(), str(port))
        mac = self._mac("header", content_hash, "")
        self._header = f'Hawk id="{client_id}", ts="{timestamp}", nonce="{nonce}", hash="{content_hash}", mac="{mac}"'

    def __repr__(self) -> str:
        return "HawkSignature(***)"

    @property
    def headers(self) -> dict[str, str]:
        """What the request carries."""
        return {"Authorization": self._header}

    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        """Believe an answer, or refuse it.

        Args:
            headers: The answer's headers, names in lower case.
            body: All of its body, content encoding undone, before anybody parses it.

        Raises:
            PermanentSourceError: It is not signed, or not with this key for this request and this body.
        """
        given = _attributes(headers.get("server-authorization", ""))
        if given is None:
            raise _untrusted("is not signed")
        if not hmac.compare_digest(
            self._mac("response", given.get("hash", ""), given.get("ext", "")), given.get("mac", "")
        ):
            raise _untrusted("is signed with another key or for another request")
        if not hmac.compare_digest(payload_hash(body, headers.get("content-type", "")), given.get("hash", "")):
            raise _untrusted("is signed, but its body is not the one that was signed")

    def _mac(self, kind: str, content_hash: str, ext: str) -> str:
        text = "\n".join((f"hawk.1.{kind}", *self._signed, content_hash, ext, ""))
        digest = hmac.new(self._key.get_secret_value().encode(), text.encode(), hashlib.sha256).digest()
        return base64.b64encode(digest).decode()


def payload_hash(content: bytes, content_type: str) -> str:
    """The hash by which a signature covers a body."""
    kind = content_type.partition(";")[0].strip().lower()
    found = hashlib.sha256(f"hawk.1.payload\n{kind}\n".encode())
    found.update(content)
    found.update(b"\n")
    return base64.b64encode(found.digest()).decode()


def _attributes(header: str) -> dict[str, str] | None:
    """The attributes of a header, all of them ASCII; None if it is no Hawk header."""
    scheme, _, text = header.partition(" ")
    if scheme.lower() != "hawk" or len(header) > _LONGEST_HEADER or not header.isascii():
        return None
    pairs = _ATTRIBUTE.findall(text)
    if _ATTRIBUTE.sub("", text).strip() or len({name for name, _ in pairs}) != len(pairs):
        return None
    return dict(pairs)


def _untrusted(what: str) -> PermanentSourceError:
    return PermanentSourceError(
        f"The answer {what}, so nothing of it is used.",
        todo="See whether something between here and the source changes answers; report it to the source's operator.",
        status=200,
    )


def _seconds_apart(date_header: str) -> float | None:
    try:
        return abs(parsedate_to_datetime(date_header).timestamp() - time.time())
    except (ValueError, TypeError):
        return None
