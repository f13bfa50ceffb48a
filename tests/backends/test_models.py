"""The models by themselves, their files, and the data of the quickstart."""

import base64
import io
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from backends.digit_image import decode, to_pixels
from backends.handwriting import picture, split
from backends.language import LANGUAGES
from backends.served_model import NAMES, InputError, NotTrainedError, load
from backends.train import main as train

EXAMPLES = Path(__file__).parents[2] / "examples" / "quickstart"


@pytest.fixture(scope="module")
def model(models):
    return load("digits")


@pytest.fixture(scope="module")
def page() -> Image.Image:
    """A digit 3 that training never saw."""
    _, _, images, digits = split()
    return picture(images[int(np.flatnonzero(digits == 3)[0])])


def guess(model, image: Image.Image) -> int:
    return int(model.probabilities(to_pixels(image)[None]).argmax())


def transparent(page: Image.Image) -> Image.Image:
    result = Image.new("RGBA", page.size, (0, 0, 0, 255))
    result.putalpha(page.point([255 - value for value in range(256)]))
    return result


def in_a_corner(page: Image.Image) -> Image.Image:
    result = Image.new("L", (500, 300), 255)
    result.paste(page, (0, 0))
    return result


LOOKS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "black on white": lambda page: page,
    "white on black": lambda page: page.point([255 - value for value in range(256)]),
    "in colour": lambda page: Image.merge("RGB", (page, page, Image.new("L", page.size, 255))),
    "with a palette": lambda page: page.convert("P"),
    "two colours": lambda page: page.convert("1"),
    "on transparent ground": transparent,
    "16 bits": lambda page: Image.fromarray(np.asarray(page, dtype=np.uint16) * 257),
    "large": lambda page: page.resize((2000, 2000)),
    "small": lambda page: page.resize((28, 28), Image.Resampling.BOX),
    "in a corner": in_a_corner,
    "faint": lambda page: page.point([200 + value // 8 for value in range(256)]),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_a_digit_is_recognised_however_it_was_drawn(model, page, look):
    assert guess(model, look(page)) == 3


def test_a_data_uri_is_a_picture_too(page):
    buffer = io.BytesIO()
    page.save(buffer, "PNG")
    text = base64.b64encode(buffer.getvalue()).decode()
    assert to_pixels(decode(f"data:image/png;base64,{text}")).tolist() == to_pixels(decode(text)).tolist()


def test_an_empty_page_shows_no_digit():
    with pytest.raises(InputError, match="shows no digit"):
        to_pixels(Image.new("L", (50, 50), 255))


def broken(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (64, 64)).save(buffer, "GIF" if kind == "gif" else "PNG")
    return buffer.getvalue()[:60] if kind == "truncated" else buffer.getvalue()


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", broken("truncated"), broken("gif")])
def test_what_is_no_picture_is_refused(data):
    with pytest.raises(InputError, match="not a readable PNG or JPEG"):
        decode(base64.b64encode(data).decode())


def test_a_picture_with_too_many_pixels_is_refused_before_it_is_decoded():
    buffer = io.BytesIO()
    Image.new("1", (10_000, 4_001)).save(buffer, "PNG")
    with pytest.raises(InputError, match="more than 40000000 pixels"):
        decode(base64.b64encode(buffer.getvalue()).decode())


def test_the_files_of_the_quickstart_are_in_the_models_order(models):
    assert tuple((EXAMPLES / "languages.txt").read_text().split("\n")[:-1]) == load("language").labels


def test_making_the_models_again_takes_no_time(models):
    began = time.monotonic()
    result = subprocess.run([sys.executable, "-m", "backends.train"], capture_output=True, text=True, check=True)
    assert time.monotonic() - began < 1
    assert result.stdout.splitlines() == ["digits.npz: is there", "language.npz: is there"]


@pytest.mark.slow
def test_training_gives_a_good_model_from_nothing(tmp_path):
    result = CliRunner().invoke(train, ["--folder", str(tmp_path / "models")])
    assert result.exit_code == 0, result.output
    accuracy = float(result.output.split("% of")[0].rpartition(" ")[2])
    assert accuracy >= 95
    assert sorted(file.name for file in (tmp_path / "models").iterdir()) == ["digits.npz", "language.npz"]


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_says_what_to_do(tmp_path, name):
    with pytest.raises(NotTrainedError, match=r"run `python -m backends\.train` first"):
        load(name, tmp_path)


def test_serving_does_not_import_the_training_library(models):
    code = "import sys; from backends.served_model import load; [load(x) for x in ('digits', 'language')]; "
    code += "print('sklearn' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


def test_the_unpacked_language_model_says_what_its_package_says(models):
    from py3langid import langid

    whole = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
    whole.set_languages(LANGUAGES)
    served = load("language")
    russian = "Все люди рождаются свободными"  # noqa: RUF001 (on purpose)
    for text in ("Hello, world!", russian, "你好", "¿Dónde está la biblioteca?", "ẞ" * 500, ""):
        assert dict(zip(served.labels, served.scores([text])[0], strict=True)) == pytest.approx(dict(whole.rank(text)))
