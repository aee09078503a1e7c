"""A graph, and the forms that the prompt compiler makes of it, run beside one another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch
from torch import Tensor, nn

from mmedge.bundle import Input, Site, TensorInput, TensorSpec, TextInput
from mmedge_export.graph.compiler import compile_prompts
from mmedge_export.graph.prepare import infer, load_graph, prepare

D, H, M, WORDS = 24, 3, 10, 40
Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]


class Fusion(nn.Module):
    """Image tokens [1, M, D] ask embedded words [n, l, D]; what `attend` gives for them is squared and returned."""

    def __init__(self, attend: nn.Module, layers: int = 1) -> None:
        super().__init__()
        self.attend = nn.ModuleList([attend, *(type(attend)(*attend.arguments) for _ in range(layers - 1))])
        self.embedding = nn.Embedding(WORDS, D)
        self.tower = nn.Linear(D, D)
        self.late = nn.Linear(D, D)

    def forward(self, image: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        x, text = torch.tanh(self.tower(image)), self.embedding(ids)
        for layer in self.attend:
            x = x + layer(x, text, mask)
        return torch.square(self.late(x))


class Compiled:
    """A torch module, traced, and all forms of it.

    Args:
        module: Takes image [1, M, D] float32, ids and mask [n, l] int64.
        max_length: Longest prompt that is declared.
        opset: To trace with.
    """

    def __init__(self, module: nn.Module, folder: Path, max_length: int = 64, opset: int = 20) -> None:
        self.module = module.eval()
        self.specs = [
            TensorSpec("image", "float32", (1, M, D)),
            TensorSpec("ids", "int64", ("n", "l")),
            TensorSpec("mask", "int64", ("n", "l")),
        ]
        inputs: dict[str, Input] = {
            "image": TensorInput((self.specs[0],)),
            "text": TextInput(self.specs[1], self.specs[2], max_length=max_length, pad_id=0, vocab_size=WORDS),
        }
        axes = {"n": torch.export.Dim("n"), "l": torch.export.Dim("l")}
        given = {name: torch.from_numpy(array) for name, array in self.sample(3, 5).items()}
        program = torch.onnx.export(
            self.module,
            kwargs=given,
            dynamo=True,
            opset_version=opset,
            input_names=list(given),
            output_names=["out"],
            dynamic_shapes={"image": {}, "ids": {0: axes["n"], 1: axes["l"]}, "mask": {0: axes["n"], 1: axes["l"]}},
            verbose=False,
        )
        assert program is not None
        program.save(folder / "traced.onnx")
        self.model = load_graph(folder / "traced.onnx")
        prepare(self.model, self.specs, {"l": max_length})
        self.result = compile_prompts(self.model, inputs)
        infer(self.model, {"l": max_length})
        names = {str(value.name): value for value in self.model.graph.outputs}
        self.forms = {form: str(values[0].name) for form, values in self.result.outputs.items()} or {
            "": next(iter(names))
        }
        self._session = onnxruntime.InferenceSession(
            ir.to_proto(self.model).SerializeToString(), providers=["CPUExecutionProvider"]
        )

    @property
    def site(self) -> Site:
        assert len(self.result.sites) == 1
        return self.result.sites[0]

    @property
    def operators(self) -> list[str]:
        return [node.op_type for node in self.model.graph]

    def sample(self, n: int, l: int, seed: int = 0) -> Arrays:  # noqa: E741
        random = np.random.default_rng([seed, n, l])
        mask = np.ones((n, l), np.int64)
        mask[-1, (l + 1) // 2 :] = 0
        image = random.standard_normal((1, M, D)).astype(np.float32)
        return {"image": image, "ids": random.integers(0, WORDS, (n, l)), "mask": mask}

    def check(self) -> None:
        """Every form equals the module, at sizes other than the traced one too."""
        for index, (n, length) in enumerate(((3, 5), (1, 1), (2, 7), (4, 3), (1, 30))):
            inputs = self.sample(n, length, seed=index + 1)
            with torch.no_grad():
                expected = self.module(**{k: torch.from_numpy(v) for k, v in inputs.items()}).numpy()
            for form, output in self.forms.items():
                (found,) = self._session.run([output], inputs)
                assert found.shape == expected.shape
                error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
                assert error < 1e-5, f"form {form!r} at n={n}, l={length}: {error:.2e}"
