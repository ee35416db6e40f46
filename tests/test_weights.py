"""Ultralytics comes in without changing the process for others."""

from __future__ import annotations

import subprocess
import sys

PROBE = """
import os
from io import BytesIO
from PIL import Image, UnidentifiedImageError
from flows.weights import load_ultralytics, threads
os.environ.pop("OMP_NUM_THREADS", None)
opened = Image.open
load_ultralytics()
load_ultralytics()
assert "OMP_NUM_THREADS" not in os.environ
assert Image.open is opened
from ultralytics.utils import ONLINE, SETTINGS, TQDM
assert not ONLINE
from ultralytics.utils import SAFE_LOAD
assert SAFE_LOAD
off = ("mlflow", "dvc", "wandb", "comet", "clearml", "tensorboard", "raytune", "sync")
assert not any(SETTINGS[key] for key in off)
for _ in TQDM(range(3), disable=False): pass
import torch
before = torch.get_num_threads()
with threads(1) as count:
    assert (count, torch.get_num_threads()) == (1, 1)
with threads(0) as count:
    assert count == len(os.sched_getaffinity(0))
assert torch.get_num_threads() == before
"""


def test_loading_ultralytics_leaves_no_trace() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
