"""Embeddings of a frame and of prompts."""

from __future__ import annotations

from mmedge.bundle import Embed
from mmedge.results import Embedding
from mmedge.tasks.context import Context, Outputs, as_rows


def embed(task: Embed, outputs: Outputs, context: Context) -> Embedding:
    """The result of an `Embed` model.

    Raises:
        TaskError: An output has another shape than the task promises.
    """
    labels = context.labels or ()
    image = text = None
    if task.image_embedding is not None:
        image = as_rows(task.image_embedding, outputs[task.image_embedding], 1, "image embedding")[0]
    if task.text_embedding is not None:
        text = as_rows(task.text_embedding, outputs[task.text_embedding], len(labels) or None, "text embedding")
    return Embedding(labels=labels, image_embedding=image, text_embedding=text, **context.stamp())
