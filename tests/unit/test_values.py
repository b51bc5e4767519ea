"""Values: frozen, comparable, cheap."""

from __future__ import annotations

import pickle

import pytest

from lapstrake.values import Value, asdict, replace


class Point(Value):
    x: int
    y: int = 2


class Point3(Point):
    z: int = 3


def test_construct_compare_hash() -> None:
    assert Point(1) == Point(x=1, y=2)
    assert hash(Point(1)) == hash(Point(1, 2))
    assert Point3(1).__fields__ == ("x", "y", "z")
    assert repr(Point3(1)) == "Point3(x=1, y=2, z=3)"
    assert asdict(replace(Point3(1), y=9)) == {"x": 1, "y": 9, "z": 3}
    assert pickle.loads(pickle.dumps(Point3(4))) == Point3(4)


def test_frozen_and_strict() -> None:
    p = Point(1)
    with pytest.raises(AttributeError):
        p.x = 3  # type: ignore[misc]
    with pytest.raises(TypeError, match="needs 'x'"):
        Point()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="no 'q'"):
        Point(1, q=2)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="at most 2"):
        Point(1, 2, 3)  # type: ignore[call-arg]
    assert not hasattr(p, "__dict__")


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_700_000_000, "2023-11-14T22:13:20Z"),
        (1_700_000_000.5, "2023-11-14T22:13:20.5Z"),
        (1_700_000_000.123456, "2023-11-14T22:13:20.123456Z"),
        (1_699_999_999.9999999, "2023-11-14T22:13:20Z"),
    ],
)
def test_times_as_text(at, text):
    from lapstrake.events import rfc3339

    assert rfc3339(at) == text
