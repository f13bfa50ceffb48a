"""Pure functions from the configuration to Envoy resources and policies, one module per Envoy feature."""
