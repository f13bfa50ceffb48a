"""API keys: their format, the store that keeps them, and the index that requests are answered from."""
