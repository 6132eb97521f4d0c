"""Bodies that do not end."""

import asyncio
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from spanledger.query_api.problems import BodyTooSlow, problem_of
from spanledger.query_api.receivers.body import read


def request(receive: Any) -> Request:
    return Request({"type": "http", "method": "POST", "path": "/v1/traces", "headers": []}, receive)


def test_a_body_that_drips_is_given_up_and_the_client_told_when() -> None:
    async def one_byte_then_silence() -> dict[str, Any]:
        if sent:
            await asyncio.Event().wait()
        sent.append(1)
        return {"type": "http.request", "body": b"x", "more_body": True}

    sent: list[int] = []
    with pytest.raises(BodyTooSlow) as refusal:
        asyncio.run(read(request(one_byte_then_silence), limit=10, seconds=0.01))
    assert "0.01 seconds" in str(refusal.value)
    assert problem_of(refusal.value).status == 408
    assert problem_of(refusal.value).headers == {"Connection": "close"}


def test_a_client_that_leaves_is_no_error_of_ours() -> None:
    async def gone() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    with pytest.raises(ClientDisconnect) as departure:
        asyncio.run(read(request(gone), limit=10))
    assert problem_of(departure.value).status == 400
