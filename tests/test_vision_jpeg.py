"""JPEGs from a wire: bounded before they are decoded."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from v4l2_shim.camera import without_tables

from cartpole.vision.jpeg import decode_grey, jpeg_size


@pytest.fixture
def data() -> bytes:
    picture = np.tile(np.arange(0, 240, 3).astype(np.uint8), (48, 1))
    return bytes(cv2.imencode(".jpg", picture)[1].tobytes())


def claiming(data: bytes, side: int) -> bytes:
    """The same file with another size in its header."""
    at = data.index(b"\xff\xc0")
    return data[: at + 5] + 2 * side.to_bytes(2, "big") + data[at + 9 :]


def test_size_and_picture(data: bytes) -> None:
    assert jpeg_size(data) == (80, 48)
    grey = decode_grey(data)
    assert grey is not None
    assert grey.shape == (48, 80)


def test_one_without_huffman_tables_as_webcams_send_it(data: bytes) -> None:
    bare = without_tables(data)
    assert b"\xff\xc4" not in bare
    grey, whole = decode_grey(bare), decode_grey(data)
    assert grey is not None
    assert whole is not None
    assert np.array_equal(grey, whole)


def test_one_that_claims_thirty_thousand_pixels_is_not_decoded(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding it took 4 s and 1.8 GB."""
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    for side in (30_000, 65_535, 0):
        assert decode_grey(claiming(data, side)) is None


@pytest.mark.parametrize("damaged", [b"", b"\xff\xd8", b"not a picture", b"\xff\xd8\xff\xe0\x00"])
def test_what_is_no_picture_is_none(damaged: bytes) -> None:
    assert decode_grey(damaged) is None
    assert jpeg_size(damaged) == (0, 0)
