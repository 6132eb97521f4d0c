"""`spanledger keys` and `spanledger audit`, as processes."""

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any


def test_a_key_is_shown_once_listed_without_its_secret_and_revoked(spanledger: Any) -> None:
    made = spanledger("keys", "create", "--name", "grafana", "--scope", "read", "--expires", "90d")
    assert (made.returncode, made.stderr) == (0, "")
    token = re.search(r"sl_([0-9a-f]{12})_([0-9a-f]{64})", made.stdout)
    assert token is not None
    listed = spanledger("keys", "list")
    assert token[1] in listed.stdout
    assert "works" in listed.stdout
    assert token[2] not in listed.stdout
    assert spanledger("keys", "revoke", token[1]).stdout == f"Revoked {token[1]}.\n"
    (key,) = json.loads(spanledger("keys", "list", "--json").stdout)["keys"]
    assert (key["id"], key["name"], key["scopes"], key["state"]) == (token[1], "grafana", ["read"], "revoked")
    assert "digest" not in key


def test_the_json_of_a_new_key_holds_it(spanledger: Any) -> None:
    made = json.loads(
        spanledger("keys", "create", "--name", "x", "--scope", "ingest", "--scope", "read", "--json").stdout
    )
    assert made["key"].startswith(f"sl_{made['id']}_")
    assert made["scopes"] == ["ingest", "read"]


def test_a_key_from_a_variable_is_taken_again_and_again_and_never_printed(spanledger: Any) -> None:
    token = "sl_" + "ab" * 6 + "_" + "cd" * 32
    command = ("keys", "create", "--name", "compose", "--scope", "ingest", "--token-variable", "THE_KEY")
    for _ in range(2):
        made = spanledger(*command, THE_KEY=token)
        assert (made.returncode, made.stdout) == (0, "The key abababababab of THE_KEY works.\n")
    assert len(json.loads(spanledger("keys", "list", "--json").stdout)["keys"]) == 1
    assert spanledger(*command).returncode == 2


def test_wrong_commands_say_what_to_do(spanledger: Any) -> None:
    cases = {
        ("create", "--name", "x"): "--scope ingest",
        ("create", "--scope", "read"): "--name",
        ("create", "--name", "x", "--scope", "read", "--expires", "2020-01-01"): "is past",
        ("revoke",): "spanledger keys revoke ID",
        ("revoke", "000000000000"): "spanledger keys list",
    }
    for arguments, hint in cases.items():
        result = spanledger("keys", *arguments)
        assert result.returncode in (1, 2)
        assert hint in result.stderr
        assert "Traceback" not in result.stderr


def test_the_audit_log_says_who_did_what_and_fails_when_it_was_changed(spanledger: Any, tmp_path: Path) -> None:
    spanledger("keys", "create", "--name", "one", "--scope", "read")
    spanledger("keys", "create", "--name", "two", "--scope", "read")
    log = json.loads(spanledger("audit", "--json").stdout)
    assert log["intact"]
    assert [entry["action"] for entry in log["entries"]] == ["create key", "create key"]
    assert all(entry["actor"].startswith("command line") for entry in log["entries"])
    assert spanledger("audit", "--expect", log["newest_digest"]).returncode == 0
    assert "cut off" in spanledger("audit", "--expect", "another").stderr
    with closing(sqlite3.connect(tmp_path / "spanledger.db")) as database:
        database.execute("UPDATE audit_log SET actor = 'nobody' WHERE number = 1")
        database.commit()
    changed = spanledger("audit")
    assert changed.returncode == 1
    assert "entry 1 is not what was written" in changed.stderr
