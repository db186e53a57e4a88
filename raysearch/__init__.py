"""raysearch: the best model that your GPUs can find for your labelled images."""

__version__ = "0.1.0"
