"""Training of what a compressed model is made of."""
