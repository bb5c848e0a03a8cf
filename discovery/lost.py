"""LOST: the salient object of an image from the signs of its patches' correlations (Siméoni et al., BMVC 2021).

Data flow: keys -> number of positively correlated patches -> patch with the fewest (the seed) -> those among the next few
that the seed correlates with -> patches that correlate with their sum -> component of the seed -> box.
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
from eigenseg.discovery.reasons import too_few_reason
from eigenseg.discovery.spectral.checks import check_features, valid_or_all

# Products that are in memory at once, 64 MB of float64: of all images together, some rows at a time.
_TILE_ENTRIES = 2**23


class SeedExpansion(NamedTuple):
    """One object per image, in tokens."""

    mask: Tensor  # (B, gh, gw) bool, the seed's component; empty where there is no object
    box: Tensor  # (B, 4) int64 xyxy half-open; all 0 where there is no object
    seed: Tensor  # (B,) int64, row-major; 0 where no token is usable
    degree: Tensor  # (B, N) int64, positively correlated other tokens; N where the token takes no part
    expanded: Tensor  # (B, gh, gw) bool, the seeds whose sum is compared with; the first one belongs to them
    foreground: Tensor  # (B, gh, gw) bool, everything that correlates with that sum
    usable: Tensor  # (B, N) bool, tokens that are valid and finite
    alike: Tensor  # (B,) bool, whether every usable token correlates with every other: no seed stands out
    non_finite: Tensor  # (B,) int64, valid tokens ignored because their features were not finite


@torch.no_grad()
def lost(tokens: Tensor, grid: Size, k: int = 100, valid: Tensor | None = None) -> SeedExpansion:
    """Find the seed of every image, and what belongs to it.

    With A_pq = f_p . f_q of keys that are not normalized, the degree is d_p = #{q != p: A_pq > 0} and the seed
    p* = argmin d_p. Of the k patches of lowest degree those with A_{p* q} > 0 make up S (seed expansion); a patch p is
    foreground where sum_{q in S} A_pq > 0, and the 4-connected component around p* is the object. Equal degrees are ordered
    by index, so there is one answer; the published code's sort leaves it open.

    Because A_{p* q} > 0 for all of S, the seed is background only where its key is 0 and S empty. There, where the
    published code raises, the mask is empty. It is empty, too, where all degrees are the largest possible (a picture of
    one color): the published code would take the first patch for the seed and the whole image for the object.

    Args:
        tokens: (B, N, D) floating, keys. Converted to float32; one that is not finite there takes no part.
        grid: (gh, gw) with gh * gw = N.
        k: candidates for S. Published: 100. More than N are all.
        valid: (B, N) bool, False takes a token out; None keeps all.

    Raises:
        TypeError: if the tokens are no tensor.
        ValueError: if a shape or k is out of range.

    Example:
        >>> tokens = torch.tensor([[[1.0, 0.1], [1.0, 0.0], [-0.1, 1.0], [1.0, 0.2]]])
        >>> result = lost(tokens, (2, 2))
        >>> result.seed.tolist(), result.box.tolist()  # the one token that few others correlate with
        ([2], [[0, 1, 1, 2]])
    """
    check_features(tokens)
    check_integer("k", k, at_least=1)
    check_grid(tokens, grid, at_least=1)
    valid = valid_or_all(valid, tokens)

    finite = torch.isfinite(tokens.float().norm(dim=2))
    usable = valid & finite
    # Only signs count. In float64 products of float32 numbers are exact, so that neither the batch nor the machine
    # decides about a sign.
    keys = torch.where(usable[:, :, None], tokens.float(), 0.0).double()
    degree = torch.where(usable, _positive_degrees(keys), tokens.shape[1])
    order = degree.argsort(dim=1, stable=True)
    seed = order[:, 0]
    candidates = torch.zeros_like(usable).scatter_(1, order[:, :k], True)
    seed_key = keys.gather(1, seed[:, None, None].expand(-1, 1, keys.shape[2]))  # (B, 1, D)
    expanded = candidates & ((keys @ seed_key.mT)[:, :, 0] > 0)
    # The rows of A over S are never built: their sum is the product with the sum of the keys.
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
    degree d among n tokens: 1 for a seed that correlates with nothing else, 0 for one that correlates with everything. It
    says how much the seed stands out, not whether the component is an object. Extras: ``seed`` (token index),
    ``seed_point`` (x, y in pixels), ``degree`` (d), ``seeds`` (size of S, the tokens that the seed was expanded to).

    Args:
        k: as in ``lost``.
        padding: ``"keep"`` lets tokens that hold padding take part, as published; ``"drop"`` takes them out.

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
    """#{q != p: f_p . f_q > 0} of (B, N, D): (B, N) int64, without ever holding all products."""
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
        reason=_why_nothing(expansion, i),
        extras={
            "seed": [seed],
            "seed_point": seed_points(geometry, [seed]),
            "degree": [degree],
            "seeds": [int(expansion.expanded[i].sum())],
        },
        metadata={"non_finite_tokens": int(expansion.non_finite[i])},
    )


def _why_nothing(expansion: SeedExpansion, i: int) -> str:
    usable, non_finite = int(expansion.usable[i].sum()), int(expansion.non_finite[i])
    too_few = too_few_reason(expansion.usable.shape[1], usable, non_finite, "stand out")
    if too_few is not None:
        return too_few
    if expansion.alike[i]:
        return "all tokens look alike, every one correlates positively with every other"
    if not expansion.mask[i].any():
        return "the token that correlates with the fewest others is zero, and resembles nothing"
    return "what stands out lies in the padding"
