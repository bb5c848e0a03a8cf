"""DINO-seg: the object as the patches that one attention head looks at (baseline of LOST, Siméoni et al., BMVC 2021).

Data flow: CLS attention of a head -> patches that hold most of it (Caron et al., ICCV 2021) -> 4-connected components ->
the largest -> box.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from eigenseg.data.checks import check_choice, check_integer
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

Compat = Literal["reference"] | None


class AttentionSegment(NamedTuple):
    """One object per image, in patches."""

    mask: Tensor  # (B, gh, gw) bool, the chosen component; empty where there is no object
    box: Tensor  # (B, 4) int64 xyxy half-open; all 0 where there is no object
    attended: Tensor  # (B, gh, gw) bool, all patches that were kept
    labels: Tensor  # (B, gh, gw) int64, 4-connected components of them, 1, 2, ... by first patch; 0 is the rest
    chosen: Tensor  # (B,) int64, label of ``mask``
    fraction: Tensor  # (B, N) float64, of the head's attention to patches, that falls on each; 0 where there is none
    flat: Tensor  # (B,) bool, whether all patches get equal attention or none: nothing stands out
    non_finite: Tensor  # (B,) int64, patches ignored because their attention was not finite


@torch.no_grad()
def dino_seg(
    attention: Tensor,
    grid: Size,
    head: int = 4,
    keep: float = 0.6,
    valid: Tensor | None = None,
    compat: Compat = None,
) -> AttentionSegment:
    """Keep the patches that hold the top ``keep`` of a head's attention; the largest component is the object.

    The attention is renormalized over the patches and sorted in ascending order; a patch is kept where the cumulative sum
    up to it is above 1 - keep (strict). Of equal values the one of the lower index comes first; of equal components the
    one whose first patch comes first wins. Attention without contrast has no object.

    ``compat="reference"`` is the published choice of a component, which never considers the last one: among several the
    largest of all others is taken, and with a single component the background, whose box then is the object's.

    Args:
        attention: (B, heads, N) floating, at least 0: softmax attention of CLS to the patches. Patches where it is not
            finite are counted and ignored.
        grid: (gh, gw) with gh * gw = N.
        head: which head, from 0. Published: 4.
        keep: fraction of the attention that is kept, in (0, 1). Published: 0.6.
        valid: (B, N) bool, False takes a patch out; None keeps all.
        compat: ``"reference"`` for the published off-by-one.

    Raises:
        TypeError: if the attention is no tensor.
        ValueError: if a shape or parameter is out of range.
    """
    check_attention(attention, grid)
    check_segment_parameters(head, keep, compat)
    batch, heads, _ = attention.shape
    if head >= heads:
        raise ValueError(f"head must be in 0..{heads - 1}, the attention has {heads} heads, got {head}")
    valid = valid_or_all(valid, attention[:, 0])
    chosen_head = attention[:, head]
    finite = torch.isfinite(chosen_head)
    usable = valid & finite
    weight = torch.where(usable, chosen_head, 0.0).double()
    if (weight < 0).any():
        raise ValueError(f"attention must be at least 0, as after a softmax, got {float(weight.min()):g}")

    total = weight.sum(dim=1, keepdim=True)
    fraction = weight / torch.where(total > 0, total, 1.0)
    ascending, order = fraction.sort(dim=1, stable=True)
    enough = ascending.cumsum(dim=1) > 1 - keep
    enough[:, -1] = True  # the most attended patch, whatever the rounding
    kept = torch.zeros_like(usable).scatter_(1, order, enough)
    lowest = torch.where(usable, weight, torch.inf).amin(dim=1)
    flat = ~(weight.amax(dim=1) > lowest)  # a single patch is flat, no patch too
    attended = (kept & usable & ~flat[:, None]).view(batch, *grid)
    labels, counts = label_components(attended)
    sizes = component_sizes(labels)
    sizes[:, 0] = 0  # the background is no candidate
    if compat == "reference":
        sizes.scatter_(1, counts[:, None], 0)
    chosen = sizes.argmax(dim=1)  # the first of the largest; 0 where there is none
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
    to patches that falls on the component: 1 where the head looks at nothing else. Extras: ``seed`` (the component's
    most attended token), ``seed_point`` (x, y in pixels), ``components`` (how many there were to choose from).

    Args:
        head, keep, compat: as in ``dino_seg``.
        padding: ``"keep"`` lets patches that hold padding take part, as published; ``"drop"`` takes them out.

    Raises:
        ValueError: if a parameter is out of range.
    """

    preprocess = Preprocess(mode="pad")
    needs_attention = True

    def __init__(
        self,
        head: int = 4,
        keep: float = 0.6,
        padding: Padding = "keep",
        compat: Compat = None,
    ) -> None:
        check_segment_parameters(head, keep, compat)
        check_choice("padding", padding, PADDING)
        self.head, self.keep, self.padding, self.compat = head, keep, padding, compat

    def __call__(self, features: FeatureGrid, images: Sequence[ImageArray]) -> list[Instances]:
        """Find the object of every image of a batch.

        Raises:
            ValueError: if the features carry no attention, or not as many heads.
        """
        attention = require_attention(features.attention, "DinoSeg")
        if not len(features):
            return []
        valid = valid_tokens(features, self.padding)
        segment = dino_seg(attention, features.grid, self.head, self.keep, valid, self.compat)
        return [_instances(segment, features.geometries[i], i) for i in range(len(features))]


def check_segment_parameters(head: Any, keep: Any, compat: Any) -> None:
    """Refuse parameters without a meaning; a yaml may hold anything.

    Raises:
        ValueError: naming the parameter.
    """
    check_integer("head", head, at_least=0)
    if not (isinstance(keep, Real) and 0 < float(keep) < 1):
        raise ValueError(f"keep must be a number in (0, 1), got {keep!r}")
    check_choice("compat", compat, (None, "reference"))


def _instances(segment: AttentionSegment, geometry: Geometry, i: int) -> Instances:
    on_object = torch.where(segment.mask[i].flatten(), segment.fraction[i], 0.0)
    seed = int(peak_index(on_object))
    return token_instances(
        segment.mask[i : i + 1],
        [min(1.0, float(on_object.sum()))],  # a sum of fractions may round above 1
        geometry,
        reason=_why_nothing(segment, i),
        extras={
            "seed": [seed],
            "seed_point": seed_points(geometry, [seed]),
            "components": [int(segment.labels[i].max())],
        },
        metadata={"non_finite_tokens": int(segment.non_finite[i])},
    )


def _why_nothing(segment: AttentionSegment, i: int) -> str:
    if not segment.flat[i]:
        return "what is attended lies in the padding"
    if segment.non_finite[i]:
        return "no patch stands out among those whose attention is finite; check the backbone's precision"
    return "the head looks at all patches alike"
