"""DINO-seg: the object as the patches that one attention head looks at (baseline of LOST, Siméoni et al., BMVC 2021).

Data flow: CLS attention of a head -> patches that hold most of it (Caron et al., ICCV 2021) -> 4-connected components ->
the largest -> box. Also here: components of a batch of token grids, which FOUND uses as well.
"""

from __future__ import annotations

from numbers import Real
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from eigenseg.data import FeatureGrid, Instances, Preprocess
from eigenseg.discovery.partition import mask_boxes
from eigenseg.discovery.spectral import peak_index

Compat = Literal["reference"] | None


class AttentionSegment(NamedTuple):
    """One object per image, in patches."""

    mask: Tensor  # (B, gh, gw) bool, the chosen component; empty where there is no object
    box: Tensor  # (B, 4) int64 xyxy half-open; all 0 where there is no object
    attended: Tensor  # (B, gh, gw) bool, all patches that were kept
    labels: Tensor  # (B, gh, gw) int64, 4-connected components of them, 1, 2, ... by first patch; 0 is the rest
    chosen: Tensor  # (B,) int64, label of ``mask``
    share: Tensor  # (B, N) float64, what of the head's attention to patches falls on each; 0 where there is none
    flat: Tensor  # (B,) bool, whether all patches get equal attention or none: nothing stands out
    non_finite: Tensor  # (B,) int64, patches ignored because their attention was not finite


@torch.no_grad()
def dino_seg(
    attention: Tensor,
    grid: tuple[int, int],
    head: int = 4,
    keep: float = 0.6,
    valid: Tensor | None = None,
    compat: Compat = None,
) -> AttentionSegment:
    """Keep the patches that hold the top ``keep`` of a head's attention; the largest component is the object.

    The attention is renormalised over the patches and sorted in ascending order; a patch is kept where the cumulative sum
    up to it is above 1 - keep (strict). Of equal values the one of the lower index comes first; of equal components the
    one whose first patch comes first wins. Attention without contrast has no object.

    ``compat="reference"`` is the published choice of a component, which never considers the last one: among several the
    largest of all others is taken, and with a single component the background, whose box then is the object's.

    Args:
        attention: (B, heads, N) floating, at least 0: softmax attention of CLS to the patches. Patches where it is not
            finite are counted and ignored.
        grid: (gh, gw) with gh * gw = N.
        head: which head, from 0. Published: 4.
        keep: share of the attention that is kept, in (0, 1). Published: 0.6.
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
    valid = all_or(valid, attention[:, 0])
    chosen_head = attention[:, head]
    finite = torch.isfinite(chosen_head)
    usable = valid & finite
    weight = torch.where(usable, chosen_head, 0.0).double()
    if (weight < 0).any():
        raise ValueError(f"attention must be at least 0, as after a softmax, got {float(weight.min()):g}")

    total = weight.sum(dim=1, keepdim=True)
    share = weight / torch.where(total > 0, total, 1.0)
    ascending, order = share.sort(dim=1, stable=True)
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
        share=share,
        flat=flat,
        non_finite=(valid & ~finite).sum(dim=1),
    )


class DinoSeg:
    """DINO-seg as a method: features of a batch in, one ``Instances`` per image out, in original pixels.

    Each result holds one instance, or none with ``metadata["reason"]``. Its score is the share of the head's attention to
    patches that falls on the component: 1 where the head looks at nothing else. Extras: ``seed`` (the most attended token
    of the component), ``seed_point`` (x, y in pixels), ``components`` (how many there were to choose from).

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
        padding: Literal["keep", "drop"] = "keep",
        compat: Compat = None,
    ) -> None:
        check_segment_parameters(head, keep, compat)
        if padding not in ("keep", "drop"):
            raise ValueError(f"padding must be 'keep' or 'drop', got {padding!r}")
        self.head, self.keep, self.padding, self.compat = head, keep, padding, compat

    def __call__(self, features: FeatureGrid) -> list[Instances]:
        """Find the object of every image of a batch.

        Raises:
            ValueError: if the features carry no attention, or not as many heads.
        """
        if features.attention is None:
            raise ValueError("DinoSeg needs FeatureGrid.attention; ask the backbone for it (attention=True)")
        if not len(features):
            return []
        valid = ~features.padded_tokens() if self.padding == "drop" else None
        found = dino_seg(features.attention, features.grid, self.head, self.keep, valid, self.compat)
        return [_instances(found, features, i) for i in range(len(features))]


