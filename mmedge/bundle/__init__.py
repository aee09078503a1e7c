"""The bundle: one file (or folder) that holds a model as stages, with everything needed to run and to check it."""

from __future__ import annotations

from mmedge.bundle.forms import Form, Site, Term
from mmedge.bundle.goldens import Golden, read_goldens, write_goldens
from mmedge.bundle.inputs import ImageInput, Input, TensorInput, TensorSpec, TextInput
from mmedge.bundle.manifest import FORMAT, Cost, FileEntry, Manifest, Stage
from mmedge.bundle.reader import Bundle, open_bundle
from mmedge.bundle.tasks import Classify, Embed, Ground, Raw, Task
from mmedge.bundle.variants import Measurement, Plan, Variant
from mmedge.bundle.writer import pack, publish, seal, staging

__all__ = [
    "FORMAT",
    "Bundle",
    "Classify",
    "Cost",
    "Embed",
    "FileEntry",
    "Form",
    "Golden",
    "Ground",
    "ImageInput",
    "Input",
    "Manifest",
    "Measurement",
    "Plan",
    "Raw",
    "Site",
    "Stage",
    "Task",
    "TensorInput",
    "TensorSpec",
    "Term",
    "TextInput",
    "Variant",
    "open_bundle",
    "pack",
    "publish",
    "read_goldens",
    "seal",
    "staging",
    "write_goldens",
]
