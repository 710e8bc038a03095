"""Films with a high dynamic range: colours made by the forward formulas come back as what they were."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from mien.media.curve import Curve, to_standard
from mien.media.video import Film

SKIN, DARK, GREY, PALE, GREEN = (200, 150, 120), (90, 60, 45), (128, 128, 128), (240, 240, 240), (60, 170, 80)
SEEN = np.array([SKIN, DARK, GREY, PALE, GREEN], float)
TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])


def nits(colours: NDArray[np.float64], *, wide: bool) -> NDArray[np.float64]:
    """Light of sRGB colours, (N, 3) in [0, 255], with white at 203 cd/m²."""
    code = colours / 255
    light = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    return 203 * (light @ TO_2020.T if wide else light)


def coded(light: NDArray[np.float64], curve: Curve) -> NDArray[np.float64]:
    """Codes in [0, 1] of light in cd/m²: the inverse EOTF of PQ, the inverse OOTF and the OETF of HLG."""
    if curve is Curve.PQ:
        y = (light / 10_000) ** 0.1593017578125
        return ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375
    share = light / 1000
    luma = share @ np.array([0.2627, 0.6780, 0.0593])
    scene = share * luma[:, None] ** (1 / 1.2 - 1)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)


@pytest.mark.parametrize("curve", Curve)
@pytest.mark.parametrize("wide", [True, False])
def test_colours_come_back(curve: Curve, wide: bool) -> None:
    codes = np.rint(255 * coded(nits(SEEN, wide=wide), curve)).astype(np.uint8)
    back = to_standard(codes[None], curve, wide=wide)
    assert back.dtype == np.uint8
    # A code of eight bits is up to 6 levels wide where PQ is coarse.
    np.testing.assert_allclose(back[0].astype(float), SEEN, atol=6)


@pytest.mark.parametrize("curve", Curve)
def test_black_white_and_what_is_brighter(curve: Curve) -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    grey = to_standard(ramp, curve, wide=True)[0].astype(int)
    assert np.ptp(grey, axis=1).max() <= 1  # grey stays grey
    assert (np.diff(grey[:, 1]) >= 0).all()
    assert grey[0].tolist() == [0, 0, 0]
    assert grey[-1].tolist() == [255, 255, 255]


@pytest.mark.parametrize("curve", Curve)
def test_a_film_with_a_high_dynamic_range(curve: Curve, tmp_path: Path) -> None:
    codes = np.rint(65535 * coded(nits(SEEN, wide=True), curve)).astype(np.uint16)
    picture = np.repeat(np.repeat(codes[None], 64, 0), 32, 1)
    with av.open(str(tmp_path / "film.mkv"), "w") as out:
        video = out.add_stream("libx265", rate=25, options={"crf": "4", "x265-params": "log-level=none:pools=1"})
        video.width, video.height, video.pix_fmt = 160, 64, "yuv420p10le"
        context = video.codec_context
        context.colorspace, context.color_range, context.color_primaries, context.color_trc = 9, 1, 9, int(curve)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb48le")
        frame = frame.reformat(format="yuv420p10le", dst_colorspace=9, dst_color_range=1)
        frame.color_primaries, frame.color_trc = 9, int(curve)
        out.mux(video.encode(frame))
        out.mux(video.encode(None))
    with Film(tmp_path / "film.mkv") as film:
        assert film.facts()["curve"] == curve.name.lower()
        assert film.facts()["bits"] == 10
        (read,) = list(film)
    assert read.picture is not None
    np.testing.assert_allclose(read.picture[32, 16::32].astype(float), SEEN, atol=9)
