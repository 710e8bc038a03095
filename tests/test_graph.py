import threading

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from mien.errors import ModelError, OptionError, ShapeError
from mien.zoo import graph, session


def small_network(kernel, bias):
    return graph.model_bytes(
        "small",
        [
            graph.graph_input("x", np.float32, ("n", 2, "h", "w")),
            graph.array("k", kernel),
            graph.array("b", bias),
            graph.array("shape", np.array([0, -1], np.int64)),
            graph.node("Conv", ["x", "k", "b"], ["c"], strides=[1, 1], auto_pad="VALID"),
            graph.node("LeakyRelu", ["c"], ["r"], alpha=0.25),
            graph.node("Reshape", ["r", "shape"], ["y"]),
            graph.graph_output("y", np.float32, ("n", "all")),
        ],
    )


def test_a_written_network_is_valid_and_computes_what_numpy_computes():
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(3, 2, 2, 2)).astype(np.float32), rng.normal(size=3).astype(np.float32)
    model = small_network(kernel, bias)
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    x = rng.normal(size=(4, 2, 5, 6)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(x, (2, 2), axis=(2, 3))
    c = np.einsum("nihwab,oiab->nohw", windows, kernel) + bias[:, None, None]
    expected = np.where(c > 0, c, 0.25 * c).reshape(4, -1)
    np.testing.assert_allclose(session.open_session(model).run(None, {"x": x})[0], expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8])
def test_arrays_come_back_bit_for_bit(dtype):
    values = np.random.default_rng(1).integers(0, 200, (2, 3, 4)).astype(dtype)
    (read,) = onnx.load_from_string(graph.model_bytes("a", [graph.array("v", values)])).graph.initializer
    assert read.name == "v"
    np.testing.assert_array_equal(numpy_helper.to_array(read), values)


def test_an_array_that_is_not_contiguous_keeps_its_order():
    values = np.arange(12, dtype=np.float32).reshape(3, 4).T
    (read,) = onnx.load_from_string(graph.model_bytes("a", [graph.array("v", values)])).graph.initializer
    np.testing.assert_array_equal(numpy_helper.to_array(read), values)


def test_other_dtypes_are_refused():
    with pytest.raises(ShapeError, match="float32, int64 or uint8, got float64"):
        graph.array("v", np.zeros(2))


@given(st.integers(-(2**63), 2**63 - 1), st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_whole_numbers_of_any_size_survive(number, several):
    model = onnx.load_from_string(graph.model_bytes("a", [graph.node("X", ["i"], ["o"], one=number, many=several)]))
    found = {a.name: onnx.helper.get_attribute_value(a) for a in model.graph.node[0].attribute}
    assert found == {"one": number, "many": several}


def test_each_kind_of_attribute_has_its_type():
    part = graph.node("X", ["i", ""], ["o", "p"], whole=3, real=0.5, word="SAME", reals=[0.5, 2.0])
    node = onnx.load_from_string(graph.model_bytes("a", [part])).graph.node[0]
    assert (list(node.input), list(node.output), node.op_type) == (["i", ""], ["o", "p"], "X")
    found = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    assert found == {"whole": 3, "real": 0.5, "word": b"SAME", "reals": [0.5, 2.0]}


def test_free_dimensions_keep_their_names():
    value = onnx.load_from_string(graph.model_bytes("a", [graph.graph_input("x", np.uint8, ("n", 300))])).graph.input[0]
    assert [(d.dim_param, d.dim_value) for d in value.type.tensor_type.shape.dim] == [("n", 0), ("", 300)]


@pytest.mark.parametrize("damage", [b"", b"no network", "cut"])
def test_a_damaged_network_is_one_line_of_error(damage, tmp_path):
    whole = small_network(np.ones((3, 2, 2, 2), np.float32), np.ones(3, np.float32))
    model = whole[: len(whole) // 2] if damage == "cut" else damage
    with pytest.raises(ModelError, match="ONNX Runtime cannot open it") as caught:
        session.open_session(model)
    assert "\n" not in str(caught.value)
    file = tmp_path / "bad.onnx"
    file.write_bytes(model)
    with pytest.raises(ModelError, match=r"bad\.onnx: ONNX Runtime"):
        session.open_session(file)


def test_a_missing_file_and_negative_threads_are_errors(tmp_path):
    with pytest.raises(ModelError, match="none"):
        session.open_session(tmp_path / "none.onnx")
    with pytest.raises(OptionError, match="threads is -1"):
        session.open_session(b"", threads=-1)


def test_threads_are_limited_to_usable_cpus(monkeypatch, tmp_path):
    model = small_network(np.ones((3, 2, 2, 2), np.float32), np.ones(3, np.float32))
    options = session.open_session(model).get_session_options()
    assert options.intra_op_num_threads == session.usable_cpus() >= 1
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert session.open_session(model, threads=3).get_session_options().intra_op_num_threads == 3
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(session, "_QUOTA", quota)
    unlimited = session.usable_cpus()
    for text, expected in (("150000 100000\n", 1), ("50000 100000\n", 1), ("max 100000\n", unlimited)):
        quota.write_text(text)
        assert session.usable_cpus() == expected


def test_one_session_serves_several_threads():
    rng = np.random.default_rng(2)
    opened = session.open_session(
        small_network(rng.normal(size=(3, 2, 2, 2)).astype(np.float32), np.ones(3, np.float32))
    )
    inputs = [rng.normal(size=(1, 2, 9 + i, 9)).astype(np.float32) for i in range(8)]
    alone = [opened.run(None, {"x": x})[0] for x in inputs]
    together: list[list[np.ndarray]] = [[] for _ in inputs]

    def work(i):
        together[i].extend(opened.run(None, {"x": inputs[i]})[0] for _ in range(20))

    workers = [threading.Thread(target=work, args=(i,)) for i in range(len(inputs))]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    for one, many in zip(alone, together, strict=True):
        assert len(many) == 20
        assert all(np.array_equal(one, m) for m in many)
