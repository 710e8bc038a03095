from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fakes import BlueDetector, RedReader
from gate import WARM, Gate
from serving import face, fake_analyzer, plain, settings

from mien.errors import DecodeError, OptionError, TooLargeError, UnknownLabelError
from mien.media.stills import read_picture
from mien.models.base import Boxes
from mien.models.expression import Reading
from mien.pipeline.analyzer import Analyzer, Settings
from mien.serve.engine import Engine
from mien.serve.measure import Measures
from mien.serve.picture import Found, Order
from mien.serve.problem import Problem


def engine_of(
    tmp_path: Path, find: Any = None, *, read: Any = None, threads: int = 1, wait: float = 0.004, **limits: Any
) -> Engine:
    analyzer = Analyzer(Settings(threads=1, read_all=True), find=find or BlueDetector(), read=read or RedReader())
    return Engine(settings(tmp_path, threads=threads, limits=limits), Measures(), analyzer=analyzer, wait=wait)


def run(engine: Engine, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    async def all_of_it() -> Any:
        await engine.start()
        try:
            return await asyncio.wait_for(work(), 30)
        finally:
            await engine.close()

    return asyncio.run(all_of_it())


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        await asyncio.sleep(0.001)


def order(engine: Engine, *, width: int = 160, **options: Any) -> Order:
    return Order(face(width=width), "a.png", engine.analyzer, **options)


def test_an_engine_finds_what_its_analyzer_finds(tmp_path: Path) -> None:
    engine = engine_of(tmp_path)
    assert not engine.ready

    async def work() -> list[Any]:
        assert engine.ready
        return await engine.read([Order(d, "a", engine.analyzer) for d in (face(), plain(), face(red=90))])

    found = run(engine, work)
    direct = [fake_analyzer().picture(read_picture(d), source="a") for d in (face(), plain(), face(red=90))]
    assert [f.faces for f in found] == direct
    assert [(f.width, f.height, f.more, f.crops, f.annotated) for f in found] == [(160, 120, 0, (), None)] * 3
    assert not engine.ready


def test_faces_of_many_requests_are_read_in_fewer_calls(tmp_path: Path) -> None:
    reader, gate = RedReader(), Gate()
    engine = engine_of(tmp_path, gate, read=reader, threads=4, wait=10)

    async def work() -> None:
        asked = [asyncio.ensure_future(engine.read([order(engine)])) for _ in range(4)]
        await until(lambda: engine.load().running == 4)
        gate.open.set()
        assert len(await asyncio.gather(*asked)) == 4

    run(engine, work)
    assert sum(reader.batches[WARM:]) == 4
    assert max(reader.batches[WARM:]) > 1


def test_label_sets_share_the_models_and_each_gets_its_own_scores(tmp_path: Path) -> None:
    engine = engine_of(tmp_path, threads=2, wait=0.05)

    async def work() -> list[Any]:
        assert engine.variant() is engine.analyzer
        assert engine.variant(labels="three") is engine.variant(labels="three", min_score=None)
        for wrong, error in (({"labels": "nine"}, UnknownLabelError), ({"min_score": 2}, OptionError)):
            with pytest.raises(error):
                engine.variant(**wrong)
        readers = [engine.variant(labels=name) for name in ("eight", "three", "seven")]
        return await engine.read([Order(face(), "a", r) for r in readers])

    eight, three, seven = (f.faces.expression[0] for f in run(engine, work))
    assert np.allclose(three, [eight[[0, 1, 2, 4, 7]].sum(), eight[3], eight[[5, 6]].sum()])
    assert (len(eight), len(three), len(seven)) == (8, 3, 7)


def test_an_analyzer_with_other_settings_has_the_same_models_or_none() -> None:
    find, read = BlueDetector(), RedReader()
    first = Analyzer(Settings(threads=1), find=find, read=read, batch=3)
    other = first.with_settings(labels="six", min_score=0.9, best_only=True)
    assert (other.batch, len(other.labels), other.settings.threads) == (3, 6, 1)
    assert other.picture(read_picture(face())).reason_words == ["low_score"]
    assert (find.calls, read.batches) == (1, [1])
    for change in ({"detector": "haar"}, {"model": "other"}, {"min_face": 40}, {"width": 640}, {"threads": 2}):
        with pytest.raises(OptionError, match=next(iter(change))):
            first.with_settings(**change)


def test_past_the_limit_of_waiting_pictures_the_answer_is_busy_and_when_to_come_again(tmp_path: Path) -> None:
    gate = Gate()
    engine = engine_of(tmp_path, gate, waiting=2)

    async def work() -> None:
        asked = [asyncio.ensure_future(engine.read([order(engine)])) for _ in range(3)]
        await until(lambda: engine.load().running == 1 and engine.load().waiting == 2)
        engine._each = 7.0
        with pytest.raises(Problem) as busy:
            await engine.read([order(engine)])
        # Three pictures of seven seconds, one thread.
        assert (busy.value.status, busy.value.code, busy.value.headers) == (429, "busy", {"Retry-After": "21"})
        assert engine.full() is not None
        assert engine.load().waiting_bytes == 2 * len(face())
        with pytest.raises(Problem) as never:
            await engine.read([order(engine)] * 3)
        assert (never.value.status, never.value.code) == (413, "too_many_pictures")
        gate.open.set()
        assert len(await asyncio.gather(*asked)) == 3
        assert engine.full() is None
        await engine.read([order(engine)])

    run(engine, work)


def test_bytes_that_wait_are_bounded_too(tmp_path: Path) -> None:
    gate = Gate()
    engine = engine_of(tmp_path, gate, waiting=50, body_bytes=len(face()))

    async def work() -> None:
        asked = [asyncio.ensure_future(engine.read([order(engine)]))]
        await until(lambda: engine.load().running == 1)
        asked += [asyncio.ensure_future(engine.read([order(engine)])) for _ in range(4)]
        await until(lambda: engine.load().waiting == 4)
        with pytest.raises(Problem, match="bytes of pictures wait"):
            await engine.read([order(engine)])
        gate.open.set()
        await asyncio.gather(*asked)

    run(engine, work)


def test_what_could_not_be_read_in_time_is_not_taken_in(tmp_path: Path) -> None:
    gate = Gate()
    engine = engine_of(tmp_path, gate, seconds=20)

    async def work() -> None:
        asked = [asyncio.ensure_future(engine.read([order(engine)])) for _ in range(2)]
        await until(lambda: engine.load().running == 1)
        engine._each = 11.0
        with pytest.raises(Problem, match="more than are read within 20 s") as busy:
            await engine.read([order(engine)])
        assert busy.value.headers == {"Retry-After": "22"}
        gate.open.set()
        await asyncio.gather(*asked)
        engine._each = 100.0  # the first one is always tried, or nobody would ever learn that it goes faster now
        await engine.read([order(engine)])

    run(engine, work)


def test_time_limit_is_answered_at_once_and_the_thread_counts_until_it_is_done(tmp_path: Path) -> None:
    gate = Gate()
    engine = engine_of(tmp_path, gate, seconds=0.05)

    async def work() -> None:
        with pytest.raises(Problem) as late:
            await engine.read([order(engine)] * 2)
        assert (late.value.status, late.value.code) == (504, "timeout")
        load = engine.load()
        assert (load.running, load.waiting, load.waiting_bytes) == (1, 0, 0)
        gate.open.set()
        await until(lambda: engine.load().running == 0)

    run(engine, work)
    assert gate.calls - WARM == 1


def test_whoever_goes_away_leaves_the_queue_and_nothing_is_read_for_nobody(tmp_path: Path) -> None:
    gate, reader = Gate(), RedReader()
    engine = engine_of(tmp_path, gate, read=reader)

    async def work() -> None:
        first = asyncio.ensure_future(engine.read([order(engine)]))
        await until(lambda: engine.load().running == 1)
        second = asyncio.ensure_future(engine.read([order(engine, width=300)] * 3))
        await until(lambda: engine.load().waiting == 3)
        for left in (second, first):
            left.cancel()
        await asyncio.wait([first, second])
        assert first.cancelled()
        assert second.cancelled()
        assert (engine.load().waiting, engine.load().waiting_bytes, engine.load().running) == (0, 0, 1)
        gate.open.set()
        await until(lambda: engine.load().running == 0)
        await engine.read([order(engine, width=200)])

    run(engine, work)
    assert gate.widths[WARM:] == [160, 200]
    assert len(reader.batches) - WARM == 1  # the picture whose client left was searched and not read


def test_one_request_of_many_pictures_does_not_hold_up_those_of_others(tmp_path: Path) -> None:
    gate = Gate()
    engine = engine_of(tmp_path, gate)

    async def work() -> None:
        many = engine.read([order(engine, width=300)] * 6, caller="ann")
        asked: list[Awaitable[Any]] = [asyncio.ensure_future(many)]
        await until(lambda: engine.load().running == 1)
        asked += [asyncio.ensure_future(engine.read([order(engine, width=w)], caller="bob")) for w in (200, 220)]
        asked += [asyncio.ensure_future(engine.read([order(engine, width=240)], caller="ann"))]
        await until(lambda: engine.load().waiting == 8)
        gate.open.set()
        await asyncio.gather(*asked)

    run(engine, work)
    assert gate.widths[WARM:] == [300, 300, 200, 240, 220, 300, 300, 300, 300]


def test_cameras_and_pictures_take_turns(tmp_path: Path) -> None:
    gate = Gate()
    engine = engine_of(tmp_path, gate)

    async def work() -> None:
        asked: list[Awaitable[Any]] = [asyncio.ensure_future(engine.read([order(engine)] * 4))]
        await until(lambda: engine.load().running == 1)
        with engine.stream() as one, engine.stream() as two:
            assert engine.load().streams == 2
            for camera, width in ((one, 200), (two, 220)):
                frame = engine.follow(camera, face(width=width), index=0, time=0.0, caller=width)
                asked.append(asyncio.ensure_future(frame))
            await until(lambda: engine.load().waiting == 5)
            gate.open.set()
            await asyncio.gather(*asked)
        assert engine.load().streams == 0

    run(engine, work)
    assert gate.widths[WARM:] == [160, 160, 200, 160, 220, 160]


@pytest.mark.parametrize("annotated", [False, True])
def test_no_more_pictures_are_decoded_at_once_than_there_are_threads(tmp_path: Path, annotated: bool) -> None:
    gate = Gate()
    gate.open.set()
    engine = engine_of(tmp_path, gate, threads=2)

    async def work() -> None:
        found = await engine.read([order(engine, annotated=annotated, crops=True) for _ in range(24)])
        assert all(bool(f.annotated) is annotated and len(f.crops) == 1 for f in found)

    run(engine, work)
    gc.collect()
    assert len(gate.alive) == 24
    assert max(gate.alive) <= 2
    assert not any(ref() is not None for ref in gate.seen)


def test_closing_answers_those_who_wait_and_lets_the_one_in_work_end(tmp_path: Path) -> None:
    gate = Gate()
    engine = engine_of(tmp_path, gate)

    async def work() -> list[Any]:
        await engine.start()
        asked = [asyncio.ensure_future(engine.read([order(engine)])) for _ in range(3)]
        await until(lambda: engine.load().waiting == 2)
        closing = asyncio.ensure_future(engine.close())
        await until(lambda: engine.load().waiting == 0)
        gate.open.set()
        await closing
        answers = await asyncio.gather(*asked, return_exceptions=True)
        with pytest.raises(Problem, match="closing"):
            await engine.read([order(engine)])
        return answers

    first, *others = asyncio.run(work())
    assert isinstance(first[0], Found)
    assert [(e.status, e.code) for e in others] == [(503, "closing")] * 2


def test_a_thread_that_never_ends_does_not_keep_the_service_from_closing(tmp_path: Path) -> None:
    gate = Gate()
    engine = engine_of(tmp_path, gate, seconds=0.05)

    async def work() -> None:
        await engine.start()
        with pytest.raises(Problem):
            await engine.read([order(engine)])
        begin = time.monotonic()
        await engine.close(seconds=0.1)
        assert time.monotonic() - begin < 5

    asyncio.run(work())
    gate.open.set()


def test_a_picture_that_cannot_be_read_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    engine = engine_of(tmp_path, threads=2, pixels=30_000)

    async def work() -> list[Any]:
        files = (b"GIF89a", face(), plain(width=400), b"", face(red=10))
        return await engine.read([Order(d, "a", engine.analyzer) for d in files])

    broken, good, large, empty, other = run(engine, work)
    assert (type(broken), type(large), type(empty)) == (DecodeError, TooLargeError, DecodeError)
    assert good.faces.top.tolist() == ["happy"]
    assert other.faces.top.tolist() == ["neutral"]


class Spoilt(RedReader):
    """Fails on any batch with a crop that is hardly red."""

    def read(self, crops: Any, /) -> Reading:
        if len(self.batches) >= WARM and (crops[..., 0].mean((1, 2)) < 60).any():
            msg = "a fault of the model"
            raise RuntimeError(msg)
        return super().read(crops)


def test_a_fault_in_a_shared_call_is_that_of_one_picture_only(tmp_path: Path) -> None:
    gate = Gate()
    engine = engine_of(tmp_path, gate, read=Spoilt(), threads=3, wait=10)

    async def work() -> list[Any]:
        asked = [asyncio.ensure_future(engine.read([Order(face(red=r), "a", engine.analyzer)])) for r in (200, 0, 220)]
        await until(lambda: engine.load().running == 3)
        gate.open.set()
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert (await engine.read([order(engine)]))[0].faces.top.tolist() == ["happy"]  # the threads go on
        return results

    first, second, third = run(engine, work)
    assert first[0].faces.top.tolist() == third[0].faces.top.tolist() == ["happy"]
    assert isinstance(second, RuntimeError)


class Crowd(BlueDetector):
    def __call__(self, picture: Any, /) -> Boxes:
        one = super().__call__(picture)
        return Boxes(*(np.repeat(a, 5, 0) for a in (one.box, one.score, one.points, one.eyes)))


def test_faces_past_the_limit_are_counted(tmp_path: Path) -> None:
    engine = engine_of(tmp_path, Crowd(), faces=2)

    async def work() -> list[Any]:
        with engine.stream() as camera:
            frame = await engine.follow(camera, face(), index=0, time=0.0, caller=1)
        return [*await engine.read([order(engine)]), frame]

    picture, frame = run(engine, work)
    assert (len(picture.faces), picture.more) == (2, 3)
    assert len(frame.faces) + frame.more <= 5
    assert len(frame.faces) <= 2


def test_no_more_cameras_than_the_limit_and_a_place_is_given_back(tmp_path: Path) -> None:
    engine = engine_of(tmp_path, streams=1)

    async def work() -> None:
        with engine.stream(), pytest.raises(Problem) as full, engine.stream():
            pass
        assert (full.value.status, full.value.code) == (429, "streams")
        with engine.stream():
            assert engine.load().streams == 1

    run(engine, work)


def test_the_rate_is_that_of_the_last_pictures(tmp_path: Path) -> None:
    class Slow(BlueDetector):
        def __call__(self, picture: Any, /) -> Boxes:
            end = time.perf_counter() + 0.02
            while time.perf_counter() < end:
                pass
            return super().__call__(picture)

    engine = engine_of(tmp_path, Slow())

    async def work() -> float:
        await engine.read([order(engine)] * 20)
        return engine.load().rate

    assert 1 < run(engine, work) < 50


def test_crops_and_annotated_pictures_are_jpeg(tmp_path: Path) -> None:
    engine = engine_of(tmp_path)

    async def work() -> list[Any]:
        return await engine.read([order(engine, annotated=True, crops=True)])

    (found,) = run(engine, work)
    spec = RedReader().card.input
    assert spec is not None
    crop = cv2.imdecode(np.frombuffer(found.crops[0], np.uint8), cv2.IMREAD_COLOR)
    assert crop.shape == (spec.height, spec.width, 3)
    drawn = cv2.imdecode(np.frombuffer(found.annotated, np.uint8), cv2.IMREAD_COLOR)
    assert drawn.shape == (120, 160, 3)
    assert np.abs(drawn.astype(int) - read_picture(face())[..., ::-1]).max() > 100  # something was drawn
