"""What a sentence says that a person wears."""

import pytest

from gs_ssd.prior.outfit import HAIR, PLAIN, REGIONS, SKIN, read

PAINTS = {"red": (0.9, 0.1, 0.1), "blue": (0.1, 0.2, 0.8), "brown": (0.4, 0.25, 0.1)}


def outfit(sentence):
    return dict(zip(REGIONS, read(sentence, PAINTS).colors, strict=True))


@pytest.mark.parametrize(
    "sentence",
    [
        "a person in a red shirt and blue trousers",
        "a person in blue trousers and a red shirt",
        "A man wearing a RED t-shirt, blue jeans.",
        "a woman in a bright red sweater and loose blue pants",
    ],
)
def test_a_colour_belongs_to_the_next_garment(sentence):
    found = outfit(sentence)
    assert (found["shirt"], found["trousers"]) == (PAINTS["red"], PAINTS["blue"])
    assert found["skin"] == PLAIN["skin"]


def test_skin_and_hair_have_colours_of_their_own():
    found = outfit("a person with dark skin, brown hair and brown shoes in a red shirt")
    assert found["skin"] == SKIN["dark"]
    assert found["hair"] == HAIR["brown"]
    assert found["shoes"] == PAINTS["brown"]
    assert found["trousers"] == PLAIN["trousers"]


def test_words_that_change_nothing_are_told():
    unread = read("a red person in a striped blue shirt", PAINTS).unread
    assert "striped" in unread
    assert "red" in unread  # the shirt took blue; nothing takes red
    assert "blue" not in unread
