"""KT in plain PyTorch, written from the paper for `bench.py --versus torch` and its test alone.

"Knowledge Transfer Based Fine-Grained Visual Classification", Zhang, Du, Chang, Ma, Guo, ICME 2021,
arXiv 2012.11389. As published the teachers run in every step (in inference mode). Everything else
is what a careful user would do for speed: images decoded once and kept on the device, channels_last
and, on a GPU, bfloat16 autocast, torch.compile and cudnn's own choice of algorithms.

Needs torch, numpy and Pillow, and timm for networks that are no ResNet; nothing of this project.
Parameter names are torchvision's, with the head at `heads.logits`, as
`fgvc_jax.networks.weights.export_torch` writes them.
"""

import contextlib
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from golden_networks import FULL
from PIL import Image
from torch import Tensor, nn

MEAN_STD = {
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}

# ------------------------------------------------------------------------------------- network


class Basic(nn.Module):
    """Two 3x3 convolutions and the shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, stride_first: bool):
        super().__init__()
        del stride_first  # there is but one place for it
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and the shortcut; the stride is in the 3x3, or in the first."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, stride_first: bool):
        super().__init__()
        first, second = (stride, 1) if stride_first else (1, stride)
        self.conv1 = nn.Conv2d(inputs, width, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, second, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = _shortcut(inputs, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class KTHead(nn.Module):
    """Global max pool, batch norm, linear, batch norm, ELU, linear: (B,C,h,w) -> (B,K)."""

    def __init__(self, inputs: int, width: int, classes: int):
        super().__init__()
        self.bn1 = nn.BatchNorm1d(inputs)
        self.fc1 = nn.Linear(inputs, width)
        self.bn2 = nn.BatchNorm1d(width)
        self.fc2 = nn.Linear(width, classes)

    def forward(self, features: Tensor) -> Tensor:
        x = self.fc1(self.bn1(features.amax((2, 3))))
        return self.fc2(F.elu(self.bn2(x)))


# block, blocks per stage, whether the stride comes first
NETWORKS: dict[str, tuple[type[Basic | Bottleneck], tuple[int, ...], bool]] = {
    "resnet18": (Basic, (2, 2, 2, 2), False),
    "resnet50": (Bottleneck, (3, 4, 6, 3), False),
    "resnet50_v1": (Bottleneck, (3, 4, 6, 3), True),
}


class ResNet(nn.Module):
    """Normalised images (B,3,H,W) -> last features (B,C,h,w), logits (B,K)."""

    def __init__(self, name: str, *, classes: int, head_width: int):
        super().__init__()
        block, depths, stride_first = NETWORKS[name]
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        inputs = 64
        for stage, depth in enumerate(depths, start=1):
            width, blocks = 32 * 2**stage, []
            for i in range(depth):
                stride = 2 if stage > 1 and i == 0 else 1
                blocks.append(block(inputs, width, stride, stride_first))
                inputs = block.expansion * width
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.heads = nn.ModuleDict({"logits": KTHead(inputs, head_width, classes)})
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, images: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(images))), 3, 2, 1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(images)
        return features, self.heads["logits"](features)


class Timm(nn.Module):
    """As `ResNet`, with a network of timm's for images of `crop` px before the head."""

    def __init__(self, name: str, *, classes: int, head_width: int, crop: int):
        super().__init__()
        import timm

        fits = name.startswith(("convnext", "efficientnet"))  # images of every size
        options = {} if fits else {"img_size": crop}
        if name.startswith("swin"):
            options["window_size"] = crop // 32
        self.trunk = timm.create_model(FULL[name], num_classes=0, **options)
        self.heads = nn.ModuleDict({"logits": KTHead(self.trunk.num_features, head_width, classes)})

    def features(self, images: Tensor) -> Tensor:
        x = self.trunk.forward_features(images)
        if x.ndim == 3:  # tokens, those of the patches last
            x = x[:, self.trunk.num_prefix_tokens :]
            side = math.isqrt(x.shape[1])
            return x.unflatten(1, (side, side)).permute(0, 3, 1, 2)
        return x.permute(0, 3, 1, 2) if x.shape[-1] == self.trunk.num_features else x

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(images)
        return features, self.heads["logits"](features)


Network = ResNet | Timm


