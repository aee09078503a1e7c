"""Every error that mmedge raises on purpose.

    MmedgeError
    ├── BundleError            a bundle cannot be read or written
    │   ├── BundleFormatError      its structure or manifest is not what the format says
    │   ├── BundleIntegrityError   a size, a hash or a name does not hold
    │   └── BundleWriteError       it could not be written; nothing is left behind
    ├── InputError             what the caller gave the model cannot be used
    │   ├── FrameInputError        a frame has the wrong type, shape or no pixels
    │   ├── TextInputError         a prompt list or a prompt cannot be used
    │   └── TensorInputError       a tensor has the wrong name, dtype or shape
    ├── SourceError            a camera, stream, video or picture
    │   ├── SourceNotFoundError    there is no such thing
    │   ├── SourceOpenError        it is there and cannot be opened
    │   └── SourceLostError        it was open and stopped giving frames
    ├── SinkError              a place for results cannot be opened or written to
    │   └── VideoWriteError        a video file cannot be written
    ├── ConfigError            a device file cannot be used; names line and key
    ├── EngineError            an engine is missing, or it refused a stage
    ├── TaskError              the task's outputs are not what the manifest promises
    ├── PromptGrammarError     a sentence outside the built-in model's grammar
    ├── ExportError            a model could not be exported
    │   ├── GraphError             the graph holds something that cannot be staged
    │   └── ParityError            the exported program differs from the source model
    └── MissingDependencyError a library that this call needs is not installed

Messages say what was expected, what came and what to do about it.
"""

from __future__ import annotations


class MmedgeError(Exception):
    """Base of every error that mmedge raises on purpose."""


class BundleError(MmedgeError):
    """A bundle cannot be read or written."""


class BundleFormatError(BundleError):
    """The structure or the manifest of a bundle is not what the format says."""


class BundleIntegrityError(BundleError):
    """A size, a hash or a member name of a bundle does not hold."""


class BundleWriteError(BundleError):
    """A bundle could not be written. Nothing half-written is left behind."""


class InputError(MmedgeError):
    """What the caller gave the model cannot be used."""


class FrameInputError(InputError):
    """A frame has the wrong type or shape, or no pixels."""


class TextInputError(InputError):
    """A list of prompts, or one prompt, cannot be used."""


class TensorInputError(InputError):
    """A tensor has the wrong name, dtype or shape, or holds NaN."""


class SourceError(MmedgeError):
    """A camera, stream, video or picture cannot be used."""


class SourceNotFoundError(SourceError):
    """There is no such file, folder or device."""


class SourceOpenError(SourceError):
    """The source is there, or may be, and cannot be opened or decoded."""


class SourceLostError(SourceError):
    """The source was open and stopped giving frames."""


class SinkError(MmedgeError):
    """A place for results cannot be opened or written to."""


class ConfigError(MmedgeError):
    """A device file cannot be used. The message names line and key."""


class VideoWriteError(SinkError):
    """A video file cannot be written. Nothing half-written is left under its name."""


class EngineError(MmedgeError):
    """An engine is missing, or it refused to load or run a stage."""


class TaskError(MmedgeError):
    """The outputs of a model are not what its task promises."""


class PromptGrammarError(MmedgeError):
    """A sentence is outside the grammar of the built-in tabletop model."""


class ExportError(MmedgeError):
    """A model could not be exported."""


class GraphError(ExportError):
    """The graph holds something that cannot be split into stages."""


class ParityError(ExportError):
    """The exported program differs from the source model by more than the tolerance."""


class MissingDependencyError(MmedgeError):
    """A library that this call needs is not installed."""
