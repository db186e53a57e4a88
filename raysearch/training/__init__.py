"""Plain PyTorch: the loop of one trial, its losses, optimisation, metrics and device."""
