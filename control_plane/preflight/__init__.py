"""Is a candidate configuration one that Envoy takes? Asked of the real Envoy, in a process of its own."""
