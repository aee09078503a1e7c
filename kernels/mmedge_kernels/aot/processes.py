"""The processes that compile: a clean environment, a time limit, and an end for all of them at once.

A worker imports Triton once and then forks for each request, so that a compiler that crashes takes nothing with it and
no request pays for the start.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from mmedge_kernels.errors import CompileError

TIMEOUT_S = 600.0
"""Seconds after which a compilation is given up."""

EXPLAINED = 3
"""Exit status of a request that says itself what is wrong."""

# What changes how Triton and its tools work; a pack must not depend on who makes it.
_REMOVED_PREFIXES = ("TRITON_", "PTXAS_", "MLIR_", "LLVM_", "NVPTX_")
_REMOVED = frozenset({"DISABLE_PTXAS_OPT", "DISABLE_MMA_V3", "USE_IR_LOC"})
_SET = {
    "TRITON_DEFAULT_FP_FUSION": "1",
    "TRITON_DISABLE_LINE_INFO": "1",  # else paths of this machine are written into every kernel
}
_TAIL = 1500


class Workers:
    """Worker processes, started when they are needed; use it in a ``with`` statement, and from several threads."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()
        self._lock = threading.Lock()
        self._closed = False

    def run(self, request: Mapping[str, Any], folder: Path, environment: Mapping[str, str]) -> None:
        """Do `request` in a process of its own; its results are then in `folder`.

        environment: added to the process's own. Raises CompileError with the end of what the process said when it
        fails, crashes, takes too long or was ended.
        """
        said = folder / "stderr.txt"
        said.touch()
        whole = {
            **request,
            "folder": str(folder),
            # Nothing is taken from earlier runs, and nothing is left behind.
            "environment": {**environment, "TRITON_CACHE_DIR": str(folder / "cache"), "TMPDIR": str(folder)},
            "stderr": str(said),
        }
        worker = self._take()
        try:
            status = worker.ask(json.dumps(whole), self._timeout_s)
        except BaseException:
            worker.kill()
            raise
        with self._lock:
            self._idle.append(worker)
        if status:
            raise CompileError(_tail(said) if status == EXPLAINED else f"{_ending(status)}: {_tail(said)}")

    def close(self) -> None:
        """End every process; none is started afterwards."""
        with self._lock:
            self._closed = True
            for worker in self._all:
                worker.kill()

    def _take(self) -> _Worker:
        with self._lock:
            if self._closed:
                raise CompileError("stopped before everything was compiled")
            if self._idle:
                return self._idle.pop()
            worker = _Worker()
            self._all.add(worker)
            return worker

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Worker:
    """One process that takes requests, one at a time."""

    def __init__(self) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  `kill` closes it
        # A session of its own, so that whatever its requests start can be ended with it.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mmedge_kernels.aot.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._errors, env=_environment(), start_new_session=True,
        )  # fmt: skip

    def ask(self, request: str, timeout_s: float) -> int:
        """The exit status of the process that did the request; negative: the signal that ended it."""
        requests, answers = self._process.stdin, self._process.stdout
        if requests is None or answers is None:
            raise CompileError("the worker has no pipes")
        with contextlib.suppress(BrokenPipeError):  # it has ended: then there is no answer either
            requests.write(request.encode() + b"\n")
            requests.flush()
        if not select.select([answers], [], [], timeout_s)[0]:
            raise CompileError(f"not done after {timeout_s:g} s, given up")
        answer = answers.readline()
        if answer:
            return int(answer)
        status = self._process.wait()
        self._errors.seek(0)
        raise CompileError(f"{_ending(status)}: {_end_of(self._errors.read().decode(errors='replace'))}")

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                with contextlib.suppress(OSError):  # a request that could not be written
                    pipe.close()


def _environment() -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_REMOVED_PREFIXES) and name not in _REMOVED
    }
    return {**kept, **_SET}


def _ending(status: int) -> str:
    if status >= 0:
        return f"the compiler failed with status {status}"
    with contextlib.suppress(ValueError):
        return f"the compiler crashed with {signal.Signals(-status).name}"
    return f"the compiler was ended by signal {-status}"


def _tail(said: Path) -> str:
    return _end_of(said.read_text(encoding="utf-8", errors="replace"))


def _end_of(text: str) -> str:
    text = text.strip()
    return text if len(text) <= _TAIL else f"[...]{text[-_TAIL:]}"
