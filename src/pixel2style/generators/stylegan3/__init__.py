"""StyleGAN3, and the reader and writer of its published files."""
