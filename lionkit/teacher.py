"""The teacher role: one instruction, one answer, through the client.

The instruction is the whole prompt (`prompts.teacher_messages`), as the paper asks its teacher. Only complete
answers are worth imitating, so every other outcome is kept as what it is, with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence

from lionkit import prompts
from lionkit.client import ChatClient, ChatRequest
from lionkit.records import Instruction, Response


def respond(
    client: ChatClient,
    instructions: Sequence[Instruction],
    *,
    temperature: float = 0.7,
    max_tokens: int = 1024,
    label: str = "teacher",
) -> list[Response]:
    """The teacher's answers, in order; paper section 4.2: temperature 0.7. Raises StageStopped as the client does."""
    requests = [
        ChatRequest(prompts.teacher_messages(i.text), temperature=temperature, max_tokens=max_tokens)
        for i in instructions
    ]
    completions = client.map(requests, progress=label)
    return [
        Response(i.id, c.text, c.status, c.error or "", c.model, c.call_id)
        for i, c in zip(instructions, completions, strict=True)
    ]
