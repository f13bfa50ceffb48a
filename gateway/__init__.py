"""The contract between the three services: messages, policy, names, problems and telemetry."""
