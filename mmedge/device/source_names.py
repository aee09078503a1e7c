"""What can be said of the name of a source before it is opened."""

from __future__ import annotations

import os
from pathlib import Path

from mmedge.errors import SourceNotFoundError
from mmedge.sources.fault import faults_of, split_faults
from mmedge.sources.rtsp import RTSP_SCHEMES
from mmedge.sources.spec import FAULT_PREFIX, GRAMMAR, mask_passwords, scheme_of
from mmedge.sources.tabletop import open_tabletop

_SCHEMES = ("tabletop", "csi", "gst", *RTSP_SCHEMES)


def check_source(url: str) -> None:
    """Whether this may name a source. Whether it is there shows when it is opened.

    Raises:
        SourceError: It cannot: such an error would come again and again.
    """
    while url.lower().startswith(FAULT_PREFIX):
        inner, options = split_faults(url)
        faults_of(url, options)
        url = inner
    scheme = scheme_of(url)
    if scheme == "tabletop":
        open_tabletop(url).close()
    elif scheme is not None and scheme not in _SCHEMES:
        raise SourceNotFoundError(f"{mask_passwords(url)}: unknown scheme {scheme!r}; {GRAMMAR}")


def from_folder(url: str, folder: Path) -> str:
    """A source that is a relative path, from `folder`; others as they are."""
    plain = url
    while plain.lower().startswith(FAULT_PREFIX):
        plain = plain[len(FAULT_PREFIX) :]
    if scheme_of(plain) is not None or plain.partition("?")[0].isdecimal() or not plain.strip():
        return url
    return url[: len(url) - len(plain)] + os.fspath(folder / Path(plain).expanduser())
