"""`spanledger keys`: make, list and revoke the keys that the service asks for."""

import argparse
import os
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Final

from rich.console import Console

from spanledger.exporter.errors import BadParameter, ConfigurationError
from spanledger.exporter.limits import age
from spanledger.exporter.store import Store

from ..answers import as_json
from ..keys import SCOPES, Key, Keys, Scope
from ..problems import NotFound
from ..tables import UNKNOWN, titled
from .options import Command, Options, operator, settings_from
from .purge import moment

EXAMPLES: Final = """\
  spanledger keys create --name collector --scope ingest
  spanledger keys create --name grafana --scope read --expires 90d
  spanledger keys list
  spanledger keys revoke 0a1b2c3d4e5f
"""


def _add_options(options: Options) -> None:
    options.parser.add_argument("deed", metavar="DEED", choices=DEEDS, help="create, list or revoke")
    options.parser.add_argument("id", metavar="ID", nargs="?", help="the key to revoke, as list shows it")
    options.value("--name", "who will hold the key, for you to know later")
    options.value(
        "--scope",
        "what the key is for: ingest spans, read rows and content, delete, or admin (all of it); repeatable",
        repeatable=True,
        choices=SCOPES,
    )
    options.value("--expires", "when it ends: 12h, 90d, 8w from now, or a date", type=expiry, metavar="WHEN")
    options.value(
        "--token-variable",
        "take the key from this environment variable, where secrets are made elsewhere; repeating it is harmless",
        metavar="VARIABLE",
    )
    options.switch("--json", "print JSON")


def expiry(text: str) -> datetime:
    """``90d`` from now (also m, h, w), or a date or date-time that is still to come."""
    if (time := age(text)) is not None:
        return datetime.now(UTC) + time
    when = moment(text)
    if when <= datetime.now(UTC):
        raise argparse.ArgumentTypeError(f"{text!r} is past")
    return when


def _create(keys: Keys, arguments: argparse.Namespace) -> None:
    token = None
    if arguments.token_variable and not (token := os.environ.get(arguments.token_variable)):
        raise ConfigurationError(f"The variable {arguments.token_variable} holds no key.")
    scopes: Sequence[Scope] = arguments.scope or []
    made = keys.create(arguments.name or "", scopes, actor=operator(), expires_at=arguments.expires, token=token)
    id = made.split("_")[1]
    if arguments.json:
        print(as_json({"id": id, "name": arguments.name, "scopes": scopes} | ({} if token else {"key": made})))
    elif token:
        print(f"The key {id} of {arguments.token_variable} works.")
    else:
        print(made)
        print("\nKeep it: it is shown this once. It goes into a header of every request, for example")
        print(f"  OTEL_EXPORTER_OTLP_HEADERS='Authorization=Bearer%20{made[:7]}…'")
        print(f"  curl -H 'Authorization: Bearer {made[:7]}…' http://127.0.0.1:8318/execution-logs/executions")


def _list(keys: Keys, arguments: argparse.Namespace) -> None:
    found = keys.all()
    if arguments.json:
        print(as_json({"keys": [_shown(key) for key in found]}))
    elif not found:
        print("There are no keys. Whoever reaches the service may do everything.")
    else:
        table = titled(
            "API keys", "name", "scopes", "state", id="left", created="left", **{"last used": "left"}, expires="left"
        )
        for key in found:
            moments = (key.created_at, key.last_used_at, key.expires_at)
            shown = (f"{moment:%Y-%m-%d}" if moment else UNKNOWN for moment in moments)
            table.add_row(key.name, key.scopes, key.state, key.id, *shown)
        Console(highlight=False).print(table)


def _revoke(keys: Keys, arguments: argparse.Namespace) -> None:
    if not arguments.id:
        raise BadParameter("id", "Say which key: spanledger keys revoke ID; spanledger keys list shows them.")
    if not keys.revoke(arguments.id, actor=operator()):
        raise NotFound(f"There is no key {arguments.id!r} that works; spanledger keys list shows the keys there are.")
    print(as_json({"revoked": arguments.id}) if arguments.json else f"Revoked {arguments.id}.")


DEEDS: Final = {"create": _create, "list": _list, "revoke": _revoke}


def _shown(key: Key) -> dict[str, object]:
    """*key* without its digest."""
    shown = key._asdict() | {"scopes": key.scopes.split(), "state": key.state}
    del shown["digest"]
    return shown


def _keys(arguments: argparse.Namespace) -> int:
    with closing(Store.open(settings_from(arguments).database_url)) as store:
        DEEDS[arguments.deed](Keys(store), arguments)
    return 0


COMMAND: Final = Command(
    name="keys",
    summary="make, list and revoke the API keys that the service asks for",
    examples=EXAMPLES,
    settings=("database_url",),
    add_options=_add_options,
    perform=_keys,
)
