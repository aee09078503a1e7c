"""What the outputs of a model mean: one module a task, each from output tensors to a result."""

from __future__ import annotations

from mmedge.bundle import Classify, Embed, Ground, Task
from mmedge.results import RawResult, Result
from mmedge.tasks.classify import classify
from mmedge.tasks.context import Context, Outputs, check_finite
from mmedge.tasks.embed import embed
from mmedge.tasks.ground import ground

__all__ = ["Context", "Outputs", "interpret"]


def interpret(task: Task, outputs: Outputs, context: Context) -> Result:
    """The result that the outputs of a model mean.

    Raises:
        TaskError: An output is not finite, or of another shape than the task promises.
    """
    check_finite(outputs)
    if isinstance(task, Classify):
        return classify(task, outputs, context)
    if isinstance(task, Ground):
        return ground(task, outputs, context)
    if isinstance(task, Embed):
        return embed(task, outputs, context)
    return RawResult(outputs=dict(outputs), **context.stamp())
