"""Passwords and keys stay out of what people read, and an unencrypted way to a database is said to be one."""

import logging
import traceback

import pytest

from spanledger.exporter.backends import backend_of
from spanledger.exporter.errors import SpanledgerError
from spanledger.exporter.secret_patterns import mask_secrets
from spanledger.exporter.settings import Settings
from spanledger.exporter.store import Store
from spanledger.query_api.cli import main
from spanledger.query_api.keys import new_token

PASSWORD = "hunter2-correct-horse"
URLS = (
    f"postgresql://ledger:{PASSWORD}@127.0.0.1:1/ledger",
    f"postgresql://ledger@127.0.0.1:1/ledger?password={PASSWORD}",
    f"postgresql://ledger:{PASSWORD}@127.0.0.1:1/ledger?nonsense=1",
    f"postgresql://ledger:{PASSWORD}@127.0.0.1:notaport/ledger",
    f"mysql://ledger:{PASSWORD}@127.0.0.1/ledger",
)


@pytest.mark.parametrize("url", URLS)
def test_a_password_is_in_no_error_traceback_log_or_repr(url, capsys, caplog):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(SpanledgerError) as caught:
        Store.open(url)
    for command in (["serve", "--port", "0"], ["summary"], ["keys", "list"], ["migrate"]):
        assert main([*command, "--database-url", url]) in (1, 2)
    said = "".join(traceback.format_exception(caught.value)) + "".join(capsys.readouterr()) + caplog.text
    assert "PostgreSQL" in said or "postgresql" in said
    assert PASSWORD not in said
    assert PASSWORD not in repr(Settings(url))


def test_a_key_in_a_prompt_is_masked_like_any_other_secret():
    token = new_token()
    assert token not in mask_secrets(f"use {token} please")


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("postgresql://db.example/x", True),
        ("postgresql://192.0.2.1/x?sslmode=prefer", True),
        ("postgresql:///x?host=db.example", True),
        ("postgresql://localhost,db.example/x", True),
        ("postgresql://db.example/x?sslmode=require", False),
        ("postgresql://db.example/x?sslmode=verify-full", False),
        ("postgresql://127.0.0.1/x", False),
        ("postgresql://[::1]/x", False),
        ("postgresql:///x?host=/var/run/postgresql", False),
        ("postgresql:///x", False),
    ],
)
def test_an_unencrypted_way_to_a_database_elsewhere_is_warned_of(url, warned, caplog, monkeypatch):
    for name in ("PGHOST", "PGHOSTADDR", "PGSSLMODE"):
        monkeypatch.delenv(name, raising=False)
    backend_of(url).close()
    assert ("not encrypted" in caplog.text) is warned
    caplog.clear()
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    backend_of(url.replace("?sslmode=prefer", "")).close()
    assert caplog.text == ""
