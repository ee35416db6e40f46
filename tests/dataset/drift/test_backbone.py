from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flows.dataset.drift import backbone as embeddings
from flows.dataset.drift.backbone import embed_arrays, embed_images, read_backbone
from flows.dataset.drift.embeddings import NUM_COMPONENTS, embed_samples, join_embeddings
from flows.dataset.drift.samples import Sample
from flows.errors import CheckpointError, DataError
from tests.dataset.drift.drift_frames import make_sample, scenes

Draw = Callable[..., None]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained yolo11n."""
    import torch

    from flows.weights import load_ultralytics

    load_ultralytics()
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(3)
    model = DetectionModel("yolo11n.yaml", nc=2, verbose=False)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # statistics of what it sees: without them an untrained net is the same everywhere
    with torch.no_grad():
        model.train()(torch.rand(4, 3, 64, 96))
    path = tmp_path_factory.mktemp("weights") / "best.pt"
    torch.save({"model": model.half()}, path)
    return path


@pytest.fixture
def images(tmp_path: Path, draw_image: Draw) -> list[Path]:
    paths = [tmp_path / f"{number}.jpg" for number in range(5)]
    for number, path in enumerate(paths):
        draw_image(path, seed=number, grey=60 + 30 * number)
    return paths


def test_a_vector_per_image_whatever_its_shape_and_company(weights: Path) -> None:
    generator = np.random.default_rng(0)
    frames = [generator.integers(0, 255, (*size, 3), dtype=np.uint8) for size in ((60, 100), (100, 60), (60, 100))]
    backbone = read_backbone(weights)
    together = embed_arrays(backbone, frames)
    assert together.shape == (3, 256)
    assert np.isfinite(together).all()
    alone = np.concatenate([embed_arrays(backbone, [frame]) for frame in frames])
    np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-3)
    assert np.abs(together[0] - together[2]).max() > 1e-2


def test_vectors_are_remembered_by_content(
    weights: Path, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, told = tmp_path / "home" / "embeddings.db", list[tuple[int, int]]()
    digests = ["a", "b", "a", "c", "d"]
    monkeypatch.setattr(embeddings, "_BATCH", 2)
    first = embed_images(weights, images[:4], digests[:4], store, lambda done, total, note: told.append((done, total)))
    assert told == [(2, 4), (4, 4)]
    monkeypatch.setattr(embeddings, "read_backbone", lambda path: pytest.fail("all are known"))
    again = embed_images(weights, images[:4], digests[:4], store)
    np.testing.assert_array_equal(first[[1, 3]], again[[1, 3]])
    monkeypatch.undo()
    assert embed_images(weights, images, digests, store).shape == (5, 256)


def test_an_image_that_has_gone_and_weights_that_are_none_are_errors(
    weights: Path, images: list[Path], tmp_path: Path
) -> None:
    images[1].unlink()
    with pytest.raises(DataError, match=r"1\.jpg can no longer be read"):
        embed_images(weights, images[:2], ["a", "b"], tmp_path / "e.db")
    with pytest.raises(CheckpointError):
        embed_images(tmp_path / "absent.pt", images[2:3], ["c"], tmp_path / "e.db")


def test_samples_get_columns_for_evenly_spread_frames(weights: Path, images: list[Path], tmp_path: Path) -> None:
    sample = make_sample("train", scenes(1), 1, num_clips=2)
    paths = tuple(images[number % 5] for number in range(8))
    both = [Sample(name, sample.frames, sample.thumbnails, paths) for name in ("train", "val")]
    before, now = embed_samples(both[0], both[1], weights, tmp_path / "e.db", max_frames=4)
    names = [name for name in before.columns if name.startswith("embedding_")]
    assert len(names) == NUM_COMPONENTS
    assert before.frames["embedding_1"].notna().tolist() == [True, False, True, False, False, True, False, True]
    np.testing.assert_allclose(before.frames[names], now.frames[names])
    unseen = Sample("production", sample.frames)
    assert embed_samples(both[0], unseen, weights, tmp_path / "e.db", 4) == (both[0], unseen)
    assert embed_samples(both[0], both[1], weights, tmp_path / "e.db", 0) == (both[0], both[1])


def test_components_do_not_depend_on_which_sample_is_which() -> None:
    generator = np.random.default_rng(0)
    sample = make_sample("train", scenes(1), 1, num_clips=2)
    first, second = (generator.normal(size=(8, 32)).astype(np.float32) for _ in range(2))
    one, other = join_embeddings(sample, sample, first, second), join_embeddings(sample, sample, second, first)
    np.testing.assert_allclose(one[0].frames["embedding_1"], other[1].frames["embedding_1"], atol=1e-5)
