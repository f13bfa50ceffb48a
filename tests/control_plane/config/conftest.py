from pathlib import Path

import pytest

from control_plane.config import load_with_sources

BACKENDS = {
    "digits": "server: kserve\nendpoints: [10.0.0.1:8000]\n",
    "other": "server: triton\nendpoints: [10.0.0.2:8000]\n",
    "plain": "server: http\npath: /predict\nendpoints: [10.0.0.3:8000]\n",
}


class Folder:
    """A configuration on disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.gateway_yaml = root / "gateway.yaml"
        (root / "backends").mkdir()

    def write(self, gateway: str | bytes, files: dict[str, str] | None = None) -> Path:
        for name, text in BACKENDS.items():
            (self.root / "backends" / f"{name}.yaml").write_text(text)
        for name, text in (files or {}).items():
            (self.root / name).parent.mkdir(exist_ok=True, parents=True)
            (self.root / name).write_text(text)
        data = gateway if isinstance(gateway, bytes) else gateway.encode()
        self.gateway_yaml.write_bytes(data)
        return self.gateway_yaml

    def errors(self, gateway: str | bytes, files: dict[str, str] | None = None) -> list[str]:
        """The messages, with paths relative to the folder."""
        loaded = load_with_sources(self.write(gateway, files))
        return [str(error).removeprefix(f"{self.root}/") for error in loaded.errors]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)
