"""Every fault of gateway.yaml: its place and its words."""

import pytest

MODEL = "models: {digits: {backend: digits}}\n"


def model(text: str) -> str:
    """A configuration whose only model has these further keys, from column 5 of line 4."""
    return f"models:\n  digits:\n    backend: digits\n    {text}\n"


TOP = {
    "an unknown key": (
        "admn: x\n" + MODEL,
        (
            "1:1: unknown key `admn`, did you mean `admin`? "
            "expected version, listen, admin, backends, default_model, models or state"
        ),
    ),
    "a key of a later version": (MODEL + "access: {}\n", "2:1: `access` is not in this version"),
    "another version": ("version: 2\n" + MODEL, "1:10: expected 1, found `2`"),
    "no models": ("version: 1\n", "1:1: missing key `models`"),
    "an empty file": ("", "1:1: the file is empty: expected at least `models:`"),
    "only a comment": ("# hello\n", "1:1: the file is empty: expected at least `models:`"),
    "a list": ("- a\n", "1:1: expected a mapping of keys to values, found a list"),
    "a word": ("hello\n", "1:1: expected a mapping of keys to values, found `hello`"),
    "empty models": ("models: {}\n", "1:9: expected at least one model"),
    "models as a list": ("models: [digits]\n", "1:9: expected a mapping of keys to values, found a list"),
    "models as nothing": ("models:\n", "1:8: expected a mapping of keys to values, found nothing"),
    "an unknown default model": (
        "default_model: digts\n" + MODEL,
        "1:16: no model `digts` under `models`, did you mean `digits`?",
    ),
    "an address without a port": (
        "listen: 127.0.0.1\n" + MODEL,
        "1:9: expected an address such as 127.0.0.1:8080, [::]:8080 or :8080, found `127.0.0.1`",
    ),
    "a port too large": (
        "listen: [127.0.0.1:8080, 127.0.0.1:65536]\n" + MODEL,
        "1:26: expected an address such as 127.0.0.1:8080, [::]:8080 or :8080, found `127.0.0.1:65536`",
    ),
    "a name to listen on": (
        "listen: example.com:80\n" + MODEL,
        "1:9: expected an IP address to listen on, found `example.com`",
    ),
    "a wrong IPv6 address": ("listen: '[::g]:80'\n" + MODEL, "1:9: `::g` is not an IPv6 address"),
    "TLS": (
        "listen: [{address: ':443', tls: {certificate: f}}]\n" + MODEL,
        "1:28: `tls` is not in this version",
    ),
    "no listener": ("listen: []\n" + MODEL, "1:9: expected at least one address to listen on"),
    "a listener twice": (
        "listen: [':80', '0.0.0.0:80']\n" + MODEL,
        "1:17: `0.0.0.0:80` is listened on twice",
    ),
    "admin on a listener": (
        "listen: 127.0.0.1:80\nadmin: 127.0.0.1:80\n" + MODEL,
        "2:8: `127.0.0.1:80` is both `listen` and `admin`",
    ),
    "a PostgreSQL store": (
        "state: {store: 'postgresql://db/isg'}\n" + MODEL,
        "1:16: `store: postgresql://db/isg` is not in this version, expected sqlite",
    ),
    "shared Redis": (
        "state: {shared: 'redis://r:6379'}\n" + MODEL,
        "1:17: `shared: redis://r:6379` is not in this version, expected none",
    ),
    "a drain without unit": (
        "state: {drain: 30}\n" + MODEL,
        "1:16: expected a duration such as 250ms, 30s, 5m or 1h, found `30`",
    ),
    "a model's name": (
        "models: {Bad Name: {backend: digits}}\n",
        "1:10: model name `Bad Name`: expected 1 to 64 of a-z, 0-9 and . _ -, beginning with a letter or digit",
    ),
    "a model that is nothing": (
        "models:\n  digits:\n",
        "2:10: expected a mapping of keys to values, found nothing",
    ),
}

