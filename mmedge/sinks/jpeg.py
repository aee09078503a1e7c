"""Pictures as JPEG."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from mmedge.errors import InputError, SinkError


def encode_jpeg(image: npt.NDArray[np.uint8], quality: int = 80, longest: int | None = None) -> bytes:
    """A JPEG of a picture.

    Args:
        image: uint8 [H, W, 3], BGR.
        quality: 1 to 100.
        longest: Larger pictures are made so many pixels long or high; None: as they are.

    Raises:
        SinkError: The picture is larger than JPEG takes, 65,535 pixels.
    """
    side = max(image.shape[:2])
    if longest is not None and side > longest:
        width, height = (max(1, round(n * longest / side)) for n in (image.shape[1], image.shape[0]))
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    try:
        done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    except cv2.error as error:
        raise SinkError(f"a picture of {image.shape[1]} x {image.shape[0]} cannot be a JPEG: {error.err}") from error
    if not done:
        raise SinkError(f"a picture of {image.shape[1]} x {image.shape[0]} cannot be a JPEG")
    return data.tobytes()


def check_quality(quality: int) -> int:
    """`quality`, if JPEG has it.

    Raises:
        InputError: It does not.
    """
    if not 1 <= quality <= 100:
        raise InputError(f"quality must be 1 to 100, got {quality}")
    return quality
