"""Is the payload right: JSON, schema, images, tensors."""
