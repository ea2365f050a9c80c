"""What a run says when it stops, followed to the end: each remedy mends the run, and nothing is paid or made twice.

`MET` lists every setting that a message of the package names as its remedy; a message with a new one fails here until
somebody has followed it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rote
import server
from lionkit import loop
from lionkit.client import ChatClient
from lionkit.errors import LionkitError, StageOpen, StageStopped, StudentError
from lionkit.run import Run, open_run
from lionkit.sandbox import answer_key

PACKAGE = Path(loop.__file__).parent
