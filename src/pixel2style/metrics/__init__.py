"""How alike two pictures, or two sets of pictures, are; and losses made of it."""
