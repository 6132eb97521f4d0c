"""Keys: made once, kept as hashes, and gone when they are revoked."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from spanledger.exporter.audit import entries
from spanledger.exporter.errors import ConfigurationError
from spanledger.exporter.schema import api_keys
from spanledger.exporter.store import Store
from spanledger.query_api.keys import Keys, digest_of, holder, new_token


@pytest.fixture
def keys(store: Store) -> Keys:
    return Keys(store)


def known(keys: Keys) -> Any:
    return {key.id: key for key in keys.all()}


NOW = datetime.now(UTC)


def test_the_database_holds_no_part_of_a_secret(keys: Keys, store: Store) -> None:
    token = keys.create("collector", ["ingest"], actor="me")
    assert re.fullmatch(r"sl_[0-9a-f]{12}_[0-9a-f]{64}", token)
    _, id, secret = token.split("_")
    with store.reading() as connection:
        (row,) = connection.execute(select(api_keys))
        written = f"{row} {entries(connection)}"
    assert secret not in written
    assert (row.id, row.digest, row.scopes) == (id, digest_of(token), "ingest")


def test_a_key_is_held_by_whoever_has_its_whole_token(keys: Keys) -> None:
    token = keys.create("grafana", ["read"], actor="me")
    other = keys.create("another", ["read"], actor="me")
    held = holder(token, known(keys), NOW)
    assert held is not None
    assert held.name == "grafana"
    wrong = (token[:-1], token + "0", token[:-1] + ("0" if token[-1] != "0" else "1"), token.upper(), "", "sl_", "é")
    swapped = f"{token[:16]}{other[16:]}"
    assert [
        guess for guess in (*wrong, swapped, new_token(), f" {token}", f"{token}\n") if holder(guess, known(keys), NOW)
    ] == []


def test_a_revoked_key_and_an_expired_one_work_no_longer(keys: Keys) -> None:
    revoked = keys.create("one", ["read"], actor="me")
    short = keys.create("two", ["read"], actor="me", expires_at=NOW + timedelta(hours=1))
    assert holder(revoked, known(keys), NOW)
    assert holder(short, known(keys), NOW)
    assert keys.revoke(revoked.split("_")[1], actor="me")
    assert not keys.revoke(revoked.split("_")[1], actor="me")
    assert holder(revoked, known(keys), NOW) is None
    assert holder(short, known(keys), NOW + timedelta(hours=2)) is None


def test_admin_holds_every_scope_and_the_others_only_themselves(keys: Keys) -> None:
    keys.create("root", ["admin"], actor="me")
    keys.create("both", ["read", "ingest"], actor="me")
    allowed = {key.name: [s for s in ("ingest", "read", "delete", "admin") if key.allows(s)] for key in keys.all()}
    assert allowed == {"root": ["ingest", "read", "delete", "admin"], "both": ["ingest", "read"]}


def test_a_key_made_elsewhere_may_be_brought_along_again_and_again(keys: Keys) -> None:
    token = new_token()
    for _ in range(2):
        assert keys.create("compose", ["ingest"], actor="me", token=token) == token
    assert len(keys.all()) == 1
    with pytest.raises(ConfigurationError, match="another key of this id"):
        keys.create("compose", ["ingest"], actor="me", token=token[:16] + "0" * 64)


@pytest.mark.parametrize("name", ["", "a\nb", "a\x1b[31mb", "x" * 101, "\u2028"])
def test_a_name_that_cannot_be_shown_is_refused(keys: Keys, name: str) -> None:
    with pytest.raises(ConfigurationError, match="printable"):
        keys.create(name, ["read"], actor="me")


@pytest.mark.parametrize("token", ["password", "sl_abc_def", "sl_" + "0" * 12 + "_" + "0" * 63])
def test_a_weak_token_is_refused(keys: Keys, token: str) -> None:
    with pytest.raises(ConfigurationError, match="64 random"):
        keys.create("weak", ["read"], actor="me", token=token)


def test_what_happens_to_keys_is_in_the_audit_log(keys: Keys, store: Store) -> None:
    id = keys.create("one", ["read", "delete"], actor="me").split("_")[1]
    keys.revoke(id, actor="you")
    keys.revoke(id, actor="you")
    with store.reading() as connection:
        log = entries(connection)
    assert [entry[2:5] for entry in log] == [("me", "create key", f"{id} delete read"), ("you", "revoke key", id)]
