"""Functions of rows."""
