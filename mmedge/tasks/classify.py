"""Logits -> a score per prompt."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mmedge.bundle import Classify
from mmedge.errors import TaskError
from mmedge.results import Classification, Floats
from mmedge.tasks.context import Context, Outputs, as_rows


def classify(task: Classify, outputs: Outputs, context: Context) -> Classification:
    """The result of a `Classify` model.

    Raises:
        TaskError: An output has another shape than the task promises.
    """
    logits = outputs[task.logits]
    count = logits.size if context.labels is None else len(context.labels)
    if logits.shape not in ((count,), (1, count)) or count == 0:
        raise TaskError(f"output {task.logits!r} (logits) must be [1, {count}] or [{count}], got {list(logits.shape)}")
    scores = activate(logits.reshape(count), task.activation)
    image = text = None
    if task.image_embedding is not None:
        image = as_rows(task.image_embedding, outputs[task.image_embedding], 1, "image embedding")[0]
    if task.text_embedding is not None:
        text = as_rows(task.text_embedding, outputs[task.text_embedding], count, "text embedding")
    labels = tuple(map(str, range(count))) if context.labels is None else context.labels
    return Classification(labels=labels, scores=scores, image_embedding=image, text_embedding=text, **context.stamp())


def activate(logits: npt.NDArray[Any], activation: str) -> Floats:
    """Finite logits [n] -> scores float32 [n], without overflow for any of them.

    Args:
        activation: ``softmax``, ``sigmoid`` or ``none``.
    """
    exact = logits.astype(np.float64)
    if activation == "softmax":
        powers = np.exp(exact - exact.max())
        exact = powers / powers.sum()
    elif activation == "sigmoid":
        # exp of a negative number on both sides of zero: exp(710) would overflow.
        small = np.exp(-np.abs(exact))
        exact = np.where(exact >= 0, 1.0, small) / (1.0 + small)
    return exact.astype(np.float32)
