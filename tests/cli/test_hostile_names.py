"""Names from spans, shown on a terminal: they cannot paint it, clear it, or write into its title."""

import io

from rich.console import Console
from rich.text import Text

from spanledger.query_api.tables import titled

HOSTILE = "gpt\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202e4o"


def test_control_characters_of_a_name_are_shown_as_what_they_are_not() -> None:
    table = titled("Models", "model", "agent", calls="right")
    table.add_row(HOSTILE, Text(HOSTILE, style="bold"), "1")
    output = io.StringIO()
    Console(file=output, width=200, color_system=None).print(table)
    said = output.getvalue()
    assert not set(said) & set("\x1b\x07\r\x9b\u202e")
    assert said.count("gpt�]0;owned") == 2
