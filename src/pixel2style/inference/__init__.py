"""A model in use: pictures in, pictures and rows out."""
