"""`spanledger explain`: how the cost of a call came about, digit by digit."""

import argparse
import math
from collections.abc import Sequence
from contextlib import closing
from typing import Any, Final

from spanledger.exporter.errors import BadParameter
from spanledger.exporter.explain import CostExplanation

from ..answers import as_json, dollars
from ..endpoints.llm_calls import explained
from ..problems import NotFound
from ..queries.calls import NAMES, called
from ..terminal import harmless
from .options import Command, Options, open_ledger, settings_from, shown

EXAMPLES: Final = """\
  spanledger explain 0b6f2c8e-5d0e-5c1c-9d57-3a4f6f0c2f11
  spanledger explain 4bf92f3577b34da6a3ce929d0e0e4736 --json      # all calls of a trace
"""


def _add_options(options: Options) -> None:
    options.parser.add_argument("id", metavar="ID", help=NAMES)
    options.switch("--json", "print a list of what GET /execution-logs/llm-calls/{id} calls cost_explanation")


def _explain(arguments: argparse.Namespace) -> int:
    try:
        query = called(arguments.id)
    except ValueError:
        raise BadParameter("id", f"{arguments.id!r} is not {NAMES}.") from None
    with closing(open_ledger(arguments)) as ledger, ledger.store.reading() as connection:
        calls = explained(connection, ledger.prices, connection.execute(query).all())
    if not calls:
        database = shown(settings_from(arguments).database_url)
        raise NotFound(f"There is no call, and no span or trace with calls, of the id {arguments.id} in {database}.")
    if arguments.json:
        print(as_json([call.as_dict() for call in calls]))
    else:
        print("\n\n".join(str(_harmless(call)) for call in calls))
        if len(calls) > 1:
            print(f"\n{_sum(calls)}")
    return 0


def _harmless(call: CostExplanation) -> CostExplanation:
    """*call* with names, and usage, that cannot pass for lines of ours."""
    texts: dict[str, Any] = {field: harmless(text) for field, text in call._asdict().items() if isinstance(text, str)}
    usage = {harmless(str(name)): harmless(str(value)) for name, value in call.usage_as_reported.items()}
    twin = call.duplicate_of
    twin = twin and twin._replace(name=harmless(twin.name) if twin.name else None)
    return call._replace(**texts, usage_as_reported=usage, duplicate_of=twin)


def _sum(calls: Sequence[CostExplanation]) -> str:
    """What the rows that count add up to, as every sum in the API does."""
    counted = [call for call in calls if call.counted]
    known = [call.stored_total for call in counted if call.stored_total is not None]
    unknown = f", {len(counted) - len(known)} of them unknown" if len(known) < len(counted) else ""
    return f"Sum of the {len(counted)} of {len(calls)} calls that count{unknown}: ${dollars(math.fsum(known))}"


COMMAND: Final = Command(
    name="explain",
    summary="show how the cost of a call came about: usage, buckets, rates, sum",
    examples=EXAMPLES,
    settings=("database_url", "prices"),
    add_options=_add_options,
    perform=_explain,
)
