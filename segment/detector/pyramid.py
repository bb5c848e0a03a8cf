"""Trunks and their feature pyramids.

======  ============================================================================================
trunk   pyramid
======  ============================================================================================
ResNet  FPN of its four stages, strides 4 to 32 (Lin et al., CVPR 2017)
ViT     simple feature pyramid of its last tokens, strides 4 to 32 (Li et al., ViTDet, ECCV 2022)
======  ============================================================================================

A further level, every second pixel of the coarsest one, serves proposals alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from timm.layers import LayerNorm2d
from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from eigenseg.discovery.backbones.vit import embed_patches
from eigenseg.discovery.backbones.weights import load_vit
from eigenseg.segment.detector.settings import GROUPS, Architecture

LEVELS = ("0", "1", "2", "3")
# Tokens of other sizes do not divide into strides of whole pixels; images are resized so that a token covers this many.
_CELL = 16


def resnet_pyramid(architecture: Architecture) -> nn.Module:
    """A ResNet with random weights and its FPN, levels "0" to "3" and "pool"."""
    norms: dict[str, Callable[..., nn.Module]] = {
        "batch": nn.BatchNorm2d,
        "frozen": FrozenBatchNorm2d,
        "group": lambda channels: nn.GroupNorm(GROUPS, channels),
    }
    network = getattr(resnet, architecture.trunk)(weights=None, norm_layer=norms[architecture.norm])
    widths = [network.inplanes // 8 * 2**level for level in range(4)]
    stages = {f"layer{level + 1}": name for level, name in enumerate(LEVELS)}
    # Frozen statistics belong to trained weights, which the pyramid does not have.
    norm = None if architecture.norm == "frozen" else norms[architecture.norm]
    pyramid: nn.Module = BackboneWithFPN(network, stages, widths, architecture.channels, LastLevelMaxPool(), norm)
    return pyramid


class ViTPyramid(nn.Module):
    """A ViT and a simple feature pyramid: its last tokens at four times to half their resolution.

    Args:
        architecture: ``trunk`` and ``channels``.
        seed: of the random weights.
    """

    def __init__(self, architecture: Architecture, seed: int) -> None:
        super().__init__()
        self.body, _ = load_vit(architecture.trunk, "random", seed=seed)
        body: Any = self.body
        width, self.patch = body.embed_dim, body.patch_embed.patch_size[0]
        self.cell = self.patch if self.patch % 4 == 0 else _CELL
        self.size_divisible = 2 * max(self.cell, _CELL)
        self.out_channels = architecture.channels
        half, quarter = width // 2, width // 4
        quadruple = (
            nn.ConvTranspose2d(width, half, 2, 2),
            LayerNorm2d(half),
            nn.GELU(),
            nn.ConvTranspose2d(half, quarter, 2, 2),
        )
        resized: list[tuple[int, tuple[nn.Module, ...]]] = [
            (quarter, quadruple),
            (half, (nn.ConvTranspose2d(width, half, 2, 2),)),
            (width, ()),
            (width, (nn.MaxPool2d(2),)),
        ]
        self.levels = nn.ModuleList(
            nn.Sequential(
                *layers,
                nn.Conv2d(inputs, self.out_channels, 1, bias=False),
                LayerNorm2d(self.out_channels),
                nn.Conv2d(self.out_channels, self.out_channels, 3, padding=1, bias=False),
                LayerNorm2d(self.out_channels),
            )
            for inputs, layers in resized
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Levels "0" to "3" and "pool" of images (B, 3, h, w), sides multiples of ``size_divisible``."""
        grid = [side // self.cell for side in images.shape[-2:]]
        sides = [count * self.patch for count in grid]
        if sides != list(images.shape[-2:]):
            images = F.interpolate(images, sides, mode="bilinear", antialias=True)
        body: Any = self.body
        states, rotation = embed_patches(body, images, "timm")
        for block in body.blocks:
            states = block(states, **rotation)
        tokens = body.norm(states)[:, body.num_prefix_tokens :]
        maps = tokens.transpose(1, 2).unflatten(2, grid)
        levels = OrderedDict((name, level(maps)) for name, level in zip(LEVELS, self.levels, strict=True))
        levels["pool"] = levels["3"][:, :, ::2, ::2]
        return levels
