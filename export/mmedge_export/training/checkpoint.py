"""Files of a training run: weights in safetensors, everything else in JSON, each written whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mmedge_export.zoo.grounding import GroundingConfig, GroundingModel


def write_json(path: Path, value: Any) -> None:
    """Write JSON through a temporary name."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(part, path)


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write safetensors through a temporary name."""
    part = path.with_name(path.name + ".part")
    save_file({name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}, part, metadata)
    os.replace(part, path)


def save_model(folder: Path, model: GroundingModel) -> None:
    """Write `model.safetensors` and `config.json`."""
    write_tensors(folder / "model.safetensors", dict(model.state_dict()))
    write_json(folder / "config.json", dataclasses.asdict(model.config))


def load_model(folder: Path) -> GroundingModel:
    """The model that `save_model` wrote, in evaluation mode."""
    config = GroundingConfig(**json.loads((folder / "config.json").read_text()))
    model = GroundingModel(config)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval()


def save_progress(
    path: Path, step: int, seconds: float, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer
) -> None:
    """Write all that resuming needs: the modules' states, the optimizer's moments, the step, the time it took."""
    tensors = {f"{name}/{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{key}": value for key, value in state.items()}
    write_tensors(path, tensors, {"step": str(step), "seconds": str(seconds)})


def load_progress(path: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> tuple[int, float]:
    """Restore what `save_progress` wrote; returns the step to go on with and the seconds spent so far."""
    tensors = load_file(path)
    for name, module in modules.items():
        prefix = name + "/"
        module.load_state_dict({k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)})
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, index, name = key.split("/")
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    with safe_open(path, "pt") as file:
        return int(file.metadata()["step"]), float(file.metadata()["seconds"])
