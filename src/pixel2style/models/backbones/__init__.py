"""Networks from a picture to feature maps."""
