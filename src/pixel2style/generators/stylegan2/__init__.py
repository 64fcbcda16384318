"""StyleGAN2 and StyleGAN2-ADA, and the readers and writers of their published files."""