MODELS = {
    "an unknown key": (
        "backned: x",
        (
            "4:5: unknown key `backned`, did you mean `backend`? expected dialect, targets, mirror, input, output, "
            "max_body, max_response, timeout, retries or backend"
        ),
    ),
    "a field's Python name": (
        "max_body_bytes: 1MiB",
        (
            "4:5: unknown key `max_body_bytes`, did you mean `max_body`? "
            "expected dialect, targets, mirror, input, output, max_body, max_response, timeout, retries or backend"
        ),
    ),
    "a later dialect": ("dialect: openai", "4:14: `dialect: openai` is not in this version, expected predict"),
    "no dialect": ("dialect: predct", "4:14: expected predict, found `predct`, did you mean `predict`?"),
    "backend and targets": (
        "targets: [{backend: digits}]",
        "3:5: `backend` and `targets` both say where the model runs: keep one",
    ),
    "a mirror to nowhere": (
        "mirror: {backend: digit}",
        "4:23: no backend `digit` in the backends folder, did you mean `digits`?",
    ),
    "a mirror of another kind": (
        "mirror: {backend: plain}",
        (
            "4:23: backend `plain` has `server: http`, but `digits` has `server: kserve`: "
            "all backends of a model take the same request"
        ),
    ),
    "a percentage": ("mirror: {backend: digits, percent: 101}", "4:40: expected at most 100, found `101`"),
    "a percentage that is no number": (
        "mirror: {backend: digits, percent: nan}",
        "4:40: expected a finite number, found `nan`",
    ),
    "a size without unit": ("max_body: 100", "4:15: expected a size such as 64KiB, 1MiB or 500B, found `100`"),
    "a size too large": ("max_response: 2GiB", "4:19: expected a size from 1B to 1GiB, found `2GiB`"),
    "no time": ("timeout: 0s", "4:14: expected more than 0, found `0s`"),
    "a whole week": ("timeout: 168h", "4:14: expected a duration of at most 24h, found `168h`"),
    "retries in words": ("retries: no", "4:14: expected a whole number, found `no`"),
    "too many retries": ("retries: 11", "4:14: expected at most 10, found `11`"),
    "retries as a list": ("retries: [1]", "4:14: expected a whole number, found a list"),
    "a later key": ("cache: {ttl: 60s}", "4:5: `cache` is not in this version"),
    "a later output": ("output: {redact: []}", "4:14: `redact` is not in this version"),
    "a tensor's key": (
        "input: {tensors: [{name: x, datatype: FP32, shape: [1], form: /x, from: /x}]}",
        "4:61: unknown key `form`, did you mean `from`? expected name, datatype, shape or from",
    ),
    "a tensor without source": (
        "input: {tensors: [{name: x, datatype: FP32, shape: [1]}]}",
        "4:23: missing key `from`",
    ),
    "a tensor's type": (
        "input: {tensors: [{name: x, datatype: float, shape: [1], from: /x}]}",
        (
            "4:43: expected BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, FP32, FP64 or BYTES, "
            "found `float`"
        ),
    ),
    "a dimension": (
        "input: {tensors: [{name: x, datatype: FP32, shape: [-2], from: /x}]}",
        "4:57: expected at least -1, found `-2`",
    ),
    "a pointer": (
        "input: {tensors: [{name: x, datatype: FP32, shape: [1], from: pixels}]}",
        "4:67: expected a JSON pointer such as /image or /items/0, found `pixels`",
    ),
    "a tensor twice": (
        "input: {tensors: [&t {name: x, datatype: FP32, shape: [1], from: /x}, *t]}",
        "4:33: tensor `x` is there twice",
    ),
    "an image's pointer": (
        "input: {image: {from: '~'}}",
        "4:27: expected a JSON pointer such as /image or /items/0, found `~`",
    ),
    "an image's format": (
        "input: {image: {from: /image, formats: [png, gif]}}",
        "4:50: expected png or jpeg, found `gif`",
    ),
    "no image format": (
        "input: {image: {from: /image, formats: []}}",
        "4:44: expected at least one of png and jpeg",
    ),
    "top_k of nothing": ("output: {top_k: 0}", "4:21: expected at least 1, found `0`"),
    "top_k of too few": (
        "output: {labels: [a, b], top_k: 3}",
        "4:37: expected at most 2, the number of labels",
    ),
    "labels as a mapping": ("output: {labels: {a: b}}", "4:22: expected a list, found a mapping"),
    "a label that is a list": ("output: {labels: [a, [b]]}", "4:26: expected text, found a list"),
    "a schema's type": (
        "input: {schema: {type: strin}}",
        (
            "4:28: not a JSON Schema 2020-12: "
            "\"strin\" is not valid under any of the schemas listed in the 'anyOf' keyword"
        ),
    ),
    "a schema's pattern": (
        "input: {schema: {properties: {a: {pattern: '('}}}}",
        '4:48: not a JSON Schema 2020-12: "(" is not a "regex"',
    ),
    "a remote reference": (
        "input: {schema: {properties: {a: {$ref: 'https://x/y'}}}}",
        "4:45: a `$ref` to another document: it must begin with #",
    ),
    "another draft": (
        "input: {schema: {$schema: 'http://json-schema.org/draft-07/schema#'}}",
        "4:31: expected `$schema` to be https://json-schema.org/draft/2020-12/schema",
    ),
    "a schema that is a list": ("input: {schema: [1]}", "4:21: expected a JSON Schema (a mapping)"),
    "a schema's file": ("input: {schema: nope.json}", "nope.json:1:1: cannot be read: No such file or directory"),
    "a schema outside": ("input: {schema: ../x.json}", "4:21: `../x.json` lies outside the folder of gateway.yaml"),
    "a schema by absolute path": (
        "input: {schema: /etc/passwd}",
        "4:21: `/etc/passwd` lies outside the folder of gateway.yaml",
    ),
    "labels outside": ("output: {labels: ../x.txt}", "4:22: `../x.txt` lies outside the folder of gateway.yaml"),
}

