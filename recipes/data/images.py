"""Image classification data, named or from a file."""

import os
import socket
from dataclasses import dataclass, replace

import numpy as np

from running.errors import RecipeError

# Where `keras.datasets` looks, inside Keras' own directory.
NAMED = {
    "cifar10": "the archive cifar-10-python.tar.gz as datasets/cifar-10-batches-py-target_archive",
    "cifar100": "the archive cifar-100-python.tar.gz as datasets/cifar-100-python-target_archive",
    "fashion_mnist": "its four files *-ubyte.gz in datasets/fashion-mnist",
    "mnist": "mnist.npz in datasets",
}
# Their images to train on, and the number of classes.
SHAPES = {
    "cifar10": ((50_000, 32, 32, 3), 10),
    "cifar100": ((50_000, 32, 32, 3), 100),
    "fashion_mnist": ((60_000, 28, 28, 1), 10),
    "mnist": ((60_000, 28, 28, 1), 10),
}
# What shows the same in a mirror.
MIRRORED = ("cifar10", "cifar100", "fashion_mnist")
KEYS = ("x_train", "y_train", "x_test", "y_test")


@dataclass
class Images:
    """Images of shape (number, height, width, channels) and their classes, 0 and up."""

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: int
    # Why `name` is not what was asked for.
    note: str | None = None
    # Whether the arrays have the right shapes and nothing else: options can be checked with them.
    stand_in: bool = False

    @property
    def small(self) -> bool:
        """Whether there are few images to train on: other options suit those."""
        return len(self.x_train) < 10_000

    @property
    def title(self) -> str:
        """The name, without the folders of a file."""
        return os.path.basename(self.name)

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width and channels of an image."""
        return self.x_train.shape[1:]

    def moments(self) -> dict[str, np.ndarray]:
        """Mean and variance of the channels, as arguments of `convnet`."""
        sample = self.x_train[:: len(self.x_train) // 10_000 + 1].astype("float64")
        return {"mean": sample.mean(axis=(0, 1, 2)), "variance": sample.var(axis=(0, 1, 2))}

    def reduced(self, train_images: int | None, shrink: int, label_noise: float = 0.0) -> "Images":
        """Returns fewer and smaller images, which may have wrong labels.

        Args:
            train_images: Number of images to train on, drawn at random, always the same; `None`
                for all.
            label_noise: Share of the images to train on that get the label of another class, drawn
                at random, always the same: what is wrong with less is wrong with more, too.
            shrink: Factor. The mean over so many by so many pixels makes one; those at the lower
                and right edge that do not fill one are left out.

        Raises:
            RecipeError: If there are not so many images or pixels.
        """
        if train_images is not None and not 1 <= train_images <= len(self.x_train):
            raise RecipeError(
                f"--train-images must be 1 to {len(self.x_train)}, the number of images to train "
                f"on in {self.name}. Received: {train_images}"
            )
        if not 1 <= shrink <= min(self.x_train.shape[1:3]):
            raise RecipeError(
                f"--shrink must be 1 to {min(self.x_train.shape[1:3])}, the height or width of "
                f"images of {self.name}. Received: {shrink}"
            )
        if self.stand_in:
            return replace(self, x_train=self.x_train[:train_images, ::shrink, ::shrink])
        kept = slice(None)
        if train_images is not None:
            kept = np.random.default_rng(0).permutation(len(self.x_train))[:train_images]
        return replace(
            self,
            x_train=_shrunk(self.x_train[kept], shrink),
            y_train=_wrong(self.y_train[kept], self.classes, label_noise),
            x_test=_shrunk(self.x_test, shrink),
        )

    def __str__(self):
        """What they are, how many, and of what size."""
        height, width, channels = self.shape
        return (
            f"{self.name}: {len(self.x_train):,} images to train on, {len(self.x_test):,} to test, "
            f"{height}x{width}x{channels}, {self.classes} classes"
        )

    def require_batches(self, **sizes: int) -> None:
        """Raises a `RecipeError` if one of these options asks for more images than there are."""
        for name, size in sizes.items():
            if size > len(self.x_train):
                raise RecipeError(
                    f"--{name.replace('_', '-')} must be at most {len(self.x_train)}, the number "
                    f"of images to train on. Received: {size}"
                )


def load(dataset: str, check: bool = False) -> Images:
    """Loads a data set.

    Args:
        dataset: `"digits"`, a name of `keras.datasets`, the path of an .npz file, or `"auto"`:
            CIFAR-10 if it can be had, else the digits.
        check: Whether options are only checked: then nothing is downloaded.

    Raises:
        RecipeError: If it cannot be had, or is no data set of images and their classes.
    """
    if check and dataset in (*SHAPES, "auto"):
        shape, classes = SHAPES["cifar10" if dataset == "auto" else dataset]
        nothing = np.broadcast_to(np.uint8(0), shape), np.broadcast_to(0, shape[:1])
        return Images(dataset, *nothing, *nothing, classes, stand_in=True)
    if dataset == "auto":
        try:
            return load("cifar10")
        except RecipeError as error:
            digits = load("digits")
            digits.note = f"These are the digits of scikit-learn, not CIFAR-10. {error}"
            return digits
    if dataset == "digits":
        arrays = _digits()
    elif dataset in NAMED:
        arrays = _named(dataset)
    elif dataset.endswith(".npz"):
        arrays = _npz(dataset)
    else:
        raise RecipeError(
            f"--dataset must be auto, digits, {', '.join(NAMED)}, or the path of an .npz file. "
            f"Received: {dataset!r}"
        )
    return Images(dataset, *_checked(dataset, *arrays))


def _wrong(labels, classes, share):
    rng = np.random.default_rng(1)
    chosen = rng.permutation(len(labels))
    others = (labels + rng.integers(1, classes, len(labels))) % classes
    chosen = chosen[: round(share * len(labels))]
    labels = labels.copy()
    labels[chosen] = others[chosen]
    return labels


def _shrunk(images, factor):
    if factor == 1:
        return images
    height, width = (size // factor for size in images.shape[1:3])
    images = images[:, : height * factor, : width * factor].astype("float32")
    squares = images.reshape(len(images), height, factor, width, factor, images.shape[-1])
    return squares.mean(axis=(2, 4))


def _digits():
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    x_train, x_test, y_train, y_test = train_test_split(
        digits.images, digits.target, test_size=360, random_state=0, stratify=digits.target
    )
    return x_train, y_train, x_test, y_test, None


def _named(name):
    import keras

    timeout = socket.getdefaulttimeout()
    # A network that swallows packets must not make us wait for minutes.
    socket.setdefaulttimeout(10)
    try:
        (x_train, y_train), (x_test, y_test) = getattr(keras.datasets, name).load_data()
    except Exception as error:
        home = os.environ.get("KERAS_HOME", os.path.join("~", ".keras"))
        raise RecipeError(
            f"The data set {name} is not on this machine and could not be downloaded ({error}). "
            f"Put {NAMED[name]} of {home}, or give --dataset the path of an .npz file with the "
            f"arrays {', '.join(KEYS)}."
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
    return x_train, y_train, x_test, y_test, None


def _npz(path):
    if not os.path.isfile(path):
        raise RecipeError(f"--dataset: there is no file {path!r}.")
    try:
        with open(path, "rb") as source, np.load(source) as file:
            missing = [key for key in KEYS if key not in file]
            if missing:
                raise RecipeError(
                    f"{path!r} must hold the arrays {', '.join(KEYS)}. Missing: "
                    f"{', '.join(missing)}; it holds {', '.join(file) or 'nothing'}."
                )
            names = len(file["class_names"]) if "class_names" in file else None
            return *(file[key] for key in KEYS), names
    except RecipeError:
        raise
    # The readers of truncated or foreign files raise whatever they come upon.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RecipeError(f"{path!r} cannot be read as .npz; is it complete? ({reason})") from error


def _checked(name, x_train, y_train, x_test, y_test, classes):
    """Checks the arrays, and gives them the shapes that `Images` promises."""
    images, labels = [], []
    for key, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
        if x.dtype.kind not in "biuf":
            raise RecipeError(f"{name}: x_{key} must hold numbers. Received: dtype {x.dtype}")
        if x.ndim == 3:
            x = x[..., None]
        if x.ndim != 4 or 0 in x.shape:
            raise RecipeError(
                f"{name}: x_{key} must hold images, of shape (number, height, width) or (number, "
                f"height, width, channels). Received: shape {x.shape}"
            )
        if x.dtype.kind == "f" and not (np.abs(x) <= np.finfo("float32").max).all():
            raise RecipeError(
                f"{name}: x_{key} has values that are NaN, infinite or too great for float32."
            )
        if y.shape not in ((len(x),), (len(x), 1)) or y.dtype.kind not in "iu":
            raise RecipeError(
                f"{name}: y_{key} must hold one integer for each of the {len(x)} images of "
                f"x_{key}. Received: shape {y.shape}, dtype {y.dtype}"
            )
        images.append(x)
        labels.append(y.reshape(-1).astype("int64"))
    if images[0].shape[1:] != images[1].shape[1:]:
        raise RecipeError(
            f"{name}: the images of x_train and x_test must have the same shape. Received: "
            f"{images[0].shape[1:]} and {images[1].shape[1:]}"
        )
    classes = classes or int(labels[0].max()) + 1
    for key, y in zip(("train", "test"), labels, strict=True):
        if y.min() < 0 or y.max() >= classes:
            raise RecipeError(
                f"{name}: the labels must be 0 to {classes - 1}. Received: y_{key} with labels "
                f"from {y.min()} to {y.max()}"
            )
    unseen = classes - len(np.unique(labels[0]))
    if classes < 2 or unseen > classes // 2:
        raise RecipeError(
            f"{name}: the labels of C classes must be 0 to C - 1. Received: y_train with labels up "
            f"to {classes - 1}, of which {unseen} have no image"
        )
    return images[0], labels[0], images[1], labels[1], classes
