"""The engine, the loop, evaluation and checkpoints.

DeepSpeed decides on the accelerator, and talks, while it is imported: this comes before.
"""

import os
import warnings

import torch

if torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cuda")
else:
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    # One of DeepSpeed's optimizers, not ours, is compiled on import: two seconds of every start.
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
