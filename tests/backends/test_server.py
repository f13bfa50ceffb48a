"""The model servers as processes, over HTTP."""

import base64
import signal
import threading
import time
from pathlib import Path

import pytest

from backends.handwriting import picture, split
from backends.open_inference import MOST_ITEMS

from .conftest import Answer, running

EXAMPLES = Path(__file__).parents[2] / "examples" / "quickstart"

pytestmark = pytest.mark.live


def encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def best(answer: Answer) -> list[int]:
    output = answer.document["outputs"][0]
    columns = output["shape"][1]
    rows = [output["data"][start : start + columns] for start in range(0, len(output["data"]), columns)]
    return [row.index(max(row)) for row in rows]


def test_the_pictures_of_the_quickstart_are_recognised(digits):
    answer = digits.infer("digits", "image", encoded(EXAMPLES / "three.png"), encoded(EXAMPLES / "seven.jpg"))
    assert answer.status == 200
    output = answer.document["outputs"][0]
    assert (output["name"], output["datatype"], output["shape"]) == ("scores", "FP32", [2, 10])
    assert best(answer) == [3, 7]
    assert sum(output["data"]) == pytest.approx(2, abs=1e-5)


def test_pictures_that_training_never_saw_are_recognised(digits):
    import io

    _, _, images, wanted = split()
    texts = []
    for image in images:
        buffer = io.BytesIO()
        picture(image).save(buffer, "PNG")
        texts.append(base64.b64encode(buffer.getvalue()).decode())
    guesses = []
    for start in range(0, len(texts), MOST_ITEMS):
        guesses += best(digits.infer("digits", "image", *texts[start : start + MOST_ITEMS]))
    assert sum(guess == digit for guess, digit in zip(guesses, wanted, strict=True)) / len(wanted) >= 0.95


TEXTS = {
    "Hello, world!": "en",
    "  Hello, world!\n": "en",
    "The train to the airport leaves in ten minutes.": "en",
    "Bonjour tout le monde": "fr",
    "Hallo Welt, wie geht es dir?": "de",
    "¿Dónde está la biblioteca?": "es",
    "Все люди рождаются свободными и равными": "ru",  # noqa: RUF001 (Russian on purpose)
    "Ciao mondo, come stai?": "it",
    "Olá, mundo!": "pt",
    "Wszyscy ludzie rodzą się wolni": "pl",
    "Москва - столица России": "ru",
    "Українська мова": "uk",
    "こんにちは世界": "ja",
    "你好,世界": "zh",
    "안녕하세요": "ko",
    "مرحبا بالعالم": "ar",
    "Γεια σου κόσμε": "el",  # noqa: RUF001 (Greek on purpose)
}


def test_languages_are_recognised(language):
    labels = (EXAMPLES / "languages.txt").read_text().split()
    answer = language.infer("language", "text", *TEXTS)
    assert [labels[index] for index in best(answer)] == list(TEXTS.values())


def test_a_text_without_any_letter_is_no_error(language):
    answer = language.infer("language", "text", "", " ", "123", "\ud83d", "\x00")
    assert answer.status == 200
    assert answer.document["outputs"][0]["shape"] == [5, 71]


def test_the_server_describes_itself_and_its_model(digits):
    assert digits.call("/v2").document == {"name": "isg-quickstart", "version": "1", "extensions": []}
    assert digits.call("/v2/health/live").document == {"live": True}
    assert digits.call("/v2/models/digits/ready").document == {"name": "digits", "ready": True}
    assert digits.call("/v2/models/digits").document == {
        "name": "digits",
        "versions": ["1"],
        "platform": "numpy",
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, 10]}],
    }
    assert digits.call("/v2/models/digits/versions/1").status == 200


def test_an_answer_carries_the_requests_id(language):
    answer = language.infer("language", "text", "Hello", id="42", parameters={}, outputs=[{"name": "scores"}])
    assert (answer.document["id"], answer.document["model_name"]) == ("42", "language")


def test_what_is_not_here_is_404_and_what_is_not_done_is_405(digits):
    for path in ("/", "/v2/models/other", "/v2/models/digits/versions/2", "/v2/models/other/ready"):
        answer = digits.call(path)
        assert (answer.status, list(answer.document)) == (404, ["error"])
    answer = digits.call("/v2/models/digits/infer")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


def tensor(**changes: object) -> dict[str, object]:
    return {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["aGk="], **changes}]}


WRONG = {
    "no JSON": (b"{", "the body is not JSON"),
    "deep nesting": (b"[" * 100_000, "the body is not JSON"),
    "a list": ([], "the body must be a JSON object"),
    "no inputs": ({}, "`inputs` must be a list of one tensor, `image`"),
    "another input": (tensor(name="x"), "the input of this model is called `image`"),
    "another datatype": (tensor(datatype="FP32"), "`image` has datatype BYTES"),
    "numbers": (tensor(data=[1]), "the data of `image` must be a list of strings"),
    "nothing": (tensor(data=[], shape=[0]), "`image` must hold 1 to 64 elements"),
    "another shape": (tensor(shape=[2]), "the shape of `image` must be [1], the number of its elements"),
    "another output": ({**tensor(), "outputs": [{"name": "x"}]}, "the only output is `scores`"),
    "an id": ({**tensor(), "id": 5}, "`id` must be a string"),
    "no base64": (tensor(data=["!!!"]), "the image is not base64"),
    "no picture": (tensor(), "the image is not a readable PNG or JPEG"),
}


@pytest.mark.parametrize(("document", "expected"), WRONG.values(), ids=WRONG)
def test_a_wrong_request_is_400_with_the_reason(digits, document, expected):
    answer = digits.call("/v2/models/digits/infer", document)
    assert (answer.status, answer.document) == (400, {"error": expected})


def test_binary_tensors_are_refused(digits):
    answer = digits.call("/v2/models/digits/infer", tensor(), headers={"Inference-Header-Content-Length": "10"})
    assert answer.status == 400


def test_requests_are_counted_by_status(models):
    with running("language") as server:
        server.infer("language", "text", "Hello")
        server.infer("language", "other", "Hello")
        text = server.call("/metrics").document
    assert 'model_requests_total{model="language",status="200"} 1.0' in text
    assert 'model_requests_total{model="language",status="400"} 1.0' in text
    assert 'model_in_flight{model="language"} 0.0' in text


@pytest.mark.parametrize("model", ["digits", "language"])
def test_a_server_is_ready_after_little_work(models, model):
    with running(model) as server:
        assert server.cpu_s() < 1.5


def test_a_slow_server_answers_late_and_a_stop_loses_nothing(models):
    with running("language", "--delay-ms", "400") as server:
        answers = []
        began = time.monotonic()
        client = threading.Thread(target=lambda: answers.append(server.infer("language", "text", "Hello")))
        client.start()
        while 'model_in_flight{model="language"} 1.0' not in server.call("/metrics").document:
            time.sleep(0.01)
        server.process.send_signal(signal.SIGTERM)
        client.join()
        assert answers[0].status == 200
        assert time.monotonic() - began >= 0.4
        assert server.process.wait(timeout=5) == 0
