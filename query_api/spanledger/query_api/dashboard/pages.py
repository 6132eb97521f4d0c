"""Pages from templates: everything a span brought along is escaped, and nothing is fetched from anywhere."""

import base64
import hashlib
from datetime import datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

from ..middleware import SECURITY_HEADERS


class Pages:
    """The templates, compiled once. One inline style sheet, named by its hash in the page's content security policy."""

    def __init__(self) -> None:
        self._templates = Environment(
            loader=PackageLoader("spanledger.query_api.dashboard"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(usd=usd, number=number, percent=percent, clock=clock, duration=duration)
        self._style = self._templates.get_template("style.css").render()
        digest = base64.b64encode(hashlib.sha256(self._style.encode()).digest()).decode()
        self._policy = SECURITY_HEADERS["Content-Security-Policy"] + f"; style-src 'sha256-{digest}'"

    def render(self, template: str, **values: Any) -> HTMLResponse:
        html = self._templates.get_template(template).render(style=self._style, **values)
        return HTMLResponse(html, headers={"Content-Security-Policy": self._policy})


def usd(amount: float | None) -> str:
    """Cents when there are dollars, four digits that matter when there are not."""
    if amount is None:
        return "–"
    return f"${amount:,.2f}" if amount >= 1 or amount == 0 else f"${float(f'{amount:.4g}'):.10f}".rstrip("0")


def number(count: float | None) -> str:
    return "–" if count is None else f"{count:,}"


def percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.4g} %"


def clock(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def duration(milliseconds: float | None) -> str:
    if milliseconds is None:
        return "–"
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.1f} min"
