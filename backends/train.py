"""Make the models' files: ``python -m backends.train``. Does nothing for files that are there already.

digits.npz    trained here on scikit-learn's bundled handwritten digits
language.npz  unpacked from the model inside py3langid
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from backends.served_model import FOLDER

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEED: Final = 20
#: Pictures made of each training picture: turned, slanted and resized, as hands do.
_VARIANTS: Final = 8
_HIDDEN: Final = 96
_EPOCHS: Final = 30


@click.command()
@click.option("--force", is_flag=True, help="Make the files again.")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), default=FOLDER, show_default=True)
def main(*, force: bool, folder: Path) -> None:
    """Train and unpack the quickstart's models.

    Example: python -m backends.train
    """
    folder.mkdir(parents=True, exist_ok=True)
    makers: Mapping[str, Callable[[Path], str]] = {"digits.npz": train_digits, "language.npz": unpack_language}
    for name, make in makers.items():
        file = folder / name
        if file.exists() and not force:
            click.echo(f"{name}: is there")
        else:
            click.echo(f"{name}: {make(file)}")


def train_digits(file: Path) -> str:
    """Train the digits model; says how it does on pictures that it never saw."""
    # imported only when there is something to make
    import numpy as np  # noqa: PLC0415
    from sklearn.neural_network import MLPClassifier  # noqa: PLC0415

    from backends.digit_image import to_pixels  # noqa: PLC0415
    from backends.digits import DigitsModel  # noqa: PLC0415
    from backends.handwriting import picture, split, varied  # noqa: PLC0415

    images, digits, unseen_images, unseen_digits = split()
    random = np.random.default_rng(SEED)
    pixels = np.stack([to_pixels(varied(image, random)) for image in images for _ in range(_VARIANTS)])
    wanted = np.repeat(digits, _VARIANTS)
    network = MLPClassifier((_HIDDEN,), alpha=1e-3, random_state=SEED)
    for _ in range(_EPOCHS):
        network.partial_fit(pixels, wanted, classes=np.arange(10))
    (hidden, output), (hidden_bias, output_bias) = network.coefs_, network.intercepts_
    arrays = {"hidden": hidden, "hidden_bias": hidden_bias, "output": output, "output_bias": output_bias}
    _save(file, {name: value.astype(np.float32) for name, value in arrays.items()})
    model = DigitsModel.load(file)
    unseen = np.stack([to_pixels(picture(image)) for image in unseen_images])
    accuracy = float((model.probabilities(unseen).argmax(axis=1) == unseen_digits).mean())
    return f"trained on {len(images)} pictures, {accuracy:.1%} of {len(unseen_images)} others recognised"


def unpack_language(file: Path) -> str:
    """Unpack py3langid's model, which takes a second, into arrays that load at once."""
    import numpy as np  # noqa: PLC0415
    from py3langid import langid  # noqa: PLC0415

    from backends.language import LANGUAGES  # noqa: PLC0415

    identifier = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE)
    identifier.set_languages(LANGUAGES)
    arrays = {
        "weights": identifier.nb_ptc,
        "priors": identifier.nb_pc,
        "classes": np.array(identifier.nb_classes),
        "transitions": np.asarray(identifier.tk_nextmove, dtype=np.uint32),
        "rows": np.asarray(identifier.tk_row, dtype=np.uint32),
        "features": np.asarray(identifier.tk_output, dtype=np.int32),
    }
    _save(file, arrays)
    return f"unpacked for {len(identifier.labels)} languages"


def _save(file: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write all of the file or nothing: a half-written one would be taken for done."""
    import numpy as np  # noqa: PLC0415

    with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".part", delete=False) as part:
        try:
            np.savez(part, allow_pickle=False, **arrays)
            part.close()
            Path(part.name).chmod(0o644)  # others may serve it: there is no secret in it
            Path(part.name).replace(file)
        finally:
            Path(part.name).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
