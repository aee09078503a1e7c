"""``mmedge serve``: a whole device from its file, with the dashboard."""

from __future__ import annotations

import importlib
import logging
import queue
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mmedge.device.config import DeviceConfig
    from mmedge.device.device import Device

_log = logging.getLogger("mmedge")


def serve(
    file: Annotated[Path | None, typer.Argument(help="DEVICE.toml, see docs/device.md.")] = None,
    source: Annotated[
        list[str] | None, typer.Option(help="A camera or file, as for `mmedge run`; give it again for more.")
    ] = None,
    text: Annotated[list[str] | None, typer.Option(help="A prompt; give it again for more.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="NAME.mmedge; without it, the built-in tabletop model.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on, 127.0.0.1 by itself.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on, 7860 by itself; 0: any that is free.", min=0, max=65535)
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="A file with the token that callers have to know.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Only say whether the device file can be used.")] = False,
) -> None:
    """Run a whole device from its file: cameras, models, triggers, sinks and the dashboard.

    Without a file: the dashboard of one model; if nothing is said, of the built-in one over the built-in camera.
    SIGHUP reads the file again; SIGTERM and Ctrl-C end with exit code 0.
    """
    from mmedge.device.quick import quick_config

    given = {"source": source, "text": text, "bundle": bundle, "host": host, "port": port, "token-file": token_file}
    named = [name for name, value in given.items() if value not in (None, [])]
    if file is not None and named:
        raise typer.BadParameter(f"--{named[0]} goes without a device file; say it in {file}")
    if file is not None:
        _from_file(file, check)
    elif check:
        raise typer.BadParameter("--check needs a device file")
    else:
        config = quick_config(source or [], text or [], bundle, host=host, port=port, token_file=token_file)
        _run(config, lambda device: None)


def _from_file(file: Path, check: bool) -> None:
    from mmedge.device.config import DeviceConfig

    config = DeviceConfig.read(file)
    if not check:
        _run(config, lambda device: _reload(device, file))
        return
    counts = {name: len(getattr(config, name)) for name in ("models", "sources", "zones", "triggers", "sinks")}
    print(f"{file} can be used: {', '.join(f'{count} {name}' for name, count in counts.items())}")


def _run(config: DeviceConfig, reload: Callable[[Device], None]) -> None:
    from mmedge.memory import limit_arenas

    limit_arenas()
    _need_server()
    from mmedge.device.device import Device
    from mmedge.device.secrets import HidingFilter
    from mmedge.server.running import Server

    device = Device(config)
    hiding = HidingFilter(lambda: device.config.secrets)
    handlers = logging.getLogger().handlers
    for handler in handlers:
        handler.addFilter(hiding)
    asked = _Asked()
    try:
        with device, Server(device, config.server) as server:
            sys.stderr.write(f"{config.name} is at {server.address}\n")
            sys.stderr.flush()
            asked.wait(lambda: reload(device))
            # Beside each other, because each may take its 2 s.
            ending = threading.Thread(target=device.stop, name="mmedge stop", daemon=True)
            ending.start()
            server.stop()
            ending.join()
    except KeyboardInterrupt:
        # While it was starting. What was open is closed by now.
        return
    finally:
        asked.restore()
        for handler in handlers:
            handler.removeFilter(hiding)


def _reload(device: Device, file: Path) -> None:
    from mmedge.device.config import DeviceConfig
    from mmedge.errors import MmedgeError

    try:
        config = DeviceConfig.read(file)
    except MmedgeError as error:
        device.refuse(str(error))
        return
    if config.server != device.config.server:
        _log.warning("what %s changes about the server needs a new start", file)
    try:
        device.reload(config)
    except MmedgeError as error:
        _log.debug("the device goes on as it was: %s", error)


def _need_server() -> None:
    from mmedge.errors import MissingDependencyError

    try:
        for library in ("fastapi", "uvicorn", "websockets"):
            importlib.import_module(library)
    except ImportError as error:
        raise MissingDependencyError(
            f'mmedge serve needs a library that cannot be loaded ({error}); pip install "mmedge[serve]"'
        ) from error


class _Asked:
    """What the process is asked by signals, from now until `restore`."""

    def __init__(self) -> None:
        # A signal handler runs in the middle of whatever the main thread does: nothing here may need a lock.
        self._calls: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._waiting = False
        handlers = {signal.SIGTERM: self._end, signal.SIGINT: self._end}
        if hasattr(signal, "SIGHUP"):
            handlers[signal.SIGHUP] = self._again
        self._before = {number: signal.signal(number, handler) for number, handler in handlers.items()}

    def restore(self) -> None:
        """Handle signals as before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def wait(self, reload: Callable[[], None]) -> None:
        """Until the process is asked to end; `reload` is called, in a thread of its own, on each SIGHUP before that."""
        self._waiting = True
        while self._calls.get() not in (signal.SIGTERM, signal.SIGINT):
            # A reload may load a model for long; being asked to end does not wait for that.
            threading.Thread(target=reload, name="mmedge reload", daemon=True).start()

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._calls.put(number)
        if not self._waiting:
            # While it starts: wherever that is.
            self._waiting = True
            raise KeyboardInterrupt

    def _again(self, number: int, frame: FrameType | None) -> None:
        self._calls.put(number)
