"""Every provider's way to write a conversation comes out as the same messages."""

import json
from typing import Any

import pytest

from spanledger.exporter.messages import dump, messages_from, system_message

CALL = {"id": "t1", "name": "get_weather", "arguments": {"city": "Paris"}}
ASKED = {"role": "user", "content": "Weather?"}
CALLED = {"role": "assistant", "tool_calls": [CALL]}
TOLD = {"role": "tool", "tool_call_id": "t1", "content": "18C"}
ANSWERED = {"role": "assistant", "content": "Sunny."}
CONVERSATION = [ASKED, CALLED, TOLD, ANSWERED]
ARGUMENTS = '{"city": "Paris"}'

OTEL = [
    {"role": "user", "parts": [{"type": "text", "content": "Weather?"}]},
    {
        "role": "assistant",
        "parts": [{"type": "tool_call", "id": "t1", "name": "get_weather", "arguments": {"city": "Paris"}}],
    },
    {"role": "tool", "parts": [{"type": "tool_call_response", "id": "t1", "response": "18C"}]},
    {"role": "assistant", "parts": [{"type": "text", "content": "Sunny."}]},
]
OPENAI_CHAT = [
    {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "get_weather", "arguments": ARGUMENTS}}],
    },
    {"role": "tool", "tool_call_id": "t1", "content": "18C"},
    {"role": "assistant", "content": "Sunny."},
]
OPENAI_RESPONSES = [
    {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
    {"type": "function_call", "id": "fc_1", "call_id": "t1", "name": "get_weather", "arguments": ARGUMENTS},
    {"type": "function_call_output", "call_id": "t1", "output": "18C"},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Sunny."}]},
]
ANTHROPIC = [
    {"role": "user", "content": "Weather?"},
    {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": "t1", "name": "get_weather", "input": {"city": "Paris"}}],
    },
    {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "18C"}]}],
    },
    {"role": "assistant", "content": [{"type": "text", "text": "Sunny."}]},
]
BEDROCK = [
    {"role": "user", "content": [{"text": "Weather?"}]},
    {
        "role": "assistant",
        "content": [{"toolUse": {"toolUseId": "t1", "name": "get_weather", "input": {"city": "Paris"}}}],
    },
    {
        "role": "user",
        "content": [{"toolResult": {"toolUseId": "t1", "status": "success", "content": [{"text": "18C"}]}}],
    },
    {"role": "assistant", "content": [{"text": "Sunny."}]},
]
GEMINI = {
    "contents": [
        {"role": "user", "parts": [{"text": "Weather?"}]},
        {
            "role": "model",
            "parts": [{"functionCall": {"id": "t1", "name": "get_weather", "args": {"city": "Paris"}}}],
        },
        {"role": "user", "parts": [{"function_response": {"id": "t1", "name": "get_weather", "response": "18C"}}]},
        {"role": "model", "parts": [{"text": "Sunny."}]},
    ]
}
VERCEL = [
    {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
    {
        "role": "assistant",
        "content": [{"type": "tool-call", "toolCallId": "t1", "toolName": "get_weather", "args": {"city": "Paris"}}],
    },
    {
        "role": "tool",
        "content": [{"type": "tool-result", "toolCallId": "t1", "toolName": "get_weather", "result": "18C"}],
    },
    {"role": "assistant", "content": "Sunny."},
]
LANGCHAIN_CALL = {"id": "t1", "name": "get_weather", "args": {"city": "Paris"}, "type": "tool_call"}
LANGCHAIN_STORED = [
    {"type": "human", "data": {"content": "Weather?"}},
    {"type": "ai", "data": {"content": "", "tool_calls": [LANGCHAIN_CALL]}},
    {"type": "tool", "data": {"content": "18C", "tool_call_id": "t1"}},
    {"type": "ai", "data": {"content": "Sunny."}},
]
LANGCHAIN_PLAIN = [
    {"type": "human", "content": "Weather?", "additional_kwargs": {}},
    {"type": "ai", "content": "", "additional_kwargs": {}, "tool_calls": [LANGCHAIN_CALL]},
    {"type": "tool", "content": "18C", "additional_kwargs": {}, "tool_call_id": "t1"},
    {"type": "AIMessageChunk", "content": "Sunny.", "additional_kwargs": {}},
]


def constructed(kind: str, **kwargs: Any) -> dict[str, Any]:
    identity = ["langchain", "schema", "messages", kind]
    return {"lc": 1, "type": "constructor", "id": identity, "kwargs": kwargs}


LANGCHAIN_SERIALIZED = {
    "messages": [
        [
            constructed("HumanMessage", content="Weather?"),
            constructed("AIMessage", content="", tool_calls=[LANGCHAIN_CALL]),
            constructed("ToolMessage", content="18C", tool_call_id="t1"),
            constructed("AIMessageChunk", content="Sunny."),
        ]
    ]
}
LANGCHAIN_WITH_ANTHROPIC = [
    LANGCHAIN_PLAIN[0],
    {
        "type": "ai",
        "content": [{"type": "tool_use", "id": "t1", "name": "get_weather", "input": {"city": "Paris"}}],
        "additional_kwargs": {},
        "tool_calls": [LANGCHAIN_CALL],
    },
    *LANGCHAIN_PLAIN[2:],
]


@pytest.mark.parametrize("as_text", [False, True], ids=["decoded", "as JSON text"])
@pytest.mark.parametrize(
    "said",
    [
        OTEL,
        OPENAI_CHAT,
        OPENAI_RESPONSES,
        ANTHROPIC,
        BEDROCK,
        GEMINI,
        VERCEL,
        LANGCHAIN_STORED,
        LANGCHAIN_PLAIN,
        LANGCHAIN_SERIALIZED,
        LANGCHAIN_WITH_ANTHROPIC,
    ],
    ids=[
        "otel",
        "openai chat",
        "openai responses",
        "anthropic",
        "bedrock",
        "gemini",
        "vercel",
        "langchain, stored",
        "langchain, plain",
        "langchain, serialized",
        "langchain saying anthropic's call twice",
    ],
)
def test_a_conversation_with_a_tool_reads_the_same(said: Any, as_text: bool) -> None:
    messages = messages_from(json.dumps(said) if as_text else said)
    assert [{k: v for k, v in message.items() if k != "name"} for message in messages] == CONVERSATION


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Sunny."}}]},
        {"id": "msg_1", "role": "assistant", "content": [{"type": "text", "text": "Sunny."}], "stop_reason": "stop"},
        {"candidates": [{"content": {"role": "model", "parts": [{"text": "Sunny."}]}, "finishReason": "stop"}]},
        {"output": {"message": {"role": "assistant", "content": [{"text": "Sunny."}]}}, "stopReason": "stop"},
        {"message": {"role": "assistant", "content": [{"type": "text", "text": "Sunny."}]}, "finish_reason": "stop"},
        {"model": "llama3.2", "message": {"role": "assistant", "content": "Sunny."}, "done_reason": "stop"},
        {
            "generations": [
                [
                    {
                        "type": "ChatGeneration",
                        "generation_info": {"finish_reason": "stop"},
                        "message": constructed("AIMessage", content="Sunny."),
                    }
                ]
            ]
        },
    ],
    ids=["openai", "anthropic", "gemini", "bedrock", "cohere", "ollama", "langchain"],
)
def test_the_answer_is_found_in_a_whole_response(body: dict[str, Any]) -> None:
    assert messages_from(body, "assistant") == [ANSWERED | {"finish_reason": "stop"}]


