"""`Keys`: who may ask the service for what. A key's secret is known to its holder alone.

A key is ``sl_<id>_<secret>``: 48 random bits that name it, 256 that prove it. The table keeps the SHA-256 of the whole.
A slow hash would add nothing: nobody guesses 256 random bits, from whatever hash.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple, get_args

from sqlalchemy import Connection, insert, select, update

from spanledger.exporter import audit
from spanledger.exporter.errors import ConfigurationError
from spanledger.exporter.schema import Now, api_keys
from spanledger.exporter.store import Store

Scope = Literal["ingest", "read", "delete", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
ADMIN: Final = "admin"
"""The scope that holds all others."""
TOKEN: Final = re.compile(r"sl_([0-9a-f]{12})_[0-9a-f]{64}", re.ASCII)
MAX_NAME: Final = 100


class Key(NamedTuple):
    """A row of ``api_keys``."""

    id: str
    name: str
    digest: str
    scopes: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None

    def allows(self, scope: Scope) -> bool:
        return not {scope, ADMIN}.isdisjoint(self.scopes.split())

    def works(self, now: datetime) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    @property
    def state(self) -> str:
        if self.revoked_at:
            return "revoked"
        return "works" if self.works(datetime.now(UTC)) else "expired"


def digest_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def new_token() -> str:
    return f"sl_{secrets.token_hex(6)}_{secrets.token_hex(32)}"


def holder(token: str, keys: dict[str, Key], now: datetime) -> Key | None:
    """The key that *token* proves to hold, if it works. Takes as long for a wrong secret as for a right one."""
    shape = TOKEN.fullmatch(token)
    key = keys.get(shape[1]) if shape else None
    proven = hmac.compare_digest(digest_of(token), key.digest if key else digest_of(""))
    return key if key is not None and proven and key.works(now) else None


class Keys:
    """The keys of one database. Every change is written to the audit log under the name of its *actor*."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(
        self,
        name: str,
        scopes: Sequence[Scope],
        *,
        actor: str,
        expires_at: datetime | None = None,
        token: str | None = None,
    ) -> str:
        """Make a key and return its token, which nobody can find out afterwards.

        *token* is one that exists already, where secrets are made elsewhere: that it is there already changes nothing.
        Raises `ConfigurationError` for a name that cannot be shown, and for a token that is none or somebody else's.
        """
        if not name or len(name) > MAX_NAME or not name.isprintable():
            raise ConfigurationError(f"A key's name has 1 to {MAX_NAME} printable characters; give --name.")
        if not scopes:
            raise ConfigurationError(f"Say what the key is for: --scope {', --scope '.join(SCOPES)}.")
        given, token = token, token or new_token()
        shape = TOKEN.fullmatch(token)
        if not shape:
            raise ConfigurationError("A key is sl_, 12 hexadecimal digits, _, and 64 random hexadecimal digits.")
        row = {"id": shape[1], "name": name, "digest": digest_of(token), "scopes": " ".join(sorted({*scopes}))}
        with self._store.reading() as connection:
            standing = connection.scalar(select(api_keys.c.digest).where(api_keys.c.id == shape[1]))
        if given and standing == row["digest"]:
            return token
        if standing is not None:
            raise ConfigurationError("There is another key of this id: make a new one.")

        def write(connection: Connection) -> None:
            connection.execute(insert(api_keys).values(**row, expires_at=expires_at))
            object = f"{row['id']} {row['scopes']}"
            audit.append(self._store.backend, connection, actor=actor, action="create key", object=object)

        self._store.backend.transact(write)
        return token

    def revoke(self, id: str, *, actor: str) -> bool:
        """Let a key work no longer; False if there is none of this id that was not revoked before."""

        def write(connection: Connection) -> bool:
            valid = (api_keys.c.id == id) & api_keys.c.revoked_at.is_(None)
            if not connection.execute(update(api_keys).where(valid).values(revoked_at=Now())).rowcount:
                return False
            audit.append(self._store.backend, connection, actor=actor, action="revoke key", object=id)
            return True

        return self._store.backend.transact(write)

    def used(self, id: str) -> None:
        """Write down that a key is used now."""
        statement = update(api_keys).where(api_keys.c.id == id).values(last_used_at=Now())
        self._store.backend.transact(lambda connection: connection.execute(statement))

    def all(self) -> list[Key]:
        """Every key there ever was, oldest first."""
        with self._store.reading() as connection:
            found = connection.execute(select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id))
            return [Key(*row) for row in found]
