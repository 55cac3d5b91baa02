"""Time the elastic deformation of an image with its mask against other libraries.

Run `python benchmarks/augment.py --peers PYTHON`, where PYTHON is an interpreter that
has torch, torchvision, monai, kornia, albumentations and elasticdeform. Without it,
only this package and Keras' own layer run.

The task is the same for all: one grey image of 512 x 512 (float32) with its mask
(uint8), a smooth random field of 10 pixels' standard deviation, new for every call, the
image read bilinearly and the mask by its nearest pixels. Libraries that smooth dense
noise instead of spreading control points get a Gaussian of 32 pixels, as narrow as does
not fold the image (wider ones, as smooth as 3 x 3 points, cost them more). Each runs as
its manual says, in a process of its own on one core, and what counts is the time that
the core worked for it, so that other programs on the machine do not count.

With `--step`, it shows instead which share of a training step of the 32-filter U-Net
(batches of 4 patches of 256 x 256) is augmentation.

Two columns check the work: `field` is the standard deviation of the displacement,
measured on a ramp, and `equal` the share of pixels in which a mask given as image, cut
at one half, and the same mask given as mask are equal afterwards. Below 0.98 image and
mask have been bent differently.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

SIZE, DEVIATION, SMOOTH = 512, 10.0, 32.0
# Of uniform noise in [-1, 1], blurred by a Gaussian of SMOOTH pixels.
BLURRED = 3**-0.5 / (2 * np.pi**0.5 * SMOOTH)
Deform = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def unet_zoo() -> Deform:
    import keras

    from unet_zoo import augment, policies

    ranges = {"elastic": DEVIATION, "elastic_points": 3, "interpolation": "linear"}
    nothing = policies.Augmentation.named("none")
    layer = augment.Augmenter({**vars(nothing), **ranges})

    def deform(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        image, mask = layer((image[None, ..., None], mask[None]))
        as_array = keras.ops.convert_to_numpy
        return as_array(image)[0, ..., 0], as_array(mask)[0]

    return deform


def keras_layer() -> Deform:
    import keras

    # Its blur is tied to its size: there is no other way to 10 pixels.
    layer = keras.layers.RandomElasticTransform(factor=1.0, scale=(1.0, 1.0))

    def deform(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # It takes masks of the type of the images only.
        mask = mask[None, ..., None].astype("float32")
        out = layer({"images": image[None, ..., None], "segmentation_masks": mask})
        as_array = keras.ops.convert_to_numpy
        return (
            as_array(out["images"])[0, ..., 0],
            as_array(out["segmentation_masks"])[0, ..., 0],
        )

    return deform


def elasticdeform() -> Deform:
    import elasticdeform as library

    def deform(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        image, mask = library.deform_random_grid(
            [image, mask], sigma=DEVIATION, points=3, order=[1, 0], mode="mirror"
        )
        return image, mask

    return deform


def albumentations() -> Deform:
    import albumentations as library
    import cv2

    cv2.setNumThreads(1)
    transform = library.Compose(
        [
            library.ElasticTransform(
                alpha=DEVIATION / BLURRED,
                sigma=SMOOTH,
                noise_distribution="uniform",
                border_mode=cv2.BORDER_REFLECT_101,
                p=1.0,
            )
        ]
    )

    def deform(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        out = transform(image=image, mask=mask)
        return out["image"], out["mask"]

    return deform


def monai() -> Deform:
    import torch
    from monai.transforms import Rand2DElasticd

    torch.set_num_threads(1)
    transform = Rand2DElasticd(
        keys=["image", "mask"],
        spacing=(SIZE // 2, SIZE // 2),
        magnitude_range=(DEVIATION, DEVIATION),
        prob=1.0,
        mode=["bilinear", "nearest"],
        padding_mode="reflection",
    )

    def deform(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        out = transform({"image": image[None], "mask": mask[None]})
        return out["image"].numpy()[0], out["mask"].numpy()[0]

    return deform


def torchvision() -> Deform:
    import torch
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    torch.set_num_threads(1)
    transform = v2.ElasticTransform(alpha=2 * DEVIATION / BLURRED, sigma=SMOOTH)

    def deform(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        picture = tv_tensors.Image(torch.from_numpy(image)[None])
        out = transform(picture, tv_tensors.Mask(torch.from_numpy(mask)))
        return out[0].numpy()[0], out[1].numpy()

    return deform


def kornia() -> Deform:
    import torch
    from kornia import augmentation
    from kornia.constants import DataKey, Resample

    torch.set_num_threads(1)
    width = 2 * int(3 * SMOOTH) + 1
    # In coordinates of which an image spans two.
    strength = DEVIATION / BLURRED * 2 / SIZE
    transform = augmentation.AugmentationSequential(
        augmentation.RandomElasticTransform(
            kernel_size=(width, width),
            sigma=(SMOOTH, SMOOTH),
            alpha=(strength, strength),
            padding_mode="reflection",
            p=1.0,
        ),
        data_keys=["input", "mask"],
        extra_args={DataKey.MASK: {"resample": Resample.NEAREST}},
    )

    def deform(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        picture, other = torch.from_numpy(image), torch.from_numpy(mask)
        out = transform(picture[None, None], other[None, None].float())
        return out[0].numpy()[0, 0], out[1].numpy()[0, 0]

    return deform


OWN = {
    "unet-zoo, TensorFlow": (unet_zoo, "tensorflow"),
    "unet-zoo, JAX": (unet_zoo, "jax"),
    "unet-zoo, PyTorch": (unet_zoo, "torch"),
    "Keras RandomElasticTransform": (keras_layer, "tensorflow"),
}
PEERS = {
    "elasticdeform": (elasticdeform, ""),
    "albumentations": (albumentations, ""),
    "MONAI Rand2DElasticd": (monai, ""),
    "torchvision v2": (torchvision, ""),
    "kornia": (kornia, ""),
}


def work(name: str, seconds: float) -> dict[str, float]:
    """Return what one contestant achieves on the first core of this process."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    deform = (OWN | PEERS)[name][0]()
    rows, columns = np.mgrid[:SIZE, :SIZE].astype("float32")
    discs = (np.hypot(rows % 64 - 32, columns % 64 - 32) < 24).astype("uint8")
    middle = (slice(SIZE // 4, -SIZE // 4),) * 2
    bent, equal = [], []
    deform(rows, discs)  # some compile at the first call
    end = time.perf_counter() + seconds / 2
    while len(bent) < 5 or (time.perf_counter() < end and len(bent) < 100):
        image, _ = deform(rows, discs)
        bent.append((image - rows)[middle])
        image, mask = deform(discs.astype("float32"), discs)
        equal.append(((image > 0.5) == (mask > 0.5)).mean())
    noise = np.random.default_rng(0).random((SIZE, SIZE), dtype="float32")
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        start = time.process_time()
        deform(noise, discs)
        times.append(time.process_time() - start)
    return {
        "least": min(times),
        "median": float(np.median(times)),
        "calls": len(times),
        "field": float(np.sqrt(np.mean(np.square(bent)))),
        "equal": float(np.mean(equal)),
    }


def measure(
    python: str, name: str, backend: str, seconds: float
) -> dict[str, float] | None:
    """Run `work` in a process of its own; None, with the reason shown, if it fails."""
    threads = ("OMP", "MKL", "OPENBLAS")
    environment = os.environ | {f"{key}_NUM_THREADS": "1" for key in threads}
    environment |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", "NO_ALBUMENTATIONS_UPDATE": "1"}
    if backend:
        environment["KERAS_BACKEND"] = backend
    command = [python, __file__, "--work", name, "--seconds", str(seconds)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(f"{name}: {done.stderr.strip()[-400:]}", file=sys.stderr)
        return None
    return dict(json.loads(done.stdout.splitlines()[-1]))


def shares(rounds: int = 5) -> None:
    """Print the time of a training step, and of its augmentation, per policy."""
    import keras

    from unet_zoo import augment, learner, policies, registry, targets

    patch, batch = (256, 256), 4
    target = targets.get("distance")
    network = registry.build(
        "unet",
        input_shape=(*patch, 1),
        classes=target.channels,
        filters=32,
        depth=4,
        padding="same",
        normalization="batch",
    )
    stack = np.random.default_rng(0).random((batch, 364, 364, 5), dtype="float32")
    print("| policy | step | augmentation | share |")
    print("|---|---|---|---|")
    for name, ranges in policies.AUGMENTATIONS.items():
        layer = augment.Augment(ranges, patch, 1, target.interpolation)
        teaching = learner.Learner(network, target, layer, 0.995)
        teaching.compile(keras.optimizers.AdamW(1e-4), jit_compile=False)
        uniform, normal = augment.draws(ranges, 0, np.arange(batch))
        given = {"stack": stack, "uniform": uniform, "normal": normal}
        tensors = {key: keras.ops.convert_to_tensor(given[key]) for key in given}
        times: dict[str, list[float]] = {"step": [], "augmentation": []}
        for _ in range(rounds + 1):
            # In turns, so that what else the machine does meets both.
            start = time.process_time()
            float(teaching.train_on_batch(given))
            middle = time.process_time()
            keras.ops.convert_to_numpy(layer(**tensors)[0, 0, 0, 0])
            times["step"].append(middle - start)
            times["augmentation"].append(time.process_time() - middle)
        # The first of each compiles.
        step, part = (min(spent[1:]) for spent in times.values())
        print(f"| {name} | {step:.3f} s | {part:.4f} s | {part / step:.2%} |")


def main() -> None:
    """Print one line of the table per contestant, the fastest first."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peers", help="interpreter that has the other libraries")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each")
    parser.add_argument("--only", default="", help="contestants with this in the name")
    parser.add_argument("--step", action="store_true", help="share of a training step")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        shares()
        return
    if arguments.work:
        print(json.dumps(work(arguments.work, arguments.seconds)))
        return
    pythons = {name: (sys.executable, backend) for name, (_, backend) in OWN.items()}
    if arguments.peers:
        pythons |= {name: (arguments.peers, "") for name in PEERS}
    found = {}
    for name, (python, backend) in pythons.items():
        if arguments.only.lower() in name.lower():
            result = measure(python, name, backend, arguments.seconds)
            if result is not None:
                found[name] = result
    if not found:
        return
    others = [
        result["least"]
        for name, result in found.items()
        if not name.startswith("unet-zoo") and result["equal"] >= 0.98
    ]
    best = min(others, default=float("nan"))
    print("| library | images/s | median | times the best other | field | equal |")
    print("|---|---|---|---|---|---|")
    for name, result in sorted(found.items(), key=lambda item: item[1]["least"]):
        print(
            f"| {name} | {1 / result['least']:.3g} | {1 / result['median']:.3g} | "
            f"{best / result['least']:.2f} | {result['field']:.1f} px | "
            f"{result['equal']:.3f} |"
        )


if __name__ == "__main__":
    main()
