"""The control plane: YAML to Envoy resources, the ADS server, and the ``isg`` command."""
