"""Authentication and authorization: who may call, and which models."""
