"""What a model keeps when it gets another bundle."""

from __future__ import annotations

from dataclasses import replace

from mmedge.errors import BundleError, FrameInputError, TensorInputError
from mmedge.inputs import missing_input
from mmedge.loaded import Loaded
from mmedge.settings import Settings


def check_goldens(new: Loaded) -> None:
    """Refuse a bundle that does not give here what its source model gave.

    Raises:
        BundleError: It does not, or it carries no goldens to tell by.
        EngineError: A stage failed.
    """
    found = new.verify()
    if not found.passed:
        raise BundleError(
            f"{found.bundle} as {found.precision} does not give its goldens here: {'; '.join(found.reasons)}; "
            "the bundle from before stays in use"
        )


def carried_over(settings: Settings, old: Loaded, new: Loaded) -> Settings:
    """The prompts and tensors in force, prepared by another bundle; `Settings.version` is one more.

    Raises:
        FrameInputError: One bundle takes frames and the other does not.
        TextInputError: The new bundle takes no text, or not these prompts.
        TensorInputError: It takes other tensors than those that are set.
        InputError: It needs prompts or tensors that are not set, and the old one could run without.
        EngineError: A stage failed.
    """
    if (old.image is None) != (new.image is None):
        given, wanted = ("no frames", "frames") if old.image is None else ("frames", "no frames")
        raise FrameInputError(f"{old.manifest.name} takes {given} and {new.manifest.name} {wanted}; load it beside it")
    kept = Settings(None if new.text is None else (), version=settings.version + 1)
    if settings.labels:
        kept = replace(new.with_prompts(settings.labels)(kept), version=kept.version)
    _check_tensors(settings, old, new)
    for name, tensors in settings.tensors.items():
        kept = new.with_tensors(name, tensors, settings.moments[name])(kept)
    if _missing(settings, old):
        return kept
    for name in _missing(kept, new):
        why = missing_input(name, new.manifest.inputs[name])
        raise type(why)(f"{new.manifest.name} cannot go on where {old.manifest.name} is: {why}")
    new.try_out(kept)
    return kept


def _check_tensors(settings: Settings, old: Loaded, new: Loaded) -> None:
    """Refuse a bundle that cannot take the tensors that are set as they are."""
    theirs, ours = new.manifest.inputs, old.manifest.inputs
    lost = [name for name in settings.tensors if theirs.get(name) != ours[name]]
    if lost:
        raise TensorInputError(
            f"tensors of {', '.join(map(repr, lost))} are set, and {new.manifest.name} does not take them as "
            f"{old.manifest.name} does; its inputs are {', '.join(theirs)}"
        )


def _missing(settings: Settings, loaded: Loaded) -> list[str]:
    """The modalities apart from frames without which a bundle cannot run, and that are not set."""
    frames = set() if loaded.image is None else {loaded.image.modality}
    return sorted(loaded.program.needed - frames - set(settings.inputs))
