"""pSp: encoders, their trunks and heads, and the whole model."""
