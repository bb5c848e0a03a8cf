"""Facets equal the published DINO code, a ViT in plain tensor operations, and the outputs of hooks in timm's models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from eigenseg.data import Geometry
from eigenseg.discovery import ViTBackbone
from eigenseg.discovery.backbones.positions import resize_positions

TINY: dict[str, Any] = {"embed_dim": 48, "depth": 3, "num_heads": 3}
DINO, DINOV2 = "vit_small_patch16_224.dino", "vit_small_patch14_dinov2.lvd142m"
DINOV2_REGISTERS, DINOV3 = "vit_small_patch14_reg4_dinov2.lvd142m", "vit_small_patch16_dinov3.lvd1689m"
EVERY = [DINO, DINOV2, DINOV2_REGISTERS, DINOV3]


def tiny(architecture: str = DINO, **options: Any) -> ViTBackbone:
    return ViTBackbone(architecture, **{"weights": "random", "model_args": TINY, "position": "dino", **options})


def make_input(backbone: ViTBackbone, rows: int, columns: int, batch: int = 1) -> tuple[Tensor, list[Geometry]]:
    size = (rows * backbone.patch_size, columns * backbone.patch_size)
    pixels = torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(rows))
    return pixels, [Geometry(size, size, size, backbone.patch_size)] * batch


def plain_vit(weights: dict[str, Tensor], pixels: Tensor, block: int, heads: int) -> dict[str, Tensor]:
    """A pre-norm ViT in plain tensor operations: every facet of one block, all tokens."""
    patch = weights["patch_embed.proj.weight"].shape[-1]
    x = F.conv2d(pixels, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], stride=patch)
    grid, width = x.shape[2:], x.shape[1]
    x = torch.cat([weights["cls_token"].expand(len(x), -1, -1), x.flatten(2).mT], dim=1)
    x = x + resize_positions(weights["pos_embed"], (grid[0], grid[1]), 1, "dino")
    for i in range(block + 1):
        name = f"blocks.{i}."
        normed = F.layer_norm(x, (width,), weights[name + "norm1.weight"], weights[name + "norm1.bias"], 1e-6)
        qkv = normed @ weights[name + "attn.qkv.weight"].T + weights[name + "attn.qkv.bias"]
        query, key, value = qkv.split(width, dim=2)
        split = [part.reshape(*part.shape[:2], heads, -1).transpose(1, 2) for part in (query, key, value)]
        attention = torch.softmax(split[0] @ split[1].mT / (width // heads) ** 0.5, dim=-1)
        mixed = (attention @ split[2]).transpose(1, 2).flatten(2)
        x = x + mixed @ weights[name + "attn.proj.weight"].T + weights[name + "attn.proj.bias"]
        normed = F.layer_norm(x, (width,), weights[name + "norm2.weight"], weights[name + "norm2.bias"], 1e-6)
        hidden = F.gelu(normed @ weights[name + "mlp.fc1.weight"].T + weights[name + "mlp.fc1.bias"])
        x = x + hidden @ weights[name + "mlp.fc2.weight"].T + weights[name + "mlp.fc2.bias"]
    token = F.layer_norm(x, (width,), weights["norm.weight"], weights["norm.bias"], 1e-6)
    return {"query": query, "key": key, "value": value, "token": token, "attention": attention}


@pytest.mark.parametrize("patch", [8, 16])
@pytest.mark.parametrize("case", range(3))
def test_facets_and_attention_of_the_published_code_are_reproduced(test_data: Path, patch: int, case: int) -> None:
    golden = np.load(test_data / "golden_reference" / f"dino_tiny_p{patch}.npz")
    weights = {name[8:]: torch.from_numpy(golden[name]) for name in golden if name.startswith("weights/")}
    pixels, size = torch.from_numpy(golden[f"input_{case}"]), golden[f"input_{case}"].shape[2:]
    backbone = ViTBackbone(
        f"vit_small_patch{patch}_224.dino", weights, facet="key+query+value+token", position="dino", model_args=TINY
    )
    result = backbone(pixels, [Geometry(size, size, size, patch)], attention=True)
    assert result.cls is not None
    assert result.attention is not None
    ours = torch.cat([result.cls[:, None], result.tokens], dim=1)[:, golden[f"rows_{case}"]].split(48, dim=2)
    for name, part in zip(("keys", "queries", "values", "tokens"), ours, strict=True):
        np.testing.assert_allclose(part.numpy(), golden[f"{name}_{case}"], rtol=0, atol=1e-5)
    cls_row = golden[f"attention_rows_{case}"].tolist().index(0)
    expected = golden[f"attention_{case}"][:, :, cls_row, 1:]
    np.testing.assert_allclose(result.attention.numpy(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("block", [0, 1, -1])
@pytest.mark.parametrize("facet", ["query", "key", "value", "token"])
def test_any_facet_of_any_block_equals_a_plain_vit(facet: str, block: int) -> None:
    backbone = tiny(facet=facet, block=block)
    pixels, geometries = make_input(backbone, 5, 7, batch=2)
    result = backbone(pixels, geometries, attention=True)
    expected = plain_vit(dict(backbone.model.state_dict()), pixels, block % 3, heads=3)
    assert result.cls is not None
    torch.testing.assert_close(result.tokens, expected[facet][:, 1:], rtol=0, atol=1e-5)
    torch.testing.assert_close(result.cls, expected[facet][:, 0], rtol=0, atol=1e-5)
    torch.testing.assert_close(result.attention, expected["attention"][:, :, 0, 1:], rtol=0, atol=1e-6)


@pytest.mark.parametrize("architecture", EVERY)
def test_keys_and_attention_equal_the_outputs_of_hooks_in_the_model(architecture: str) -> None:
    backbone = tiny(architecture, position="timm")
    pixels, geometries = make_input(backbone, 4, 6)
    result = backbone(pixels, geometries, attention=True)
    seen, last = {}, backbone.model.blocks[-1].attn
    last.fused_attn = False
    hooks = [
        last.qkv.register_forward_hook(lambda module, inputs, output: seen.update(qkv=output)),
        last.attn_drop.register_forward_hook(lambda module, inputs, output: seen.update(attention=output)),
    ]
    with torch.no_grad():
        backbone.model(pixels)
    for hook in hooks:
        hook.remove()
    prefix = backbone.model.num_prefix_tokens
    torch.testing.assert_close(result.tokens, seen["qkv"][:, prefix:, 48:96], rtol=0, atol=1e-5)
    torch.testing.assert_close(result.attention, seen["attention"][:, :, 0, prefix:], rtol=0, atol=1e-6)
    assert (result.registers is None) == (prefix == 1)
    if result.registers is not None:
        torch.testing.assert_close(result.registers, seen["qkv"][:, 1:prefix, 48:96], rtol=0, atol=1e-5)


def test_separate_biases_of_queries_and_values_are_applied() -> None:
    backbone = tiny("vit_small_patch16_dinov3_qkvb.lvd1689m", facet="value")
    last = backbone.model.blocks[-1].attn
    torch.nn.init.normal_(last.q_bias, generator=torch.Generator().manual_seed(1))
    torch.nn.init.normal_(last.v_bias, generator=torch.Generator().manual_seed(2))
    pixels, geometries = make_input(backbone, 4, 6)
    result, seen = backbone(pixels, geometries, attention=True), {}
    last.fused_attn = False
    last.attn_drop.register_forward_hook(lambda module, inputs, output: seen.update(attention=output))
    last.norm.register_forward_pre_hook(lambda module, inputs: seen.update(mixed=inputs[0]))
    with torch.no_grad():
        backbone.model(pixels)
    torch.testing.assert_close(result.attention, seen["attention"][:, :, 0, 5:], rtol=0, atol=1e-6)
    assert result.cls is not None
    assert result.registers is not None
    values = torch.cat([result.cls[:, None], result.registers, result.tokens], dim=1).reshape(1, 29, 3, 16).transpose(1, 2)
    mixed = (seen["attention"] @ values).transpose(1, 2).flatten(2)
    torch.testing.assert_close(mixed, seen["mixed"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", EVERY)
def test_tokens_equal_the_models_own_output(architecture: str) -> None:
    backbone = tiny(architecture, facet="token", position="timm")
    pixels, geometries = make_input(backbone, 3, 5)
    with torch.no_grad():
        expected = backbone.model.forward_features(pixels)[:, backbone.model.num_prefix_tokens :]
    torch.testing.assert_close(backbone(pixels, geometries).tokens, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", EVERY)
def test_keys_do_not_depend_on_the_batch(architecture: str) -> None:
    backbone = tiny(architecture)
    pixels, geometries = make_input(backbone, 5, 3, batch=3)
    together = backbone(pixels, geometries).tokens
    for i in range(3):
        alone = backbone(pixels[i : i + 1], geometries[:1]).tokens
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-5)


def test_concatenated_facets_keep_their_order() -> None:
    pixels, geometries = make_input(tiny(), 3, 3)
    single = [tiny(facet=name)(pixels, geometries).tokens for name in ("key", "query", "value")]
    together = tiny(facet="key+query+value")(pixels, geometries)
    assert torch.equal(together.tokens, torch.cat(single, dim=2))
    assert together.kind == "key+query+value"


def test_only_the_needed_modules_of_the_last_block_run_and_no_hook_remains() -> None:
    backbone = tiny()
    ran: list[str] = []
    last = backbone.model.blocks[-1]
    hooks = [
        module.register_forward_hook(lambda module, inputs, output, name=name: ran.append(name))
        for name, module in last.named_modules()
        if name in ("norm1", "attn.attn_drop", "attn.proj", "norm2", "mlp")
    ]
    backbone(*make_input(backbone, 3, 3))
    assert ran == ["norm1"]
    for hook in hooks:
        hook.remove()
    before = [dict(module.__dict__) for module in backbone.model.modules()]
    backbone(*make_input(backbone, 4, 3), attention=True)
    for module, attributes in zip(backbone.model.modules(), before, strict=True):
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert module.__dict__.keys() == attributes.keys()


def test_centering_removes_each_images_mean() -> None:
    plain, centered = tiny(), tiny(center=True)
    pixels, geometries = make_input(plain, 4, 5, batch=2)
    tokens = plain(pixels, geometries).tokens
    expected = tokens - tokens.mean(dim=1, keepdim=True)
    torch.testing.assert_close(centered(pixels, geometries).tokens, expected, rtol=0, atol=1e-6)


def test_amp_gives_float32_tokens_close_to_full_precision() -> None:
    full, half = tiny(), tiny(amp=True)
    pixels, geometries = make_input(full, 4, 5)
    expected, tokens = full(pixels, geometries).tokens, half(pixels, geometries).tokens
    assert tokens.dtype == torch.float32
    assert not torch.equal(tokens, expected)
    assert torch.nn.functional.cosine_similarity(tokens, expected, dim=2).min() > 0.999  # bfloat16 keeps 8 bits


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"facet": "keys"}, "backbone.facet must be query, key, value, token, or several joined by '\\+', got 'keys'"),
        ({"block": 3}, r"backbone.block must be in -3..2 for .*, got 3"),
        ({"position": "bilinear"}, "backbone.position must be 'dino' or 'timm', got 'bilinear'"),
        ({"architecture": "vit_huge_patch3"}, "backbone.architecture 'vit_huge_patch3' cannot be built by timm"),
        ({"model_args": {"wings": 2}}, "cannot be built by timm: .*wings"),
    ],
)
def test_options_are_rejected_at_construction(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**options)


def test_pixels_that_do_not_fit_the_patches_are_rejected() -> None:
    backbone = tiny()
    with pytest.raises(ValueError, match="pixels of 33x32 are not a multiple of the patch size 16"):
        backbone(torch.zeros(1, 3, 33, 32), [Geometry((32, 32), (32, 32), (32, 32), 16)])
