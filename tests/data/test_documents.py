"""Pages of documents: their layout, and its tags among the words."""

from __future__ import annotations

import pytest
import torch

from tutelage.data.documents import KINDS, Documents
from tutelage.data.layout import Region, Word, inside, laid_out, overlap, tagged
from tutelage.recipe.errors import InputError


def test_pages_of_all_kinds():
    pages = Documents(count=16, size=32).pages()
    assert pages.images.shape == (16, 1, 32, 32)
    assert pages.labels.tolist() == 2 * list(range(len(KINDS)))
    assert all(regions and words for regions, words in zip(pages.regions, pages.words, strict=True))
    labels = {region.label for page in pages.regions for region in page}
    assert {"Title", "Text", "Table", "List-item", "Picture"} <= labels


def test_words_are_dark_and_in_their_regions():
    pages = Documents(count=16, size=192, noise=0.0).pages()
    for image, words, regions in zip(pages.images[:, 0], pages.words, pages.regions, strict=True):
        left, top, right, bottom = (round(edge) for edge in words[0].box)
        assert image[top : bottom + 2, left:right].mean() < 0.95
        own = [w for w in words if any(inside(w.box, r.box) or overlap(w.box, r.box) > 0 for r in regions)]
        assert len(own) > 0.9 * len(words)


def test_more_pages_leave_the_first_as_they_are_and_conditions_change_them():
    few, more = Documents(count=16, size=24).pages(), Documents(count=24, size=24).pages()
    assert torch.equal(few.images, more.images[:16])
    for change in ({"fonts": ("DejaVuSerif",)}, {"tilt": 5.0}, {"invert": 1.0}, {"noise": 0.3}, {"draw_seed": 1}):
        assert not torch.allclose(Documents(count=16, size=24, **change).pages().images, few.images)
    dark = Documents(count=16, size=24, invert=1.0, noise=0.0).pages().images
    assert torch.allclose(dark, 1 - Documents(count=16, size=24, noise=0.0).pages().images)


def test_they_are_divided_like_any_pool():
    splits = Documents(count=80, size=16).load(0)
    assert splits.info.class_names == tuple(KINDS)
    other = Documents(count=80, size=16, noise=0.2).load(0)
    assert other.info.fingerprint != splits.info.fingerprint
    with pytest.raises(InputError, match="DejaVuSans"):
        Documents(fonts=("DejaVuSnas",)).pages()


def test_tags_go_round_the_words_of_a_region():
    words = [Word(text, (10 * i, 0, 10 * i + 8, 8)) for i, text in enumerate("abcdef")]
    title, table = Region("Title", (0, 0, 20, 10)), Region("Table", (25, -1, 60, 9))
    assert tagged(words, [title, table]) == ["<Title>", "a", "b", "</Title>", "c", "<Table>", "d", "e", "f", "</Table>"]
    # Plain text is not marked, and neither is a region without words.
    assert tagged(words, [Region("Text", (0, 0, 60, 10)), Region("List", (100, 0, 110, 9))]) == list("abcdef")
    whole = Region("Page", (0, 0, 60, 10))
    assert tagged(words[:2], [whole, title]) == ["<Page>", "<Title>", "a", "b", "</Title>", "</Page>"]


def test_a_word_that_overlaps_enough_belongs():
    word = Word("x", (0, 0, 10, 10))
    assert overlap(word.box, (0, 0, 10, 5)) == pytest.approx(0.5)
    assert tagged([word], [Region("A", (0, 0, 10, 5))]) == ["<A>", "x", "</A>"]
    assert tagged([word], [Region("A", (0, 0, 10, 5))], least=0.5) == ["x"]


def test_text_that_keeps_its_place():
    words = [Word("left", (0, 0, 20, 8)), Word("right", (50, 0, 75, 8)), Word("low", (10, 20, 25, 28))]
    assert laid_out(words, character=5, line=10) == "left      right\n\n  low"
    assert laid_out([Word("a", (0, 0, 5, 8)), Word("b", (1, 0, 6, 8))], character=5, line=10) == "a b"