def label_components(masks: Tensor) -> tuple[Tensor, Tensor]:
    """4-connected components of every image: (B, H, W) bool -> labels (B, H, W) int64, 0 outside, and counts (B,) int64.

    Each image counts from 1, in the order of the components' first pixels.
    """
    labels = np.zeros(masks.shape, dtype=np.int64)
    counts = [ndimage.label(mask, output=labels[i]) for i, mask in enumerate(masks.cpu().numpy())]
    return torch.from_numpy(labels).to(masks.device), torch.tensor(counts, dtype=torch.int64, device=masks.device)


def component_sizes(labels: Tensor) -> Tensor:
    """Size of every label of ``label_components``, that of 0 too: (B, H, W) -> (B, largest label + 1) int64."""
    flat = labels.flatten(1)
    sizes = flat.new_zeros(len(flat), int(flat.max()) + 1 if flat.numel() else 1)
    return sizes.scatter_add_(1, flat, torch.ones_like(flat))


def all_or(valid: Tensor | None, like: Tensor) -> Tensor:
    """``valid``, or all patches where it is None: (B, N) bool.

    Raises:
        ValueError: if it does not fit ``like``, (B, N).
    """
    if valid is None:
        return torch.ones_like(like, dtype=torch.bool)
    if valid.shape != like.shape or valid.dtype != torch.bool:
        raise ValueError(f"valid must be {tuple(like.shape)} bool, got {tuple(valid.shape)} {valid.dtype}")
    return valid


def check_attention(attention: Any, grid: tuple[int, int]) -> None:
    """Refuse what is no batch of CLS attention.

    Raises:
        TypeError: if it is no tensor.
        ValueError: if its shape or dtype is wrong, or it does not fit the grid.
    """
    if not isinstance(attention, Tensor):
        raise TypeError(f"attention must be a torch tensor (B, heads, N), got {type(attention).__name__}")
    if attention.ndim != 3 or not attention.is_floating_point() or not attention.numel():
        raise ValueError(
            f"attention must be (B, heads, N) floating and not empty, got {tuple(attention.shape)} {attention.dtype}"
        )
    if grid[0] * grid[1] != attention.shape[2]:
        raise ValueError(f"grid {grid[0]}x{grid[1]} holds {grid[0] * grid[1]} patches, got {attention.shape[2]}")


def check_segment_parameters(head: Any, keep: Any, compat: Any) -> None:
    """Refuse parameters without a meaning; a yaml may hold anything.

    Raises:
        ValueError: naming the parameter.
    """
    if isinstance(head, bool) or not isinstance(head, int) or head < 0:
        raise ValueError(f"head must be a whole number of at least 0, got {head!r}")
    if not (isinstance(keep, Real) and 0 < float(keep) < 1):
        raise ValueError(f"keep must be a number in (0, 1), got {keep!r}")
    if compat not in (None, "reference"):
        raise ValueError(f"compat must be null or 'reference', got {compat!r}")


def _instances(found: AttentionSegment, features: FeatureGrid, i: int) -> Instances:
    geometry = features.geometries[i]
    metadata = {"geometry": geometry, "non_finite_tokens": int(found.non_finite[i])}
    mask = geometry.masks_to_image(found.mask[i])
    if not mask.any():
        reason = "what is attended lies in the padding"
        if found.flat[i]:
            reason = "the head looks at all patches alike"
            if found.non_finite[i]:
                reason = "no patch stands out among those whose attention is finite; check the backbone's precision"
        return Instances.empty(geometry.image_size, f"no object: {reason}", **metadata)
    on_object = torch.where(found.mask[i].flatten(), found.share[i], 0.0)
    seed = peak_index(on_object[None])
    return Instances(
        masks=mask[None].cpu().numpy(),
        scores=np.array([min(1.0, float(on_object.sum()))], dtype=np.float32),  # a sum of shares may round above 1
        boxes=geometry.boxes_to_image(found.box[i : i + 1]).cpu().numpy(),
        image_size=geometry.image_size,
        extras={
            "seed": [int(seed)],
            "seed_point": [geometry.token_centres(seed)[0].tolist()],
            "components": [int(found.labels[i].max())],
        },
        metadata=metadata,
    )
