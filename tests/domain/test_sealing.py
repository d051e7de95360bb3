"""Sealed values: they open in their place under their key, and nowhere else."""

from __future__ import annotations

import json
import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aosctl.domain import sealing
from aosctl.domain.kinds.secret import Secret
from aosctl.domain.sealing import MasterKey, Place, Plaintext, Sealed
from aosctl.errors import AosError

KEY = MasterKey("here", bytes(range(32)))
OTHER = MasterKey("there", bytes(32))
HOME = Place("0198c0de-0000-7000-8000-000000000001", "openai", "api_key")
PLACES = [
    HOME._replace(tenant="0198c0de-0000-7000-8000-000000000002"),
    HOME._replace(secret="openaj"),
    HOME._replace(key="api_kez"),
    HOME._replace(secret="openaia", key="pi_key"),  # the same letters, cut elsewhere
    HOME._replace(secret="", key="openaiapi_key"),
]


@given(st.text(min_size=1).filter(lambda text: text.isascii() or text.encode("utf-8", "ignore")))
@settings(max_examples=200, deadline=None)
def test_what_is_sealed_opens_as_it_was(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    sealed = sealing.seal(KEY, HOME, text)
    assert sealing.open_sealed(KEY, HOME, sealed) == text
    assert sealing.holds(KEY, HOME, sealed, text)
    assert not sealing.holds(KEY, HOME, sealed, text + " ")
    assert str(Sealed.parse(sealed)) == sealed


@pytest.mark.parametrize("place", PLACES)
def test_a_value_opens_in_its_place_alone(place: Place) -> None:
    sealed = sealing.seal(KEY, HOME, "hush")
    for attempt in (sealing.open_sealed, lambda *given: sealing.holds(*given, "hush")):
        with pytest.raises(AosError, match="does not open"):
            attempt(KEY, place, sealed)
    with pytest.raises(AosError, match="does not open"):
        sealing.rewrap(KEY, OTHER, place, sealed)


def test_no_other_key_opens_it_also_not_under_the_right_id() -> None:
    sealed = sealing.seal(KEY, HOME, "hush")
    forged = sealed.replace(KEY.key_id, OTHER.key_id)
    for master, text in ((OTHER, sealed), (OTHER, forged), (KEY, forged)):
        with pytest.raises(AosError, match="does not open"):
            sealing.open_sealed(master, HOME, text)


def test_every_changed_byte_is_noticed() -> None:
    parts = Sealed.parse(sealing.seal(KEY, HOME, "hush"))
    for name in ("wrap", "body", "digest"):
        data = getattr(parts, name)
        for place in range(len(data)):
            changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
            given = {"wrap": parts.wrap, "body": parts.body, "digest": parts.digest, name: changed}
            with pytest.raises(AosError, match="does not open"):
                sealing.open_sealed(KEY, HOME, str(Sealed(parts.key_id, **given)))


def test_parts_of_two_values_do_not_go_together() -> None:
    one, two = (Sealed.parse(sealing.seal(KEY, HOME, text)) for text in ("one", "two"))
    mixed = Sealed(one.key_id, one.wrap, two.body, two.digest)
    with pytest.raises(AosError, match="does not open"):
        sealing.open_sealed(KEY, HOME, str(mixed))


def test_two_seals_of_one_text_have_nothing_in_common() -> None:
    one, two = (sealing.seal(KEY, HOME, "hush").split(".")[2:] for _ in range(2))
    assert not set(one) & set(two)


def test_a_rewrapped_value_opens_under_the_new_key_alone_and_keeps_its_digest() -> None:
    sealed = sealing.seal(KEY, HOME, "hush")
    again = sealing.rewrap(KEY, OTHER, HOME, sealed)
    assert sealing.open_sealed(OTHER, HOME, again) == "hush"
    assert again.split(".")[3:] == sealed.split(".")[3:]
    with pytest.raises(AosError):
        sealing.open_sealed(KEY, HOME, again)


def test_kernel_manifest_and_client_agree_on_the_form() -> None:
    pattern = Secret().spec_type.schema()
    text = json.dumps(pattern)
    assert json.dumps(f"^(?:{sealing.SEALED_PATTERN})$") in text
    with pytest.raises(ValueError, match="no sealed value"):
        Sealed.parse("hush")


def test_plaintext_and_key_show_themselves_nowhere() -> None:
    hidden = Plaintext("hush-hush-hush")
    shown = [repr(hidden), str(hidden), f"{hidden}", repr({"k": [hidden]}), repr(KEY), str(KEY)]
    assert not any("hush" in one or str(KEY.material) in one for one in shown)
    with pytest.raises(TypeError):
        json.dumps({"k": hidden})
    try:
        raise ValueError(hidden)
    except ValueError as error:
        assert "hush" not in "".join(traceback.format_exception(error))
