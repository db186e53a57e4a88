"""What trained networks are worth, and what they say of images that they have never seen."""
