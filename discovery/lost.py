"""LOST: the salient object of an image from the signs of its patches' correlations (Siméoni et al., BMVC 2021).

Data flow: keys -> degree, the number of positively correlated patches -> patch of lowest degree (the seed) -> expansion to
similar patches of low degree -> patches that correlate with their sum -> component of the seed -> box.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from eigenseg.data.checks import check_choice, check_integer
from eigenseg.data.features import FeatureGrid
from eigenseg.data.geometry import Geometry, Size
from eigenseg.data.images import ImageArray
from eigenseg.data.instances import Instances
from eigenseg.data.preprocess import Preprocess
from eigenseg.discovery.grid import check_grid, component_of, mask_boxes
from eigenseg.discovery.method import PADDING, Padding, seed_points, token_instances, valid_tokens
from eigenseg.discovery.reasons import LOOK_ALIKE, too_few_reason
from eigenseg.discovery.spectral.checks import check_features, valid_or_all

# Products in memory at a time, 64 MB of float64: some rows of all images.
_TILE_ENTRIES = 2**23


class SeedExpansion(NamedTuple):
    """One object per image, in tokens."""

    mask: Tensor  # (B, gh, gw) bool, the seed's component; empty where there is no object
    box: Tensor  # (B, 4) int64 xyxy half-open; all 0 where there is no object
    seed: Tensor  # (B,) int64, row-major; 0 where no token is usable
    degree: Tensor  # (B, N) int64, positively correlated other tokens; N for tokens that are not usable
    expanded: Tensor  # (B, gh, gw) bool, S, the tokens that the seed was expanded to, itself included
    foreground: Tensor  # (B, gh, gw) bool, tokens that correlate with the sum over S
    usable: Tensor  # (B, N) bool, tokens that are valid and finite
    alike: Tensor  # (B,) bool, whether every usable token correlates with every other: no seed stands out
    non_finite: Tensor  # (B,) int64, valid tokens ignored because their features were not finite


@torch.no_grad()
def lost(tokens: Tensor, grid: Size, k: int = 100, valid: Tensor | None = None) -> SeedExpansion:
    """Find the seed of every image and expand it to an object.

    With A_pq = f_p . f_q of keys that are not normalized, the degree is d_p = #{q != p: A_pq > 0} and the seed
    p* = argmin d_p. Of the k patches of lowest degree those with A_{p* q} > 0 make up S (seed expansion); a patch p is
    foreground where sum_{q in S} A_pq > 0, and the 4-connected component around p* is the object. Equal degrees are ordered
    by index, so the result is deterministic; the published code's sort is not.

    Because A_{p* q} > 0 for all of S, the seed is background only if its key is 0 and S empty. The mask is empty then,
    where the published code raises. It is empty, too, if all degrees are the largest possible (an image of one color): the
    published code would take the first patch as the seed and the whole image as the object.

    Args:
        tokens: (B, N, D) floating, keys. Converted to float32; tokens that are not finite there are ignored.
        grid: (gh, gw) with gh * gw = N.
        k: candidates for S, at least 1; more than N means all. Published: 100.
        valid: (B, N) bool, False removes a token; None keeps all.

    Raises:
        TypeError: if the tokens are not a tensor.
        ValueError: if a shape or k is out of range.

    Example:
        >>> tokens = torch.tensor([[[1.0, 0.1], [1.0, 0.0], [-1.0, 1.0], [1.0, 0.2]]])
        >>> result = lost(tokens, (2, 2))
        >>> result.seed.tolist(), result.box.tolist()  # the token that correlates with the fewest others
        ([2], [[0, 1, 1, 2]])
    """
    check_features(tokens)
    check_integer("k", k, at_least=1)
    check_grid(tokens, grid, at_least=1)
    valid = valid_or_all(valid, tokens)

    finite = torch.isfinite(tokens.float().norm(dim=2))
    usable = valid & finite
    # Only signs count. Products of float32 numbers are exact in float64, so no sign depends on the batch or the machine.
    keys = torch.where(usable[:, :, None], tokens.float(), 0.0).double()
    degree = torch.where(usable, _positive_degrees(keys), tokens.shape[1])
    order = degree.argsort(dim=1, stable=True)
    seed = order[:, 0]
    candidates = torch.zeros_like(usable).scatter_(1, order[:, :k], True)
    seed_key = keys.gather(1, seed[:, None, None].expand(-1, 1, keys.shape[2]))  # (B, 1, D)
    expanded = candidates & ((keys @ seed_key.mT)[:, :, 0] > 0)
    # The rows of A over S are never built: their sum is a product with the sum of the keys.
    total = expanded[:, None].double() @ keys  # (B, 1, D)
    foreground = ((keys @ total.mT)[:, :, 0] > 0).view(-1, *grid)

    most = usable.sum(dim=1, keepdim=True) - 1
    alike = ((degree == most) | ~usable).all(dim=1)
    mask = component_of(foreground & ~alike[:, None, None], seed)
    return SeedExpansion(
        mask=mask,
        box=mask_boxes(mask),
        seed=seed,
        degree=degree,
        expanded=expanded.view(-1, *grid),
        foreground=foreground,
        usable=usable,
        alike=alike,
        non_finite=(valid & ~finite).sum(dim=1),
    )


class LOST:
    """LOST as a method: features of a batch in, one ``Instances`` per image out, in original pixels.

    Each result holds one instance, or none with ``metadata["reason"]``. Its score is 1 - d / (n - 1) with the seed's
    degree d among n tokens: 1 for a seed that correlates with no other token, 0 for one that correlates with all. It
    says how much the seed stands out, not whether the component is an object. Extras: ``seed`` (token index),
    ``seed_point`` (x, y in pixels), ``degree`` (d), ``seeds`` (size of S, the tokens that the seed was expanded to).

    Args:
        k: as in ``lost``.
        padding: ``"keep"`` uses tokens with padding, as published; ``"drop"`` ignores them.

    Raises:
        ValueError: if a parameter is out of range.
    """

    preprocess = Preprocess(mode="pad")
    needs_attention = False

    def __init__(self, k: int = 100, padding: Padding = "keep") -> None:
        check_integer("k", k, at_least=1)
        check_choice("padding", padding, PADDING)
        self.k, self.padding = k, padding

    def __call__(self, features: FeatureGrid, images: Sequence[ImageArray]) -> list[Instances]:
        """Find the object of every image of a batch."""
        if not len(features):
            return []
        expansion = lost(features.tokens, features.grid, self.k, valid_tokens(features, self.padding))
        return [_instances(expansion, features.geometries[i], i) for i in range(len(features))]


def _positive_degrees(keys: Tensor) -> Tensor:
    """#{q != p: f_p . f_q > 0} of (B, N, D): (B, N) int64, without holding all products in memory."""
    batch, tokens, _ = keys.shape
    degrees = torch.empty(batch, tokens, dtype=torch.int64, device=keys.device)
    rows = max(1, _TILE_ENTRIES // (batch * tokens))
    for top in range(0, tokens, rows):
        degrees[:, top : top + rows] = (keys[:, top : top + rows] @ keys.mT > 0).sum(dim=2)
    return degrees - (keys != 0).any(dim=2).long()  # a token correlates with itself unless it is 0


def _instances(expansion: SeedExpansion, geometry: Geometry, i: int) -> Instances:
    seed, others = int(expansion.seed[i]), int(expansion.usable[i].sum()) - 1
    degree = int(expansion.degree[i, seed])
    return token_instances(
        expansion.mask[i : i + 1],
        [1 - degree / max(1, others)],
        geometry,
        reason=_empty_reason(expansion, i),
        extras={
            "seed": [seed],
            "seed_point": seed_points(geometry, [seed]),
            "degree": [degree],
            "seeds": [int(expansion.expanded[i].sum())],
        },
        metadata={"non_finite_tokens": int(expansion.non_finite[i])},
    )


def _empty_reason(expansion: SeedExpansion, i: int) -> str:
    usable, non_finite = int(expansion.usable[i].sum()), int(expansion.non_finite[i])
    too_few = too_few_reason(expansion.usable.shape[1], usable, non_finite, "stand out")
    if too_few is not None:
        return too_few
    if expansion.alike[i]:
        return f"{LOOK_ALIKE}, every one correlates positively with every other"
    if not expansion.mask[i].any():
        return "the token that correlates with the fewest others is zero, and correlates with none"
    return "the object lies in the padding"
