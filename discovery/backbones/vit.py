"""Self-supervised ViTs (DINO, DINOv2, DINOv3) as feature extractors: any facet of any block, no hooks.

A facet is the output of the qkv layer of a block's attention, heads concatenated, before any further normalization or
rotation (TokenCut and its successors use the keys of the last block), or the block's output after the final LayerNorm. Only
what the facet needs is computed: for keys of the last block no more than its LayerNorm and qkv.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import apply_rot_embed_cat
from timm.models.eva import Eva
from torch import Tensor, nn

from eigenseg.data.checks import check_choice
from eigenseg.data.features import FeatureGrid
from eigenseg.data.geometry import Geometry
from eigenseg.data.preprocess import Preprocess
from eigenseg.discovery.backbones.base import IMAGENET_MEAN, IMAGENET_STD, QKV, check_facet
from eigenseg.discovery.backbones.positions import PositionRule, resize_positions
from eigenseg.discovery.backbones.weights import RANDOM, load_vit

logger = logging.getLogger(__name__)


class ViTBackbone:
    """A frozen timm ViT.

    Args:
        architecture: timm's name.
        weights: ``"pretrained"``, ``"random"``, a path, or a state dict; see ``load_vit``.
        facet: one of key, query, value, token, or several joined by ``+`` (``"key+query+value"``), concatenated in this
            order.
        block: index of the block, from 0, or from the end when negative.
        position: how learned position embeddings are resized, ``"dino"`` or ``"timm"``; rotary models ignore it.
        center: subtract each image's mean token; makes random weights usable.
        amp: run the network under bfloat16 autocast; tokens are float32 either way.
        seed: of random weights.
        cached_as: the authors' file name in torch hub's checkpoint folder.
        model_args: further arguments of the timm model.

    Raises:
        FileNotFoundError: if no weights are available.
        ValueError: if an option or the weights do not fit.
    """

    mean, std = IMAGENET_MEAN, IMAGENET_STD
    preprocess = Preprocess()
    has_attention = True

    def __init__(
        self,
        architecture: str,
        weights: str | os.PathLike[str] | Mapping[str, Tensor] = "pretrained",
        facet: str = "key",
        block: int = -1,
        position: PositionRule = "timm",
        center: bool = False,
        amp: bool = False,
        seed: int = 0,
        cached_as: str | None = None,
        model_args: Mapping[str, Any] | None = None,
    ) -> None:
        check_facet("backbone.facet", facet)
        self.facets = tuple(facet.split("+"))
        check_choice("backbone.position", position, ("dino", "timm"))
        self.model, self._origin = load_vit(architecture, weights, cached_as, model_args, seed)
        self.model.requires_grad_(False)
        depth = len(self.model.blocks)  # type: ignore[arg-type]
        if not -depth <= block < depth:
            raise ValueError(f"backbone.block must be in {-depth}..{depth - 1} for {architecture}, got {block}")
        self.block = block % depth
        self.architecture, self.facet, self.position = architecture, facet, position
        self.center, self.amp = center, amp
        self.patch_size: int = self.model.patch_embed.patch_size[0]  # type: ignore[union-attr, index, assignment]
        if weights == RANDOM:
            logger.warning("%s has random weights (seed %d): its results are meaningless", architecture, seed)

    def to(self, device: torch.device) -> ViTBackbone:
        """Move the network to a device; returns itself."""
        self.model.to(device)
        return self

    def provenance(self) -> dict[str, Any]:
        """Architecture and origin of the weights."""
        return {"architecture": self.architecture, "weights": self._origin}

    @torch.no_grad()
    def __call__(self, pixels: Tensor, geometries: Sequence[Geometry], attention: bool = False) -> FeatureGrid:
        """Encode a batch of equal size; see ``Backbone``.

        Args:
            pixels: (B, 3, h, w) float32, normalized.
            geometries: one per image.
            attention: also return the softmax attention of CLS to the patches in this block, (B, heads, N).
        """
        height, width = pixels.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(f"pixels of {height}x{width} are not a multiple of the patch size {self.patch_size}")
        pixels = pixels.to(next(self.model.parameters()).device)
        with self._precision(pixels.device):
            states, rotation = embed_patches(self.model, pixels, self.position)
            blocks: Any = self.model.blocks
            for block in blocks[: self.block]:
                states = block(states, **rotation)
            last = blocks[self.block]
            facets = self._facets(last, states, rotation)
        combined = torch.cat([facets[name] for name in self.facets], dim=-1)
        prefix: int = self.model.num_prefix_tokens  # type: ignore[assignment]
        tokens = combined[:, prefix:]
        if self.center:
            tokens = tokens - tokens.mean(dim=1, keepdim=True)
        return FeatureGrid(
            tokens=tokens,
            grid=(height // self.patch_size, width // self.patch_size),
            kind=self.facet,
            geometries=tuple(geometries),
            cls=combined[:, 0],
            registers=combined[:, 1:prefix] if prefix > 1 else None,
            attention=self._cls_attention(last.attn, facets, rotation)[:, :, prefix:] if attention else None,
        )

    def _facets(self, block: Any, states: Tensor, rotation: dict[str, Tensor]) -> dict[str, Tensor]:
        """The facets of a block that the tokens or the attention may need: name -> (B, prefix + N, D) float32."""
        facets = dict(zip(QKV, project_qkv(block.attn, block.norm1(states)), strict=True))
        if "token" in self.facets:
            facets["token"] = self.model.norm(block(states, **rotation))  # type: ignore[operator]
        return {name: value.float() for name, value in facets.items()}

    def _cls_attention(self, attn: Any, facets: dict[str, Tensor], rotation: dict[str, Tensor]) -> Tensor:
        """softmax(q_CLS K^T / sqrt(d)): (B, heads, prefix + N)."""
        heads = attn.num_heads
        query, key = (facets[name].reshape(*facets[name].shape[:2], heads, -1).transpose(1, 2) for name in ("query", "key"))
        query, key = attn.q_norm(query[:, :, :1]), attn.k_norm(key)
        if rotation:
            # CLS and registers have no position in the image, so only patches are rotated.
            prefix = attn.num_prefix_tokens
            rotated = apply_rot_embed_cat(key[:, :, prefix:], rotation["rope"], half=attn.rotate_half)
            key = torch.cat([key[:, :, :prefix], rotated], dim=2)
        attention: Tensor = (query @ key.mT * attn.scale).softmax(dim=-1)
        return attention[:, :, 0]

    def _precision(self, device: torch.device) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(device.type, dtype=torch.bfloat16) if self.amp else contextlib.nullcontext()


def embed_patches(model: Any, pixels: Tensor, position: PositionRule) -> tuple[Tensor, dict[str, Tensor]]:
    """Input of a ViT's first block: embedded patches with positions, CLS and registers.

    Args:
        model: timm's VisionTransformer or Eva, built with ``dynamic_img_size``.
        pixels: (B, 3, h, w) normalized.
        position: how the position table is resized.

    Returns:
        (B, prefix + N, D), and keyword arguments for every block: the rotary embedding of an Eva, else none.
    """
    patches = model.patch_embed(pixels)  # (B, gh, gw, D)
    if isinstance(model, Eva):
        states, rope = model._pos_embed(patches)
        return model.norm_pre(states), {"rope": rope}
    grid = (patches.shape[1], patches.shape[2])
    prefix = [token.expand(len(pixels), -1, -1) for token in (model.cls_token, model.reg_token) if token is not None]
    in_table = 0 if model.no_embed_class else model.num_prefix_tokens
    table = resize_positions(model.pos_embed, grid, in_table, position)
    states = patches.flatten(1, 2)
    states = torch.cat([*prefix, states + table], dim=1) if in_table == 0 else torch.cat([*prefix, states], dim=1) + table
    return model.norm_pre(states), {}


def project_qkv(attn: nn.Module, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of timm's Attention or EvaAttention: each (B, T, D), heads concatenated, not yet rotated."""
    layer: Any = attn
    if layer.qkv is None:
        return layer.q_proj(states), layer.k_proj(states), layer.v_proj(states)
    bias = layer.qkv.bias
    if getattr(layer, "q_bias", None) is not None:  # Eva has no trained bias for the keys
        bias = torch.cat([layer.q_bias, layer.k_bias, layer.v_bias])
    query, key, value = F.linear(states, layer.qkv.weight, bias).chunk(3, dim=-1)
    return query, key, value