@pytest.mark.parametrize(
    "request_body",
    [
        {"model": "claude-sonnet-4-5", "system": "Be brief", "messages": [ASKED]},
        {"model": "gpt-5", "instructions": "Be brief", "input": "Weather?"},
        {"contents": [{"role": "user", "parts": [{"text": "Weather?"}]}], "config": {"system_instruction": "Be brief"}},
        {"system": [{"text": "Be brief"}], "messages": [{"role": "user", "content": [{"text": "Weather?"}]}]},
    ],
    ids=["anthropic", "openai responses", "gemini", "bedrock"],
)
def test_a_whole_request_is_system_and_messages(request_body: dict[str, Any]) -> None:
    assert messages_from(request_body) == [{"role": "system", "content": "Be brief"}, ASKED]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
        {"type": "reasoning", "content": "Hm."},
        {"text": "Hm.", "thought": True},
        {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "c2ln"}}},
    ],
    ids=["anthropic", "openai", "otel", "gemini", "bedrock"],
)
def test_reasoning_stands_beside_the_answer(part: dict[str, Any]) -> None:
    said = {"role": "assistant", "content": [part, {"type": "text", "text": "Sunny."}]}
    assert messages_from([said]) == [{"role": "assistant", "reasoning": "Hm.", "content": "Sunny."}]


def test_reasoning_on_its_own_belongs_to_what_it_led_to() -> None:
    items = [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}, OPENAI_RESPONSES[3]]
    assert messages_from(items, "assistant") == [{"role": "assistant", "reasoning": "Hm.", "content": "Sunny."}]


@pytest.mark.parametrize(
    "said",
    ['{"city": "Paris", "content": "18C"}', "[1, 2]", '["a"]', "{not JSON}", "true", '{"type": "object"'],
)
def test_what_is_no_message_is_kept_whole(said: str) -> None:
    kept = "".join(message["content"] for message in messages_from(said))
    assert all(word in kept for word in ("Paris", "18C") if word in said)
    assert kept


def test_a_structured_answer_is_not_taken_apart() -> None:
    plain = '{"forecast": "Sunny."}'
    assert messages_from([{"role": "assistant", "content": plain}]) == [{"role": "assistant", "content": plain}]


def test_parts_of_other_kinds_are_kept_beside_the_text() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
    said = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]}]
    assert messages_from(said)[0]["content"] == [{"type": "text", "text": "What is this?"}, image]


def test_a_tools_definition_is_no_call() -> None:
    definition = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
    assert messages_from([{"role": "tool", "content": definition}]) == [{"role": "tool", "content": [definition]}]


TEXT = {"type": "text", "content": "Sunny."}


@pytest.mark.parametrize("role", ["user", "Model", "", None])
@pytest.mark.parametrize("finish", [{}, {"finish_reason": "stop"}, {"finish_reason": None}])
@pytest.mark.parametrize(
    "body",
    [
        *({"content": said} for said in ("Sunny.", "", None, '{"a": 1}', '[{"type": "text", "text": "Sunny."}]')),
        *({"parts": parts} for parts in ([TEXT], [], [TEXT, TEXT], [{**TEXT, "content": ""}], [{**TEXT, "x": 1}])),
        *({"parts": [{**TEXT, "type": kind}]} for kind in ("reasoning", "refusal", None)),
        {"parts": [TEXT], "content": "Rainy."},
    ],
)
def test_a_plain_message_reads_the_same_with_a_key_nobody_knows(
    role: str | None, finish: dict[str, Any], body: dict[str, Any]
) -> None:
    """Plain messages are read by a shorter way."""
    message = {"role": role, **body, **finish}
    assert messages_from([message]) == messages_from([{**message, "unknown": 1}])


def test_nothing_said_is_nothing() -> None:
    nothing: list[Any] = [None, "", [], "[]"]
    assert [messages_from(value) for value in nothing] == [[], [], [], []]
    assert dump([{"role": "assistant"}]) is None
    assert system_message(None) == []
