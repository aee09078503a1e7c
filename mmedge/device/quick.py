"""The device of a command line without a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmedge.device.config import SHOWN, DeviceConfig, ModelConfig, SourceConfig
from mmedge.device.secrets import Secrets, password_of, read_secret
from mmedge.device.source_names import check_source
from mmedge.errors import InputError, SourceError
from mmedge.server.settings import ServerSettings
from mmedge.streaming.options import SourceOptions


def quick_config(
    sources: Sequence[str],
    prompts: Sequence[str],
    bundle: Path | None,
    *,
    host: str | None = None,
    port: int | None = None,
    token_file: Path | None = None,
) -> DeviceConfig:
    """One model over some sources, and a server.

    Args:
        sources: As for `mmedge.sources.open_source`; without any, the built-in camera.
        prompts: What to look for.
        bundle: ``NAME.mmedge``; None for the built-in model.
        host, port: As in `ServerSettings`; None: as there.
        token_file: A file with its token.

    Raises:
        InputError: Something cannot be used.
    """
    secrets = Secrets()
    given: dict[str, object] = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    if token_file is not None:
        try:
            given["token"] = read_secret(token_file, secrets)
        except ValueError as error:
            raise InputError(f"--token-file: {error}") from error
    asked = tuple(prompts) or (SHOWN if bundle is None else ())
    urls = tuple(sources) or ("tabletop://",)
    names = ("camera",) if len(urls) == 1 else tuple(f"camera{number}" for number in range(1, len(urls) + 1))
    for url in urls:
        try:
            check_source(url)
        except SourceError as error:
            raise InputError(f"--source: {error}") from error
        if (password := password_of(url)) is not None:
            secrets.add(password)
    return DeviceConfig(
        models={"model": ModelConfig("tabletop" if bundle is None else str(bundle), asked)},
        sources={
            name: SourceConfig(SourceOptions(url, name, reconnect="always"), "model")
            for name, url in zip(names, urls, strict=True)
        },
        server=ServerSettings(**given),  # type: ignore[arg-type]
        secrets=secrets,
    )
