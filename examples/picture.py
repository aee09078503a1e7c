"""Ask the built-in model about pictures of the synthetic table and write them, annotated, as one picture.

python examples/picture.py out.jpg
"""

from __future__ import annotations

import sys

import cv2
import numpy as np

import mmedge
from mmedge.tabletop import Tabletop

VIEWS = (
    (3, 40, ["the white ball", "the blue ball", "a ring"]),
    (4, 40, ["an orange thing", "the green ring", "a red pyramid"]),
    (2, 40, ["the black cube", "a cone left of the black cylinder", "the yellow ball"]),
    (6, 40, ["the green cylinder", "a ball right of the yellow ball", "the red cube"]),
)


def main(path: str) -> None:
    pictures = []
    with mmedge.load() as model:
        for seed, index, prompts in VIEWS:
            frame, _ = Tabletop(seed=seed).frame(index)
            model.set_text(prompts)
            pictures.append(model(frame).plot(frame))
    rows = [np.hstack(pictures[i : i + 2]) for i in (0, 2)]
    if not cv2.imwrite(path, np.vstack(rows)):
        sys.exit(f"{path} cannot be written")


if __name__ == "__main__":
    main(*sys.argv[1:])
