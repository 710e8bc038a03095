"""Interlaced frames: two fields, taken one after the other and woven together, become one picture without combs."""

from __future__ import annotations

import av
from av.filter import Graph
from av.video.frame import VideoFrame

__all__ = ["Deinterlacer"]


class Deinterlacer:
    """Takes the comb out of interlaced frames.

    FFmpeg's ``bwdif`` (Bob Weaver: the motion check of ``yadif``, the BBC's w3fdif to fill in) keeps the first field of
    a frame and works out the lines of the second from it and from the two neighbours. One frame comes out for one that
    goes in, at its own time. The picture depends on the three frames alone, so it is the same wherever reading began.
    """

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._last: VideoFrame | None = None

    def __call__(self, before: VideoFrame | None, frame: VideoFrame, after: VideoFrame | None) -> VideoFrame:
        """Return an interlaced frame without its comb.

        Parameters
        ----------
        before, frame, after
            The frame and its neighbours in the order of showing, as they were decoded; None where there is none.

        Returns
        -------
        VideoFrame
            Of the same size. A frame that is too small for the filter, under 4 rows or columns, comes back as it is.
        """
        try:
            return self._woven(_alike(before, frame), frame, _alike(after, frame))
        except av.FFmpegError:
            self._graph = self._last = None
            return frame

    def _woven(self, before: VideoFrame | None, frame: VideoFrame, after: VideoFrame | None) -> VideoFrame:
        graph = self._graph
        if graph is None or self._last is not frame:
            graph = self._graph = _graph(frame)
            if before is not None:
                graph.vpush(before)
            graph.vpush(frame)
            if before is not None:
                graph.vpull()
        graph.vpush(after)
        woven = graph.vpull()
        self._last = after
        if after is None:
            self._graph = None
        return woven


def _alike(neighbour: VideoFrame | None, frame: VideoFrame) -> VideoFrame | None:
    same = neighbour is not None and _form(neighbour) == _form(frame)
    return neighbour if same else None


def _form(frame: VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name


def _graph(frame: VideoFrame) -> Graph:
    graph = Graph()
    graph.threads = 1  # threads of its own cost more than they save at the sizes that are interlaced
    source = graph.add(
        "buffer",
        video_size=f"{frame.width}x{frame.height}",
        pix_fmt=frame.format.name,
        time_base="1/1",
        pixel_aspect="1/1",
        colorspace=str(int(frame.colorspace)),
        range=str(int(frame.color_range)),
    )
    weave = graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
    graph.link_nodes(source, weave, graph.add("buffersink")).configure()
    return graph