def network_of(spec: dict[str, Any]) -> Network:
    """The network of a spec as for `Trainer`."""
    head = {"classes": spec["classes"], "head_width": spec["head_width"]}
    if spec["network"] in FULL:
        return Timm(spec["network"], crop=spec["crop"], **head)
    return ResNet(spec["network"], **head)


# ---------------------------------------------------------------------------------------- loss


def attention(features: Tensor) -> Tensor:
    """Z of KT's eq. 1-2: (B,C,h,w) -> (B,h,w), zero mean and unit sample deviation per image."""
    features = features.float()
    weight = features.mean((2, 3), keepdim=True)
    maps = (weight * features).mean(1)
    deviation = maps.std((1, 2), keepdim=True)
    varies = deviation > 0
    centred = maps - maps.mean((1, 2), keepdim=True)
    return torch.where(varies, centred / torch.where(varies, deviation, 1.0), 0.0)


def kt_loss(
    network: Network, teachers: list[Network], images: Tensor, labels: Tensor, alpha: float
) -> Tensor:
    """Cross entropy + alpha * mean over teachers of mean(|Z_n| * max(Z_student, 0)): eq. 3-6."""
    features, logits = network(images)
    loss = F.cross_entropy(logits.float(), labels)
    if not teachers:
        return loss
    high = attention(features).relu()
    with torch.no_grad():
        seen = [attention(teacher.features(images)).abs() for teacher in teachers]
    return loss + alpha * torch.stack([(z * high).mean() for z in seen]).mean()


# ---------------------------------------------------------------------------------------- step


def augment(images: Tensor, *, crop: int, pad: int, flip: bool) -> Tensor:
    """A random crop of each image after zero padding, half of them mirrored: uint8 (B,R,R,3) ->
    (B,crop,crop,3)."""
    count, size, device = images.shape[0], images.shape[1], images.device
    images = F.pad(images, (0, 0, pad, pad, pad, pad))
    top, left = torch.randint(size + 2 * pad - crop + 1, (2, count, 1), device=device)
    along = torch.arange(crop, device=device)
    columns = left + along
    if flip:
        mirrored = torch.rand(count, 1, device=device) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    rows = (top + along)[:, :, None]
    return images[torch.arange(count, device=device)[:, None, None], rows, columns[:, None, :]]


