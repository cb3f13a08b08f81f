"""The engine, the loop, evaluation and checkpoints.

DeepSpeed decides on the accelerator, and talks, while it is imported: this comes before.
"""

import os
import warnings

import torch

os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")
warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