WHOLE = {
    "a model without backend": ("models:\n  digits: {}\n", "2:3: model `digits` needs `backend` or `targets`"),
    "an ensemble": ("models:\n  x: {ensemble: {of: [a]}}\n", "2:7: `ensemble` is not in this version"),
    "no targets": ("models: {x: {targets: []}}\n", "1:23: expected at least one target"),
    "an unknown backend": ("models: {x: {backend: nope}}\n", "1:23: no backend `nope` in the backends folder"),
    "weights of nothing": (
        "models: {x: {targets: [{backend: digits, weight: 0}]}}\n",
        "1:23: the weights of all targets are 0",
    ),
    "targets of two kinds": (
        "models: {x: {targets: [{backend: digits}, {backend: other}]}}\n",
        (
            "1:53: backend `other` has `server: triton`, but `digits` has `server: kserve`: "
            "all backends of a model take the same request"
        ),
    ),
    "tensors to an http server": (
        "models: {x: {backend: plain, input: {tensors: [{name: x, datatype: FP32, shape: [1], from: /x}]}}}\n",
        "1:38: server http takes the body as it is: `tensors` are for Open Inference servers",
    ),
}


@pytest.mark.parametrize(("text", "expected"), TOP.values(), ids=TOP)
def test_a_fault_of_the_top_level_has_its_place_and_its_words(folder, text, expected):
    assert folder.errors(text) == [f"gateway.yaml:{expected}"]


@pytest.mark.parametrize(("text", "expected"), MODELS.values(), ids=MODELS)
def test_a_fault_of_a_model_has_its_place_and_its_words(folder, text, expected):
    found = folder.errors(model(text))
    assert found == [expected if expected.startswith("nope.json") else f"gateway.yaml:{expected}"]


@pytest.mark.parametrize(("text", "expected"), WHOLE.values(), ids=WHOLE)
def test_a_fault_between_models_and_backends_has_its_place_and_its_words(folder, text, expected):
    assert folder.errors(text) == [f"gateway.yaml:{expected}"]


def test_a_missing_backends_folder_is_an_error_where_it_is_named(folder):
    found = folder.errors("backends: nowhere\nmodels: {x: {backend: digits}}\n")
    assert len(found) == 1
    assert found[0].startswith("gateway.yaml:1:11: backends folder `")
    assert found[0].endswith("cannot be read: No such file or directory")


def test_all_faults_are_found_at_once_and_sorted(folder):
    text = "listen: x\nmodels:\n  A: {backend: nope}\n  b: {backend: digits, timeout: x}\n"
    found = folder.errors(text, {"backends/broken.yaml": "server: kserve\nballance: x\n"})
    assert [error.split(": ")[0] for error in found] == [
        "backends/broken.yaml:2:1",
        "gateway.yaml:1:9",
        "gateway.yaml:3:3",
        "gateway.yaml:3:16",
        "gateway.yaml:4:33",
    ]


def test_a_broken_backend_is_not_an_unknown_backend(folder):
    text = "models: {x: {backend: broken}}\n"
    assert folder.errors(text, {"backends/broken.yaml": "server: kserve\n"}) == [
        "backends/broken.yaml:1:1: expected `endpoints` (at least one) or `run`"
    ]


def test_faults_after_the_hundredth_are_not_looked_for(folder):
    keys = "".join(f"k{number}: 1\n" for number in range(500))
    assert len(folder.errors(keys + MODEL)) == 100


def test_a_schema_file_that_is_no_json_is_an_error_at_its_own_place(folder):
    found = folder.errors(model("input: {schema: s.json}"), {"s.json": '{"type":\n  "object", "type": 1}'})
    assert found == ['s.json:2:20: not JSON: Detected duplicate key "type"']


def test_a_schema_file_with_a_fault_names_the_place_inside(folder):
    found = folder.errors(model("input: {schema: s.json}"), {"s.json": '{"properties": {"a": {"minLength": -1}}}'})
    assert found == [
        "s.json:1:1: not a JSON Schema 2020-12: -1 is less than the minimum of 0 (at /properties/a/minLength)"
    ]


def test_a_symbolic_link_out_of_the_folder_is_refused(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "labels.txt"
    outside.write_text("a\n")
    (folder.root / "labels.txt").symlink_to(outside)
    assert folder.errors(model("output: {labels: labels.txt}")) == [
        "gateway.yaml:4:22: `labels.txt` lies outside the folder of gateway.yaml"
    ]


def test_a_file_of_labels_has_no_empty_lines(folder):
    text = model("output: {labels: labels.txt}")
    assert folder.errors(text, {"labels.txt": "a\n\nb\n"}) == ["labels.txt:2:1: an empty line: expected a label"]
    assert folder.errors(text, {"labels.txt": ""}) == ["labels.txt:1:1: the file is empty: expected one label a line"]
