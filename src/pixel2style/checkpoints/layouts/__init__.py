"""Published layouts of whole models."""
