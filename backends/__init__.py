"""Model servers: descriptors, and the small real servers of the quickstart."""
