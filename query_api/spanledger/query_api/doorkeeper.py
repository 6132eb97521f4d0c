"""`Doorkeeper`: decides, by the keys of a database, who is let in; for HTTP and gRPC alike."""

import base64
import binascii
import ipaddress
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from spanledger.exporter.errors import StoreError

from .keys import Key, Keys, Scope, holder
from .problems import Denied

FRESH_SECONDS: Final = 1.0
"""How long the keys as last read are believed: a revoked one works no longer than that."""
USE_SECONDS: Final = 60
"""How exact ``last_used_at`` is."""
FAILURES: Final = 10
"""Wrong keys from one address within a minute; after that it is told to wait, and only a right key is heard."""
FAILURE_SECONDS: Final = 60.0
MOST_ADDRESSES: Final = 10_000
CHALLENGE: Final = 'Bearer realm="spanledger"'


class Failures:
    """How often each address has come with a wrong key in the last minute. Thread-safe, and bounded."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def add(self, address: str) -> float:
        """Count one more, and return the seconds until there may be another: 0 when there may be one now."""
        now, sender = self._clock(), _sender(address)
        with self._lock:
            times = self._times.setdefault(sender, deque())
            self._times.move_to_end(sender)
            while times and times[0] <= now - FAILURE_SECONDS:
                times.popleft()
            if len(times) >= FAILURES:
                return times[0] + FAILURE_SECONDS - now
            times.append(now)
            if len(self._times) > MOST_ADDRESSES:
                self._times.popitem(last=False)
            return 0.0


class Doorkeeper:
    """Decides by the keys of a database who is let in. Thread-safe; for HTTP and gRPC alike."""

    def __init__(self, keys: Keys, *, insecure: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        """*insecure*: without any key, whoever comes is let in, from wherever."""
        self._keys = keys
        self._insecure = insecure
        self._clock = clock
        self._failures = Failures(clock)
        self._reading = threading.Lock()
        self._known: dict[str, Key] | None = None
        self._read_at = 0.0
        self._used: dict[str, float] = {}

    @property
    def is_up_to_date(self) -> bool:
        """Whether `admit` can answer at once."""
        return self._known is not None and self._clock() - self._read_at < FRESH_SECONDS

    def look(self) -> None:
        """Read the keys anew. While the database is away those last read stand; if there are none, its error leaves."""
        with self._reading:
            if self.is_up_to_date:  # by another thread that waited less
                return
            try:
                self._known = {key.id: key for key in self._keys.all()}
            except StoreError:
                if self._known is None:
                    raise
            self._read_at = self._clock()

    def admit(self, credentials: Sequence[str], address: str, scope: Scope | None, *, local: bool) -> Key | None:
        """The key that lets a request with these Authorization headers do what *scope* is for, after `look`.

        None: nobody needs one here. *local*: the request came in by an address that only this machine reaches. Raises
        `Denied`.
        """
        known = self._known or {}
        if not known:
            if local or self._insecure:
                return None
            raise Denied(
                401, "There are no keys yet: make one with `spanledger keys create`.", www_authenticate=CHALLENGE
            )
        if len(credentials) > 1:
            raise Denied(400, "There are several Authorization headers; send one.")
        key = holder(_token(credentials[0]), known, datetime.now(UTC)) if credentials else None
        if key is None:
            if credentials and (wait := self._failures.add(address)):
                raise Denied(429, "Too many wrong keys; wait.", retry_after=str(int(wait) + 1))
            what = "This key does not work here" if credentials else "A key is needed"
            raise Denied(401, f"{what}: send `Authorization: Bearer sl_…`.", www_authenticate=CHALLENGE)
        if scope is not None and not key.allows(scope):
            challenge = f'{CHALLENGE}, error="insufficient_scope", scope="{scope}"'
            raise Denied(
                403, f"The key {key.id} is not for this: it lacks the scope {scope}.", www_authenticate=challenge
            )
        return key

    def note_use(self, key: Key) -> None:
        """Write down that *key* is used. That the database is busy with better things is no error."""
        self._used[key.id] = self._clock()
        with suppress(StoreError):
            self._keys.used(key.id)

    def is_noted(self, key: Key) -> bool:
        """Whether the use of *key* was written down within the last minute, by us or another server."""
        noted = key.last_used_at
        if noted is not None and datetime.now(UTC) - noted < timedelta(seconds=USE_SECONDS):
            return True
        return self._clock() - self._used.get(key.id, -USE_SECONDS) < USE_SECONDS


def _sender(address: str) -> str:
    """What *address* counts as: whoever has one IPv6 address has the other 2^64 of its network; IPv4 has two ways to be
    written; and what a proxy passes on may be anything, which is not ours to remember.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if parsed.version == 4:
        return str(parsed)
    return str(parsed.ipv4_mapped or ipaddress.ip_network((int(parsed), 64), strict=False))


def is_basic(header: str) -> bool:
    return header[:6].lower() == "basic "


def _token(header: str) -> str:
    """What an Authorization header gives as the key: the password of Basic, or the rest of Bearer."""
    scheme, _, rest = header.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        with suppress(binascii.Error, UnicodeDecodeError):
            return base64.b64decode(rest.strip(), validate=True).decode().partition(":")[2]
    return ""
