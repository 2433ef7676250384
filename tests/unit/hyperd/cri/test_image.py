"""Images as a kubelet is told of them."""

import pytest

from hypercontainer.hyperd.cri import image


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("web", "docker.io/library/web:latest"),
        ("me/web:1", "docker.io/me/web:1"),
        ("localhost:5000/web", "localhost:5000/web:latest"),
        ("a.example/b/c:1@sha256:ab", "a.example/b/c@sha256:ab"),
    ],
)
def test_pinned_ones_are_known_by_any_of_their_names(name: str, whole: str) -> None:
    assert image.whole(name) == whole
    assert image.whole(whole) == whole
