"""What the operator's commands do, one module each; :mod:`control_plane.cli` declares them."""
