"""FOUND's background: patches similar to the one with the least attention over all heads (Siméoni et al., CVPR 2023)."""

from __future__ import annotations

from numbers import Real
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from eigenseg.data.geometry import Size
from eigenseg.discovery.checks import check_attention
from eigenseg.discovery.spectral.checks import check_features, valid_or_all

TIE = 1e-9  # patches whose values differ by less, relatively, are tied; the lowest index is taken


class Background(NamedTuple):
    """The background of every image, in patches."""

    mask: Tensor  # (B, gh, gw) bool; includes patches that are not usable, and all of an image without an object
    seed: Tensor  # (B,) int64, row-major, the least attended patch; 0 if none is usable
    similarity: Tensor  # (B, N) float64, cosine of the weighted keys with the seed's, in [-1, 1]
    weights: Tensor  # (B, heads) float64, at least 0; 1 if not weighted
    density: Tensor  # (B, heads) float64, fraction of patches with attention above ``mean_attention``
    mean_attention: Tensor  # (B,) float64, mean attention over heads and patches
    usable: Tensor  # (B, N) bool, patches that are valid and finite
    has_contrast: Tensor  # (B,) bool, whether the attention differs between patches, and the seed's key is not 0
    non_finite: Tensor  # (B,) int64, valid patches ignored because their key or attention was not finite


@torch.no_grad()
def background(
    attention: Tensor,
    keys: Tensor,
    grid: Size,
    threshold: float = 0.3,
    epsilon: float = 1e-10,
    weighted: bool = True,
    valid: Tensor | None = None,
) -> Background:
    """Find the background, FOUND's first stage.

    The seed is r = argmin_p sum_h w_h a_h(p), and background is where cos((w_h k_h(p))_h, (w_h k_h(r))_h) > threshold
    (strict). A head that attends to fewer patches counts more: w_h = ln(sum_g (Q_g + eps) / (Q_h + eps)) with Q_h the
    fraction of patches where a_h exceeds the image's mean attention. A head that attends to no patch has Q = 0 and a
    weight of about 23, and dominates the others. If all patches are attended equally, all are background.

    Args:
        attention: (B, heads, N) floating, softmax attention of CLS to the patches in the last block.
        keys: (B, N, D) floating, the same block's keys, heads concatenated, D a multiple of heads.
        grid: (gh, gw) with gh * gw = N.
        threshold: of the cosine, in [-1, 1). Published: 0.3.
        epsilon: keeps the logarithm finite. Published: 1e-10.
        weighted: False sets all weights to 1.
        valid: (B, N) bool, False removes a patch; None keeps all.

    Raises:
        TypeError: if the attention or the keys are not a tensor.
        ValueError: if shapes or parameters are out of range, or ``weighted`` is set for a single head.
    """
    check_attention(attention, grid)
    check_features(keys)
    check_background_parameters(threshold, epsilon)
    batch, heads, count = attention.shape
    if keys.shape[:2] != (batch, count) or not keys.shape[2] or keys.shape[2] % heads:
        raise ValueError(f"keys must be ({batch}, {count}, a multiple of {heads} heads), got {tuple(keys.shape)}")
    if weighted and heads < 2:
        raise ValueError("weighted=True compares heads with each other, the attention has one; set weighted=False")
    valid = valid_or_all(valid, keys)
    finite = torch.isfinite(keys.float().norm(dim=2)) & torch.isfinite(attention).all(dim=1)
    usable = valid & finite
    attended = torch.where(usable[:, None], attention, 0.0).double()
    parts = torch.where(usable[:, :, None], keys, 0.0).double().view(batch, count, heads, -1)

    patches = usable.sum(dim=1).clamp(min=1)
    mean_attention = attended.sum(dim=(1, 2)) / (heads * patches)
    density = (attended > mean_attention[:, None, None]).sum(dim=2).double() / patches[:, None]
    weights = torch.ones_like(density)
    if weighted:
        weights = torch.log((density + epsilon).sum(dim=1, keepdim=True) / (density + epsilon))
    total = torch.where(usable, torch.einsum("bh,bhn->bn", weights, attended), torch.inf)
    lowest = total.amin(dim=1, keepdim=True)
    least = (total <= lowest + TIE * lowest.abs()) & usable
    seed = least.int().argmax(dim=1)  # argmax of 0/1 returns the first one

    weighted_keys = (parts * weights[:, None, :, None]).flatten(2)
    unit = F.normalize(weighted_keys, dim=2, eps=1e-12)
    unit_seed = unit.gather(1, seed[:, None, None].expand(-1, 1, unit.shape[2]))
    similarity = (unit @ unit_seed.mT)[:, :, 0]
    has_contrast = (usable & ~least).any(dim=1) & (unit_seed != 0).any(dim=2)[:, 0]
    mask = (similarity > threshold) | ~usable | ~has_contrast[:, None]
    return Background(
        mask=mask.view(batch, *grid),
        seed=seed,
        similarity=similarity,
        weights=weights,
        density=density,
        mean_attention=mean_attention,
        usable=usable,
        has_contrast=has_contrast,
        non_finite=(valid & ~finite).sum(dim=1),
    )


def check_background_parameters(threshold: Any, epsilon: Any) -> None:
    """Raise if a parameter is out of range; values from a yaml may have any type.

    Raises:
        ValueError: naming the parameter.
    """
    if not (isinstance(threshold, Real) and -1 <= float(threshold) < 1):
        raise ValueError(f"threshold must be a number in [-1, 1), got {threshold!r}")
    if not (isinstance(epsilon, Real) and 0 < float(epsilon) < 1):
        raise ValueError(f"epsilon must be a number in (0, 1), got {epsilon!r}")
