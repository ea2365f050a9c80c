"""The client: every paid call of a run goes through `ChatClient.map`, and is paid once."""

from lionkit.client.calls import Bill, ChatRequest, Completion, Estimate, Usage, estimate, total
from lionkit.client.chat import ChatClient
from lionkit.client.store import copy_store
