"""Write the descriptor set and the stub file beside :mod:`gateway.messages`."""

from gateway.messages import DESCRIPTOR_SET, ROOTS
from gateway.schema.closure import Closure
from gateway.schema.descriptors import descriptor_set
from gateway.schema.stubs import stub_file


def main() -> None:
    """Derive both from the installed envoy-data-plane."""
    closure = Closure(ROOTS)
    DESCRIPTOR_SET.write_bytes(descriptor_set(closure).SerializeToString(deterministic=True))
    DESCRIPTOR_SET.with_suffix(".pyi").write_text(stub_file(closure))


if __name__ == "__main__":
    main()
