"""Small data sets on disk in each layout, drawn here: grey parts, some with a dark hole."""

from pathlib import Path

import numpy as np

from inspector.images import encode_png
from inspector.types import ImageArray

SIDE = 64


def part(seed: int, *, hole: bool = False) -> tuple[ImageArray, ImageArray]:
    """A picture and its mask, both `[S, S, 3]`."""
    rng = np.random.default_rng(seed)
    image = np.clip(rng.normal(150, 4, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
    image[20:44, 20:44] = 90
    mask = np.zeros_like(image)
    if hole:
        x = int(rng.integers(6, 40))
        image[10:22, x : x + 14] = (250, 20, 20)
        mask[10:22, x : x + 14] = 255
    return image, mask


def write(path: Path, image: ImageArray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(image))


def mvtec(root: Path, *, good: str = "good", kinds: tuple[str, ...] = ("hole",), masks: bool = True) -> Path:
    """Four good pictures to train, three good and two bad of each kind to test."""
    for number in range(4):
        write(root / "train" / good / f"{number:03d}.png", part(number)[0])
    for number in range(3):
        write(root / "test" / good / f"{number:03d}.png", part(100 + number)[0])
    for kind in kinds:
        for number in range(2):
            image, mask = part(200 + number, hole=True)
            write(root / "test" / kind / f"{number:03d}.png", image)
            if masks:
                write(root / "ground_truth" / kind / f"{number:03d}_mask.png", mask)
    return root


def visa(root: Path) -> Path:
    rows = ["object,split,label,image,mask"]
    for number in range(3):
        write(root / "cap" / "n" / f"{number}.png", part(number)[0])
        rows.append(f"cap,train,normal,cap/n/{number}.png,")
    write(root / "cap" / "n" / "9.png", part(9)[0])
    image, mask = part(7, hole=True)
    write(root / "cap" / "a" / "7.png", image)
    write(root / "cap" / "m" / "7.png", mask)
    rows += ["cap,test,normal,cap/n/9.png,", "cap,test,anomaly,cap/a/7.png,cap/m/7.png"]
    (root / "split_csv").mkdir(parents=True)
    (root / "split_csv" / "1cls.csv").write_text("\n".join(rows) + "\n")
    return root
