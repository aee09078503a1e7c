"""Where things are on the broker."""

from __future__ import annotations

from mmedge.sinks.naming import slug


class Topics:
    """The topics of one device, below `base`. Names become one level each, whatever they hold."""

    def __init__(self, base: str) -> None:
        self.base = base

    @property
    def availability(self) -> str:
        """``online`` or ``offline``, retained."""
        return f"{self.base}/availability"

    def source_availability(self, source: str) -> str:
        """``online`` while the source is live, else ``offline``, retained."""
        return f"{self._source(source)}/availability"

    def state(self, source: str) -> str:
        """The last change of the source's state, JSON, retained."""
        return f"{self._source(source)}/state"

    def result(self, source: str) -> str:
        """Results, JSON."""
        return f"{self._source(source)}/result"

    def image(self, source: str) -> str:
        """Pictures, JPEG."""
        return f"{self._source(source)}/image"

    def event(self, source: str) -> str:
        """Messages about happenings, JSON."""
        return f"{self._source(source)}/event"

    def prompt(self, source: str, prompt: str) -> str:
        """``ON`` or ``OFF``, or a score, retained."""
        return f"{self._source(source)}/prompts/{slug(prompt)}"

    def prompts(self, model: str) -> str:
        """The prompts in force, JSON, retained."""
        return f"{self._model(model)}/prompts"

    def prompts_text(self, model: str) -> str:
        """The same as a line of text, for people to edit, retained."""
        return f"{self._model(model)}/prompts/text"

    def set_prompts(self, model: str) -> str:
        """Other prompts are sent here."""
        return f"{self._model(model)}/prompts/set"

    def prompts_error(self, model: str) -> str:
        """Why prompts that were sent are not in force, JSON."""
        return f"{self._model(model)}/prompts/error"

    @property
    def retained(self) -> tuple[str, ...]:
        """Filters for all retained topics but `availability`."""
        source, model = f"{self.base}/sources/+", f"{self.base}/models/+"
        return (
            f"{source}/availability",
            f"{source}/state",
            f"{source}/prompts/+",
            f"{model}/prompts",
            f"{model}/prompts/text",
        )

    def _source(self, name: str) -> str:
        return f"{self.base}/sources/{slug(name)}"

    def _model(self, name: str) -> str:
        return f"{self.base}/models/{slug(name)}"
