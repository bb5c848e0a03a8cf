"""From patches back to pixels: an image's original size, its size as model input, and the patch size.

Preprocessing scales the whole image, then either pads or crops it at the right and bottom to a multiple of the patch size.
In pixels of the model's input, patch (i, j) covers rows [i p, (i+1) p) and columns [j p, (j+1) p). The scaling maps pixel
*edges* linearly, each axis by itself; padding is cut off before mapping back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Size = tuple[int, int]
# Which patch a pixel of a hard mask takes: the one around its center, or around its upper left corner.
Nearest = Literal["center", "corner"]
NEAREST: tuple[Nearest, ...] = ("center", "corner")


@dataclass(frozen=True)
class Geometry:
    """How one image was resized and padded or cropped for a model.

    Args:
        image_size: original (H, W) in pixels.
        scaled_size: (h', w') of the whole image after scaling, before padding or cropping.
        input_size: (h, w) of the model's input; multiples of the patch size. Larger than ``scaled_size`` where padded,
            smaller where cropped.
        patch_size: side p of a square patch, in input pixels.

    Raises:
        ValueError: if a size is not positive or the input is not a multiple of the patch size.

    Example:
        >>> geometry = Geometry(image_size=(30, 45), scaled_size=(30, 45), input_size=(32, 48), patch_size=16)
        >>> geometry.grid, geometry.padding
        ((2, 3), (2, 3))
        >>> geometry.boxes_to_image(torch.tensor([[1, 0, 3, 2]])).tolist()  # xyxy in patches
        [[16.0, 0.0, 45.0, 30.0]]
    """

    image_size: Size
    scaled_size: Size
    input_size: Size
    patch_size: int

    def __post_init__(self) -> None:
        for name in ("image_size", "scaled_size", "input_size"):
            size = getattr(self, name)
            if len(size) != 2 or min(size) < 1:
                raise ValueError(f"{name} must be two positive numbers (height, width), got {size}")
        if self.patch_size < 1:
            raise ValueError(f"patch_size must be positive, got {self.patch_size}")
        if any(side % self.patch_size for side in self.input_size):
            raise ValueError(f"input_size {self.input_size} is not a multiple of the patch size {self.patch_size}")

    @property
    def grid(self) -> Size:
        """Patches (down, across)."""
        return self.input_size[0] // self.patch_size, self.input_size[1] // self.patch_size

    @property
    def padding(self) -> Size:
        """Padded input pixels (at the bottom, at the right); 0 where cropped or exact."""
        return (
            max(0, self.input_size[0] - self.scaled_size[0]),
            max(0, self.input_size[1] - self.scaled_size[1]),
        )

    def padded_patches(self) -> Tensor:
        """Which patches hold padding: (gh, gw) bool on the CPU."""
        rows, columns = (
            (torch.arange(count) + 1) * self.patch_size > scaled
            for count, scaled in zip(self.grid, self.scaled_size, strict=True)
        )
        return rows[:, None] | columns[None, :]

    def masks_to_image(self, masks: Tensor, nearest: Nearest = "center") -> Tensor:
        """Hard patch masks to original pixels, nearest neighbor.

        A pixel takes the patch that its center falls into; what was cropped away is background.

        Args:
            masks: (..., gh, gw) bool.
            nearest: ``"center"``, or ``"corner"``: the patch that the pixel's upper left corner falls into, which moves a
                mask by half a pixel. Published programs do that: torch's ``interpolate(mode="nearest")``, in float32.

        Returns:
            (..., H, W) bool, on the masks' device.
        """
        self._check_grid(masks)
        of_pixel = self._patch_of_pixel if nearest == "center" else self._patch_of_corner
        rows, columns = (of_pixel(axis).to(masks.device) for axis in (0, 1))
        inside = (rows < self.grid[0])[:, None] & (columns < self.grid[1])[None, :]
        picked = masks[..., rows.clamp(max=self.grid[0] - 1), :][..., columns.clamp(max=self.grid[1] - 1)]
        return picked & inside

    def maps_to_image(self, maps: Tensor) -> Tensor:
        """Soft patch maps to original pixels, bilinear between patch centers (``align_corners=False``), clamped at borders.

        Args:
            maps: (..., gh, gw) floating.

        Returns:
            (..., H, W), same dtype and device; 0 where the image was cropped away.
        """
        self._check_grid(maps)
        down, across = (self._interpolation(axis).to(maps) for axis in (0, 1))
        return down @ maps @ across.mT

    def boxes_to_image(self, boxes: Tensor) -> Tensor:
        """Boxes in patches to boxes in original pixels, clipped to the image.

        Args:
            boxes: (n, 4) xyxy half-open, in patches: [1, 2, 3, 4] spans columns 1, 2 and rows 2, 3.

        Returns:
            (n, 4) float32 xyxy half-open in original pixels, not rounded.
        """
        height, width = self.image_size
        scale = self._pixels_per_input_pixel(boxes.device)
        limits = torch.tensor([width, height, width, height], device=boxes.device, dtype=torch.float64)
        return (boxes.double() * self.patch_size * scale).clamp(min=0).minimum(limits).float()

    def token_centers(self, tokens: Tensor) -> Tensor:
        """Centers of tokens in original pixels, clipped to the image.

        Args:
            tokens: (n,) int64, row-major indices into the grid.

        Returns:
            (n, 2) float32, (x, y).
        """
        columns = self.grid[1]
        corners = torch.stack([tokens % columns, tokens // columns], dim=-1).double()
        boxes = self.boxes_to_image(torch.cat([corners, corners + 1], dim=-1))
        return (boxes[:, :2] + boxes[:, 2:]) / 2

    def _pixels_per_input_pixel(self, device: torch.device) -> Tensor:
        down, across = (a / b for a, b in zip(self.image_size, self.scaled_size, strict=True))
        return torch.tensor([across, down, across, down], device=device, dtype=torch.float64)

    def _patch_of_pixel(self, axis: int) -> Tensor:
        # floor(((y + 1/2) h'/H) / p) in integers, so that no pixel lands in a neighbor by rounding
        image, scaled = self.image_size[axis], self.scaled_size[axis]
        return (2 * torch.arange(image) + 1) * scaled // (2 * image * self.patch_size)

    def _patch_of_corner(self, axis: int) -> Tensor:
        # A corner on a border of patches falls to either side by rounding, hence torch's own: floor(y (h'/p)/H) in float32.
        image, scaled = self.image_size[axis], self.scaled_size[axis]
        if scaled % self.patch_size:  # the border of the image lies within a patch, which torch cannot express
            return torch.arange(image) * scaled // (image * self.patch_size)
        patches = torch.arange(scaled // self.patch_size, dtype=torch.float32)
        return F.interpolate(patches[None, None], size=image, mode="nearest")[0, 0].long()

    def _interpolation(self, axis: int) -> Tensor:
        """(pixels, patches) float64: each row holds the two weights of the patches around a pixel's center."""
        image, scaled, patches = self.image_size[axis], self.scaled_size[axis], self.grid[axis]
        center = (torch.arange(image, dtype=torch.float64) + 0.5) * scaled / image / self.patch_size - 0.5
        low = center.clamp(0, patches - 1).floor().long()
        high = (low + 1).clamp(max=patches - 1)
        fraction = (center.clamp(0, patches - 1) - low).unsqueeze(1)
        weights = torch.zeros(image, patches, dtype=torch.float64)
        weights.scatter_add_(1, low[:, None], 1 - fraction)
        weights.scatter_add_(1, high[:, None], fraction)
        return weights * (self._patch_of_pixel(axis) < patches)[:, None]

    def _check_grid(self, tensor: Tensor) -> None:
        if tuple(tensor.shape[-2:]) != self.grid:
            raise ValueError(f"expected (..., {self.grid[0]}, {self.grid[1]}) patches, got shape {tuple(tensor.shape)}")
