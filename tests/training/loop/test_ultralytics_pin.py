"""What this product builds on inside Ultralytics, pinned: an update fails here, and says what to look at again."""

from __future__ import annotations

import hashlib
import inspect
from importlib import import_module
from typing import Any

import pytest

from flows.weights import load_ultralytics

VERSION = "8.4.190"
PINNED = {
    # module:object: (sha256 of its source, first 12 digits; what in flows/training leans on it)
    "engine.trainer:BaseTrainer.__init__": ("f65efe9d96be", "session: what is there before the model"),
    "engine.trainer:BaseTrainer.train": ("b7f76d34d85c", "session: no launcher of its own"),
    "engine.trainer:BaseTrainer._do_train": (
        "87a635e3bfc4",
        "session: order of callbacks, accumulate, short memory, stop",
    ),
    "engine.trainer:BaseTrainer._setup_train": (
        "aecd0c111afe",
        "session, distributed: what is built when; resume_training last",
    ),
    "engine.trainer:BaseTrainer._build_train_pipeline": ("07afcc0627f2", "loader: what is asked of it; weight decay"),
    "engine.trainer:BaseTrainer._get_warmup_iterations": ("2b8d4260941e", "schedule: the same count"),
    "engine.trainer:BaseTrainer._setup_scheduler": ("2102ad770f8e", "snapshot: rates follow from the epoch alone"),
    "engine.trainer:BaseTrainer.optimizer_step": ("bec16cbc552a", "snapshot: what a step changes"),
    "engine.trainer:BaseTrainer.setup_model": ("33c98eece052", "session: first weights"),
    "engine.trainer:BaseTrainer.resume_training": ("a43cef5955c0", "session: replaced"),
    "engine.trainer:BaseTrainer._load_checkpoint_state": (
        "1c4472505c34",
        "snapshot: the same things, at full precision",
    ),
    "engine.trainer:BaseTrainer._handle_nan_recovery": ("e465d82576a3", "session: replaced"),
    "engine.trainer:BaseTrainer.save_model": ("47f61ede98e6", "session: replaced; results: what a checkpoint holds"),
    "engine.trainer:BaseTrainer.save_metrics": ("aec243b661fc", "session: replaced"),
    "engine.trainer:BaseTrainer.final_eval": ("398e74e935f3", "session: replaced"),
    "engine.trainer:BaseTrainer.validate": ("e56ca46cb1e3", "session: score instead of fitness"),
    "engine.trainer:BaseTrainer.build_optimizer": (
        "108f7055e600",
        "session: fused Adam; schedule: names of the groups",
    ),
    "engine.trainer:BaseTrainer._setup_ddp": ("90798e18affb", "distributed: replaced"),
    "models.yolo.detect.train:DetectionTrainer.build_dataset": ("2d004adb8adc", "session: shapes of rectangles"),
    "models.yolo.detect.train:DetectionTrainer.get_dataloader": ("981b10cf054f", "session: replaced for training"),
    "models.yolo.detect.train:DetectionTrainer.preprocess_batch": ("cd3df8d7801c", "distributed: what is in a batch"),
    "models.yolo.detect.train:DetectionTrainer._build_train_pipeline": (
        "a86453b56fab",
        "loader: what is asked of its dataset",
    ),
    "models.yolo.classify.train:ClassificationTrainer.get_dataloader": (
        "1756fc09ff7e",
        "session: replaced for training",
    ),
    "models.yolo.classify.train:ClassificationTrainer.setup_model": ("a99c0b3d859b", "session: first weights"),
    "engine.validator:BaseValidator.__call__": (
        "29da273b2118",
        "snapshot: what validation asks of a trainer; distributed: losses",
    ),
    "models.yolo.detect.val:DetectionValidator.gather_stats": ("1ef6038776cd", "distributed: wrapped"),
    "data.base:BaseDataset.__init__": ("458ff66ff8fb", "loader: buffer and cache"),
    "data.base:BaseDataset.load_image": ("088d1a203d12", "loader: the buffer of recent frames"),
    "data.base:BaseDataset.get_image_and_label": ("ed0c3955ff19", "loader: what a frame depends on"),
    "data.base:BaseDataset.set_rectangle": ("f771615eb0db", "session: batch_shapes"),
    "data.dataset:YOLODataset.build_transforms": ("be1309198aa1", "loader: called for mosaics and for none"),
    "data.dataset:YOLODataset.close_mosaic": ("62c6ff1f2c2b", "loader: what ends with mosaics"),
    "data.augment:Mosaic.__init__": ("e4c9ca874e27", "loader: partners from all frames where the cache is ram"),
    "data.augment:Mosaic.get_indexes": ("1152aa5dfa59", "loader: partners from all frames where the cache is ram"),
    "data.augment:v8_transforms": ("61e0ccbf8db7", "loader: generators that augmentation draws from"),
    "data.build:InfiniteDataLoader": ("7b232ee7c2d3", "loader: what the loop asks of a loader"),
    "data.build:build_dataloader": ("4f01bd7501fe", "loader: workers, collation"),
    "nn.tasks:BaseModel.loss": ("a0651df7e764", "distributed: loss and its names; snapshot: criterion"),
    "nn.tasks:DetectionModel.init_criterion": ("7cacb6c6675b", "snapshot: YOLO11's criterion has no state"),
    "utils.loss:v8DetectionLoss": ("c1a12908b22a", "distributed: what a loss is divided by"),
    "utils.tal:TaskAlignedAssigner.forward": ("ef2269294636", "distributed: sums of target scores and objects"),
    "utils.torch_utils:ModelEMA": ("29a1b0ab273d", "snapshot: tensors and count of updates"),
    "utils.torch_utils:EarlyStopping": ("1cdf10585bdd", "snapshot: best_fitness and best_epoch"),
    "utils.torch_utils:init_seeds": ("11467ffbddff", "session: what is deterministic"),
    "utils.torch_utils:attempt_compile": ("9af1989780a2", "session: where a compiled model is wrapped"),
    "utils.torch_utils:unwrap_model": ("62ff09972ca6", "snapshot: the bare model"),
}


