"""DINO-seg: the object as the patches that one head attends to (baseline of LOST, Siméoni et al., BMVC 2021).

Data flow: CLS attention of a head -> patches with most of its mass (Caron et al., ICCV 2021) -> 4-connected components ->
the largest -> box.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor

from eigenseg.data.checks import Compat, check_choice, check_compat, check_integer
from eigenseg.data.features import FeatureGrid
from eigenseg.data.geometry import Geometry, Size
from eigenseg.data.images import ImageArray
from eigenseg.data.instances import Instances
from eigenseg.data.preprocess import Preprocess
from eigenseg.discovery.checks import check_attention, require_attention
from eigenseg.discovery.grid import component_sizes, label_components, mask_boxes
from eigenseg.discovery.method import PADDING, Padding, seed_points, token_instances, valid_tokens
from eigenseg.discovery.spectral.checks import valid_or_all
from eigenseg.discovery.spectral.result import peak_index


class AttentionSegment(NamedTuple):
    """One object per image, in patches."""

    mask: Tensor  # (B, gh, gw) bool, the chosen component; empty where there is no object
    box: Tensor  # (B, 4) int64 xyxy half-open; all 0 where there is no object
    attended: Tensor  # (B, gh, gw) bool, all patches that were kept
    labels: Tensor  # (B, gh, gw) int64, 4-connected components of them, 1, 2, ... by first patch; 0 is the rest
    chosen: Tensor  # (B,) int64, label of ``mask``
    fraction: Tensor  # (B, N) float64, each patch's fraction of the head's attention to patches; 0 if there is none
    flat: Tensor  # (B,) bool, whether all patches get equal attention or none: no patch stands out
    non_finite: Tensor  # (B,) int64, patches ignored because their attention was not finite


@torch.no_grad()
def dino_seg(
    attention: Tensor,
    grid: Size,
    attention_head: int = 4,
    keep: float = 0.6,
    valid: Tensor | None = None,
    compat: Compat = None,
) -> AttentionSegment:
    """Keep the patches with the top ``keep`` of a head's attention; the largest component is the object.

    The attention is renormalized over the patches and sorted in ascending order; a patch is kept if the cumulative sum
    up to it is above 1 - keep (strict). Of equal values the lower index comes first; of equal components the one whose
    first patch comes first is taken. Attention without contrast has no object.

    ``compat="reference"`` is the published choice of a component, which never considers the last one: among several the
    largest of the others is taken, and with a single component the background.

    Args:
        attention: (B, heads, N) floating, at least 0: softmax attention of CLS to the patches. Patches where it is not
            finite are counted and ignored.
        grid: (gh, gw) with gh * gw = N.
        attention_head: index of the head, from 0. Published: 4.
        keep: fraction of the attention that is kept, in (0, 1). Published: 0.6.
        valid: (B, N) bool, False removes a patch; None keeps all.
        compat: ``"reference"`` for the published off-by-one error.

    Raises:
        TypeError: if the attention is not a tensor.
        ValueError: if a shape or parameter is out of range.

    Example:
        >>> attention = torch.tensor([[[0.4, 0.3, 0.05, 0.05, 0.05, 0.15]]])
        >>> dino_seg(attention, (2, 3), attention_head=0).mask.int().tolist()
        [[[1, 1, 0], [0, 0, 0]]]
    """
    check_attention(attention, grid)
    check_segment_parameters(attention_head, keep, compat)
    batch, heads, _ = attention.shape
    if attention_head >= heads:
        raise ValueError(f"attention_head must be in 0..{heads - 1}, the attention has {heads} heads, got {attention_head}")
    valid = valid_or_all(valid, attention[:, 0])
    chosen_head = attention[:, attention_head]
    finite = torch.isfinite(chosen_head)
    usable = valid & finite
    weight = torch.where(usable, chosen_head, 0.0).double()
    if (weight < 0).any():
        raise ValueError(f"attention must be at least 0, as after a softmax, got {float(weight.min()):g}")

    total = weight.sum(dim=1, keepdim=True)
    fraction = weight / torch.where(total > 0, total, 1.0)
    ascending, order = fraction.sort(dim=1, stable=True)
    enough = ascending.cumsum(dim=1) > 1 - keep
    enough[:, -1] = True  # the most attended patch, regardless of rounding
    kept = torch.zeros_like(usable).scatter_(1, order, enough)
    lowest = torch.where(usable, weight, torch.inf).amin(dim=1)
    flat = ~(weight.amax(dim=1) > lowest)  # so is a single patch, or none
    attended = (kept & usable & ~flat[:, None]).view(batch, *grid)
    labels, counts = label_components(attended)
    sizes = component_sizes(labels)
    sizes[:, 0] = 0  # the background is not a candidate
    if compat == "reference":
        sizes.scatter_(1, counts[:, None], 0)
    chosen = sizes.argmax(dim=1)  # the first of the largest; 0 if there is none
    mask = (labels == chosen[:, None, None]) & ~flat[:, None, None]
    return AttentionSegment(
        mask=mask,
        box=mask_boxes(mask),
        attended=attended,
        labels=labels,
        chosen=chosen,
        fraction=fraction,
        flat=flat,
        non_finite=(valid & ~finite).sum(dim=1),
    )


class DinoSeg:
    """DINO-seg as a method: features of a batch in, one ``Instances`` per image out, in original pixels.

    Each result holds one instance, or none with ``metadata["reason"]``. Its score is the fraction of the head's attention
    to patches that falls on the component: 1 if the head attends to no other patch. Extras: ``seed`` (the component's
    most attended token), ``seed_point`` (x, y in pixels), ``components`` (how many there were to choose from).

    Args:
        attention_head, keep, compat: as in ``dino_seg``.
        padding: ``"keep"`` uses patches with padding, as published; ``"drop"`` ignores them.

    Raises:
        ValueError: if a parameter is out of range.
    """

    preprocess = Preprocess(mode="pad")
    needs_attention = True

    def __init__(
        self,
        attention_head: int = 4,
        keep: float = 0.6,
        padding: Padding = "keep",
        compat: Compat = None,
    ) -> None:
        check_segment_parameters(attention_head, keep, compat)
        check_choice("padding", padding, PADDING)
        self.attention_head, self.keep, self.padding, self.compat = attention_head, keep, padding, compat

    def __call__(self, features: FeatureGrid, images: Sequence[ImageArray]) -> list[Instances]:
        """Find the object of every image of a batch.

        Raises:
            ValueError: if the features carry no attention, or too few heads.
        """
        attention = require_attention(features.attention, "DinoSeg")
        if not len(features):
            return []
        valid = valid_tokens(features, self.padding)
        segment = dino_seg(attention, features.grid, self.attention_head, self.keep, valid, self.compat)
        return [_instances(segment, features.geometries[i], i) for i in range(len(features))]


def check_segment_parameters(attention_head: Any, keep: Any, compat: Any) -> None:
    """Raise if a parameter is out of range; values from a yaml may have any type.

    Raises:
        ValueError: naming the parameter.
    """
    check_integer("attention_head", attention_head, at_least=0)
    if not (isinstance(keep, Real) and 0 < float(keep) < 1):
        raise ValueError(f"keep must be a number in (0, 1), got {keep!r}")
    check_compat(compat)


def _instances(segment: AttentionSegment, geometry: Geometry, i: int) -> Instances:
    on_object = torch.where(segment.mask[i].flatten(), segment.fraction[i], 0.0)
    seed = int(peak_index(on_object))
    return token_instances(
        segment.mask[i : i + 1],
        [min(1.0, float(on_object.sum()))],  # a sum of fractions may round above 1
        geometry,
        reason=_empty_reason(segment, i),
        extras={
            "seed": [seed],
            "seed_point": seed_points(geometry, [seed]),
            "components": [int(segment.labels[i].max())],
        },
        metadata={"non_finite_tokens": int(segment.non_finite[i])},
    )


def _empty_reason(segment: AttentionSegment, i: int) -> str:
    if not segment.flat[i]:
        return "the attended patches lie in the padding"
    if segment.non_finite[i]:
        return "no patch stands out among those whose attention is finite; check the backbone's precision"
    return "the head attends to all patches equally"
