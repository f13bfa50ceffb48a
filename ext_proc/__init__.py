"""The payload service: is the payload right, and in what shape does the answer go out."""
