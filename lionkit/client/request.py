"""A request's JSON, and the parts of it that some models do not take.

Nothing is known about models beforehand: what one refuses is learned from the endpoint's answers (`asking`).
"""

from collections.abc import Collection, Mapping
from typing import Any

from lionkit.client.calls import ChatRequest

PARTS = {
    "response_format": "a schema for its replies",
    "repeat_penalty": "to be told that repeating is no fault",
    "temperature": "a temperature",
    "temperature 0": "a temperature of 0",
    "max_tokens": "max_tokens (but perhaps max_completion_tokens)",
    "max_completion_tokens": "a limit to its replies",
    "system": "a system message (it goes into the user's)",
    "unstreamed": "calls that are not streamed",
    "stream_options": "stream_options",
}
"""What a request may have to do without, in the order in which it is tried, and how that is told."""


def body_of(request: ChatRequest, model: str, without: Collection[str]) -> dict[str, Any]:
    """The request's JSON, without the parts (`PARTS`) that the model refuses; `max_tokens` then goes by its newer name,
    and a system message at the head of the user's."""
    named = ("temperature", "max_tokens", "response_format", "repeat_penalty")
    settings, messages = {name: getattr(request, name) for name in named}, request.messages
    if "max_tokens" in without:
        settings["max_completion_tokens"] = request.max_tokens
    if "temperature 0" in without and request.temperature == 0:
        del settings["temperature"]
    if "unstreamed" in without:
        settings |= {"stream": True, "stream_options": {"include_usage": True}}
    if "system" in without and len(messages) > 1 and messages[0]["role"] == "system":
        told = "\n\n".join(filter(None, (message["content"] for message in messages[:2])))
        messages = [messages[1] | {"content": told}, *messages[2:]]
    taken = {name: value for name, value in settings.items() if value is not None and name not in without}
    return {"model": model, "messages": messages, **taken}


def parts_of(body: Mapping[str, Any]) -> set[str]:
    """The parts of a request that it may have to do without."""
    found = {name for name in PARTS if name in body} | ({"unstreamed"} if not body.get("stream") else set())
    first: Mapping[str, Any] = next(iter(body.get("messages", ())), {})
    return found | ({"system"} if first.get("role") == "system" else set())
