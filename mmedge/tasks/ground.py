"""Candidate boxes of each prompt -> detections in the frame."""

from __future__ import annotations

import numpy as np

from mmedge.bundle import Ground
from mmedge.errors import TaskError
from mmedge.results import Grounding
from mmedge.tasks.context import Context, Outputs


def ground(task: Ground, outputs: Outputs, context: Context) -> Grounding:
    """The result of a `Ground` model: candidates of at least ``task.threshold``, best first.

    Raises:
        TaskError: An output has another shape than the task promises.
    """
    if context.labels is None or context.to_frame is None:
        raise TaskError("a 'ground' model needs prompts and a frame, and the manifest has no text or no image modality")
    scores, boxes = outputs[task.scores], outputs[task.boxes]
    count = len(context.labels)
    if scores.ndim != 2 or scores.shape[0] != count or boxes.shape != (*scores.shape, 4):
        raise TaskError(
            f"outputs {task.scores!r} and {task.boxes!r} must be [{count}, k] and [{count}, k, 4], got "
            f"{list(scores.shape)} and {list(boxes.shape)}"
        )
    scores = scores.astype(np.float32, copy=False)
    prompts, candidates = np.nonzero(scores >= task.threshold)
    found = scores[prompts, candidates]
    order = np.argsort(-found, kind="stable")
    prompts = prompts[order]
    chosen = boxes[prompts, candidates[order]].astype(np.float32, copy=False)
    return Grounding(
        labels=tuple(context.labels[index] for index in prompts),
        scores=found[order],
        boxes=context.to_frame(chosen),
        prompts=prompts.astype(np.int64, copy=False),
        all_scores=scores.max(axis=1, initial=0.0),
        **context.stamp(),
    )
