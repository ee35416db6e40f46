"""The whole path on known pictures, and the same answer whatever the batch."""

from __future__ import annotations

import numpy as np
import pytest

from bentos.detector.detector import Detector, check_model
from bentos.detector.errors import BadImage, BadParameter, EngineFailed, EngineUnavailable, ModelRefused


def test_nothing_in_nothing_out(fake_dir) -> None:
    assert Detector.load(fake_dir).detect([]) == []


def test_boxes_are_in_pixels_of_the_sent_image(fake_dir, paint, encode) -> None:
    detector = Detector.load(fake_dir)
    boxes = {0: (16, 8, 48, 40), 1: (400, 100, 480, 180)}
    (found,) = detector.detect([encode(paint(boxes, (640, 320)), "PNG")])
    assert found.size_wh == (640, 320)
    assert found.class_ids.tolist() == [0, 1]
    np.testing.assert_allclose(found.boxes_xyxy, list(boxes.values()), atol=10)  # an input pixel is 10 image pixels
    assert found.boxes_xyxy.dtype == found.scores.dtype == np.float32
    assert set(found.timing_ms) == {"decode", "queue", "inference", "postprocess"}


def test_an_empty_frame_gives_empty_arrays(fake_dir, paint, encode) -> None:
    (found,) = Detector.load(fake_dir).detect([encode(paint({}, (64, 32)))])
    assert found.boxes_xyxy.shape == (0, 4)
    assert found.scores.shape == found.class_ids.shape == (0,)


@pytest.mark.parametrize("kind", ["openvino", "onnxruntime"])
def test_real_engines_see_the_letterboxed_pixels(kind, make_onnx_dir, encode) -> None:
    detector = Detector.load(make_onnx_dir(kind), num_threads=1)
    (found,) = detector.detect([encode(np.full((320, 640, 3), 204, dtype=np.uint8))])
    assert found.class_ids.tolist() == [1, 2]
    np.testing.assert_allclose(found.scores, [0.8, 0.5], atol=0.005)
    np.testing.assert_allclose(found.boxes_xyxy[0], [100, 50, 300, 250], atol=0.01)


def test_batches_change_nothing(fake_dir, paint, encode) -> None:
    detector = Detector.load(fake_dir)
    images = [encode(paint({i % 3: (10 + i, 5, 40 + i, 25)}, (64 + i, 32)), "PNG") for i in range(10)]
    together = detector.detect(images)
    for one, image in zip(together, images, strict=True):
        (alone,) = detector.detect([image])
        np.testing.assert_array_equal(one.boxes_xyxy, alone.boxes_xyxy)
        assert one.class_ids.tolist() == alone.class_ids.tolist()


def test_thresholds_replace_those_of_the_model(fake_dir, picture) -> None:
    detector = Detector.load(fake_dir)
    assert len(detector.detect([picture], conf=0.89)[0].scores) == 1
    assert len(detector.detect([picture], conf=0.91)[0].scores) == 0


@pytest.mark.parametrize(
    "wrong", [{"conf": 1.1}, {"conf": -0.1}, {"conf": float("nan")}, {"iou": 2}, {"max_det": 0}, {"max_det": 9}]
)
def test_thresholds_out_of_range_are_refused(fake_dir, picture, wrong) -> None:
    with pytest.raises(BadParameter, match=next(iter(wrong))):
        Detector.load(fake_dir).detect([picture], **wrong)


def test_a_bad_image_is_named_by_its_index(fake_dir, picture) -> None:
    with pytest.raises(BadImage) as caught:
        Detector.load(fake_dir).detect([picture] * 6 + [b"nothing"])
    assert caught.value.details["index"] == 6


def test_a_failing_engine(make_fake_dir, picture) -> None:
    with pytest.raises(EngineFailed, match="the fake engine failed: the fake engine was told to fail"):
        Detector.load(make_fake_dir('{"fail": true}')).detect([picture])


def test_an_engine_that_disagrees_with_model_json(make_onnx_dir, make_spec, picture) -> None:
    from bentos.detector.contract import read_spec, write_spec

    folder = make_onnx_dir("onnxruntime")
    spec = read_spec(folder)
    write_spec(folder, spec.model_copy(update={"top_k": 9}))
    with pytest.raises(EngineFailed, match=r"shape \(1, 8, 6\), expected \(1, 9, 6\)"):
        Detector.load(folder).detect([picture])
    write_spec(folder, spec.model_copy(update={"classes": ("car",)}))
    with pytest.raises(EngineFailed, match="more classes than the 1 of model.json"):
        Detector.load(folder).detect([picture])


def test_digests_are_checked_before_loading(make_onnx_dir) -> None:
    folder = make_onnx_dir("openvino")
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ModelRefused, match="damaged or replaced"):
        Detector.load(folder)


def test_check_model_needs_no_engine(make_onnx_dir, tmp_path) -> None:
    assert check_model(make_onnx_dir("openvino")).name == "tiny"
    with pytest.raises(EngineUnavailable):
        check_model(make_onnx_dir("onnxruntime", versions={"onnxruntime": "0.1"}))
    with pytest.raises(ModelRefused, match="is no folder"):
        check_model(tmp_path / "nowhere")


def test_scaled_decode_maps_boxes_to_the_sent_size(make_fake_dir, paint, encode) -> None:
    from bentos.detector.contract import InputSpec

    folder = make_fake_dir(input=InputSpec(size_wh=(64, 32), scaled_decode=True))
    (found,) = Detector.load(folder).detect([encode(paint({1: (160, 80, 480, 240)}, (640, 320)))])
    assert found.size_wh == (640, 320)
    np.testing.assert_allclose(found.boxes_xyxy, [[160, 80, 480, 240]], atol=12)
