"""Pictures in the docs show what the code draws."""

from __future__ import annotations

from tests.docs.pictures import PICTURE, picture_of_readme
from tests.unit.picturing import parsed, texts


def test_the_picture_of_the_order_is_of_readmes_workflow() -> None:
    found = PICTURE.read_text(encoding="utf-8")
    assert found == picture_of_readme(), "run: python -m tests.docs.pictures"
    assert {"reserve", "checks", "signoff", "lines", "parcel: track"} <= {*texts(parsed(found))}