def find(name: str) -> Any:
    module, _, path = name.partition(":")
    found: Any = import_module(f"ultralytics.{module}")
    for part in path.split("."):
        found = getattr(found, part)
    return found


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    load_ultralytics()


def test_the_version_is_the_one_that_was_read() -> None:
    import ultralytics

    assert ultralytics.__version__ == VERSION, (
        f"Ultralytics is {ultralytics.__version__}: read anew what the failing tests of this "
        "file name, run tests/training, and put the new version and digests here"
    )


@pytest.mark.parametrize("name", PINNED)
def test_what_is_relied_on_is_as_it_was_read(name: str) -> None:
    expected, leaning = PINNED[name]
    digest = hashlib.sha256(inspect.getsource(find(name)).encode()).hexdigest()[:12]
    assert digest == expected, (
        f"ultralytics.{name} has changed. Read it, and check that this still holds: {leaning}. Then put {digest} here"
    )


def test_only_the_loop_counts_parts_until_a_step() -> None:
    """`accumulate` is set to nothing or infinity, which only a comparison of this form understands."""
    assert "if ni - last_opt_step >= self.accumulate:" in inspect.getsource(
        find("engine.trainer:BaseTrainer._do_train")
    )


def test_the_criteria_of_yolo11_keep_nothing_from_step_to_step() -> None:
    """The state holds no criterion. Only end-to-end losses, which YOLO11 has not, count their epochs."""
    from torch import nn

    for name in ("v8DetectionLoss", "v8SegmentationLoss", "v8PoseLoss", "v8OBBLoss", "v8ClassificationLoss"):
        loss = find(f"utils.loss:{name}")
        assert not hasattr(loss, "update")
        assert not issubclass(loss, nn.Module)
