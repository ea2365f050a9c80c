"""The API key: kept in memory only, taken out of every text that is stored or shown."""

import contextlib
import getpass
import os
import re
import sys

from lionkit.config import OPENAI_URL, ApiConfig, endpoint
from lionkit.errors import LionkitError

SHORTEST_KEY = 16
"""Characters; anything shorter ("EMPTY", "ollama") is no secret and may be a word of a reply."""


class Key:
    """The API key of a client."""

    value = ""
    """Empty until it is found, and after the endpoint refused it."""

    def __repr__(self) -> str:
        return "<API key>"

    def hide(self, text: str) -> str:
        """The text without the key, and without lone surrogates (they are no text, and SQLite refuses them)."""
        text = text.encode("utf-8", "replace").decode()
        return text.replace(self.value, "[key]") if len(self.value) >= SHORTEST_KEY else text

    def find(self, config: ApiConfig, *, offline: bool) -> None:
        """Take it from the environment; else ask for it in an interactive session. Only api.openai.com needs one."""
        name = config.api_key_env
        self.value = ("" if offline else os.environ.get(name, "").strip()) or self.value
        if not self.value and (offline or endpoint(config) != OPENAI_URL):
            self.value = "none-needed"
        if not self.value and (hasattr(sys, "ps1") or (sys.stdin is not None and sys.stdin.isatty())):
            with contextlib.suppress(EOFError, NotImplementedError):
                self.value = getpass.getpass(f"{name} (not shown, kept in memory only): ").strip()
        if not re.fullmatch("[!-~]+", self.value):
            missing = f"no API key: put it in the environment variable {name}, or set base_url to a server"
            odd = f"the API key in {name} holds spaces or characters no key has: copy it again"
            problem, self.value = odd if self.value else missing, ""
            raise LionkitError(problem, setting="api.api_key_env")