class Trainer:
    """One member in training.

    Args:
        spec: network, classes, head_width, crop, pad, flip, normalize, dtype ("float32" or
            "bfloat16"), alpha, learning_rate, head_learning_rate, momentum, weight_decay.
        teachers: frozen networks, from `frozen`.
    """

    def __init__(self, spec: dict[str, Any], teachers: list[Network]):
        self.spec = spec
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.backends.cudnn.benchmark = True
        network = network_of(spec)
        self.network = network.to(self.device, memory_format=torch.channels_last)
        head = list(network.heads.parameters())
        trunk = [p for name, p in network.named_parameters() if not name.startswith("heads.")]
        self.optimizer = torch.optim.SGD(
            [
                {"params": trunk, "lr": spec["learning_rate"]},
                {"params": head, "lr": spec["head_learning_rate"]},
            ],
            momentum=spec["momentum"],
            weight_decay=spec["weight_decay"],
        )
        self._peaks = [group["lr"] for group in self.optimizer.param_groups]
        self._teachers = teachers
        mean, std = torch.tensor(MEAN_STD[spec["normalize"]], device=self.device)
        self._mean, self._std = 255 * mean, 255 * std
        self._compiled_loss = torch.compile(kt_loss) if self.device.type == "cuda" else kt_loss

    def frozen(self) -> Network:
        """The network as a teacher or for evaluation."""
        return self.network.eval().requires_grad_(False)

    def set_epoch(self, epoch: int, epochs: int) -> None:
        """Cosine to zero, stepped once per epoch."""
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak / 2 * (1 + math.cos(math.pi * epoch / epochs))

    def normalized(self, images: Tensor) -> Tensor:
        """uint8 (B,H,W,3) -> float32 (B,3,H,W) in channels_last."""
        return ((images.float() - self._mean) / self._std).permute(0, 3, 1, 2)

    def precision(self) -> contextlib.AbstractContextManager:
        if self.spec["dtype"] == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """One step on uint8 images (B,R,R,3) and labels (B,), both on the device; the loss."""
        view = {name: self.spec[name] for name in ("crop", "pad", "flip")}
        images = self.normalized(augment(images, **view))
        self.network.train()
        with self.precision():
            loss = self._compiled_loss(
                self.network, self._teachers, images, labels, self.spec["alpha"]
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()


def describe() -> str:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return f"torch {torch.__version__} on {device}, {torch.get_num_threads()} threads"


class StepBench:
    """The training step on one resident batch."""

    def __init__(self, **spec: Any):
        self.dtype = spec["dtype"]
        teachers = [Trainer(spec, []).frozen() for _ in range(spec["teachers"])]
        self._trainer = Trainer(spec, teachers)
        shape = (spec["batch_size"], spec["resize"], spec["resize"], 3)
        device = self._trainer.device
        self._images = torch.randint(256, shape, dtype=torch.uint8, device=device)
        self._labels = torch.randint(spec["classes"], shape[:1], device=device)

    def run(self, steps: int) -> dict[str, float]:
        """Seconds per step."""
        began = time.perf_counter()
        for _ in range(steps):
            self._trainer.step(self._images, self._labels)
        if self._images.is_cuda:
            torch.cuda.synchronize()
        return {"seconds": (time.perf_counter() - began) / steps}


# ----------------------------------------------------------------------------------- whole job


def decode_all(folder: Path, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Files `INDEX_LABEL` -> uint8 images (N,size,size,3) and labels (N,), on the device."""
    paths = sorted(folder.iterdir())
    images = np.empty((len(paths), size, size, 3), np.uint8)

    def fill(i: int) -> None:
        with Image.open(paths[i]) as image:
            image = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
        images[i] = np.asarray(image)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(fill, range(len(paths))))
    labels = [int(path.name.split("_")[1]) for path in paths]
    return torch.from_numpy(images).to(device), torch.tensor(labels, device=device)


class JobBench:
    """A whole KT ensemble, from files to its accuracy.

    The spec has in addition: folder (with train/ and test/, see `decode_all`), members, epochs,
    batch_size, evaluation_batch_size, resize.
    """

    def __init__(self, **spec: Any):
        self._spec = spec
        self.dtype = spec["dtype"]

    def run(self) -> dict[str, float]:
        """Seconds, and the accuracy on the test images."""
        began = time.perf_counter()
        spec = self._spec
        device = Trainer(spec, []).device
        folder, size = Path(spec["folder"]), spec["resize"]
        images, labels = decode_all(folder / "train", size, device)
        test_images, test_labels = decode_all(folder / "test", size, device)
        frozen: list[Network] = []
        for _ in range(spec["members"]):
            trainer = Trainer(spec, list(frozen))
            self._train(trainer, images, labels)
            frozen.append(trainer.frozen())
            self._accuracy(trainer, [frozen[-1]], test_images, test_labels)
        accuracy = self._accuracy(trainer, frozen, test_images, test_labels)
        return {"seconds": time.perf_counter() - began, "accuracy": accuracy}

    def _train(self, trainer: Trainer, images: Tensor, labels: Tensor) -> None:
        size, epochs = self._spec["batch_size"], self._spec["epochs"]
        for epoch in range(epochs):
            trainer.set_epoch(epoch, epochs)
            order = torch.randperm(len(images), device=images.device)
            for rows in order[: len(order) // size * size].split(size):
                trainer.step(images[rows], labels[rows])

    @torch.no_grad()
    def _accuracy(
        self, trainer: Trainer, members: list[Network], images: Tensor, labels: Tensor
    ) -> float:
        margin = (self._spec["resize"] - self._spec["crop"]) // 2
        kept = slice(margin, margin + self._spec["crop"])
        size, correct = self._spec["evaluation_batch_size"], 0
        for start in range(0, len(images), size):
            rows = slice(start, start + size)
            x = trainer.normalized(images[rows, kept, kept])
            with trainer.precision():
                p = torch.stack([member(x)[1].float().softmax(1) for member in members]).mean(0)
            correct += int((p.argmax(1) == labels[rows]).sum())
        return correct / len(images)


BENCHES = {"step": StepBench, "job": JobBench}
