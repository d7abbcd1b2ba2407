"""The image pipeline that tutorials use: one image at a time, through PIL and two transforms."""

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset


class PerSampleImages(Dataset):
    """Images that are converted one by one, each time they are asked for.

    A sample goes the way of torchvision's ``MNIST(..., transform=Compose([ToTensor(), Normalize((0.5,), (0.5,))]))``:
    tensor to PIL image, to a float tensor in [0, 1], to a float tensor in [-1, 1]. torchvision adds checks of its own
    to each step, so that this is a lower bound of its cost.

    Args:
        images: uint8 tensor, shape (N, height, width).
        labels: int64 tensor, shape (N,).
    """

    def __init__(self, images: torch.Tensor, labels: torch.Tensor):
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Return one image as float32, shape (1, height, width), in [-1, 1], and its label."""
        return normalize(to_tensor(self.to_image(index))), int(self.labels[index])

    def to_image(self, index: int) -> Image.Image:
        """Return one image as a PIL image, the common currency of torchvision's data sets."""
        return Image.fromarray(self.images[index].numpy())


def to_tensor(image: Image.Image) -> torch.Tensor:
    """Return a grey PIL image as float32 in [0, 1], shape (1, height, width)."""
    pixels = torch.from_numpy(np.array(image, np.uint8, copy=True))
    channel_first = pixels.view(image.height, image.width, 1).permute(2, 0, 1).contiguous()
    return channel_first.to(torch.float32).div(255)


def normalize(image: torch.Tensor, mean=(0.5,), std=(0.5,)) -> torch.Tensor:
    """Return an image of shape (channels, height, width) less the mean of each channel, over its standard deviation."""
    means = torch.as_tensor(mean, dtype=image.dtype).view(-1, 1, 1)
    deviations = torch.as_tensor(std, dtype=image.dtype).view(-1, 1, 1)
    if (deviations == 0).any():
        raise ValueError(f"std must not contain 0, got {std}")
    return image.clone().sub_(means).div_(deviations)
