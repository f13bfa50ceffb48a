"""In what shape an answer goes out."""
