"""One thread: these networks are too small to share."""

import torch

torch.set_num_threads(1)
