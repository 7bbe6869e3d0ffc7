from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.demo import corpus
from examples.demo.corpus import (
    PARTITION_KEY_CHARS,
    Docstring,
    broken,
    docstrings,
    library,
    mixed,
    records,
    sources,
)
from examples.minilm import MiniLM
from pipeline.errors import UserError
from pipeline.model import Reject


@pytest.fixture(scope="module", autouse=True)
def _each_file_is_parsed_once() -> Iterator[None]:
    parse = corpus._docstrings_of
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "_docstrings_of", functools.cache(lambda path, root: [*parse(path, root)]))
        yield


def write(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def test_docstrings_are_found_with_their_qualified_names(tmp_path: Path) -> None:
    source = (
        '"""Of m."""\nclass A:\n    """Of A."""\n'
        '    def f(self):\n        """Of f."""\n    async def g(self):\n        """Of g."""\n'
    )
    root = write(tmp_path, pkg__m=source)
    assert list(docstrings(root)) == [
        Docstring("pkg.m", "", "Of m."),
        Docstring("pkg.m", "A", "Of A."),
        Docstring("pkg.m", "A.f", "Of f."),
        Docstring("pkg.m", "A.g", "Of g."),
    ]


def test_a_package_is_named_without_init(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").write_text('"""Of pkg."""')
    assert list(docstrings(tmp_path)) == [Docstring("pkg", "", "Of pkg.")]


def test_a_name_is_taken_once_and_its_first_docstring_wins(tmp_path: Path) -> None:
    root = write(tmp_path, m='def f():\n    """First."""\ndef f():\n    """Second."""\n')
    assert [each.text for each in docstrings(root)] == ["First."]


def test_files_that_do_not_parse_or_are_not_unicode_are_left_out(tmp_path: Path) -> None:
    root = write(tmp_path, broken="def (", surrogate='"""\\ud800"""', empty='"""  """', good='"""Good."""')
    (root / "latin.py").write_bytes(b'"""\xff"""')
    assert [each.module for each in docstrings(root)] == ["good"]


def test_tests_and_installed_packages_are_not_the_library(tmp_path: Path) -> None:
    root = write(tmp_path, test__m='"""No."""', json__tests__m='"""No."""', m='"""Yes."""')
    assert sources(root) == [root / "m.py"]


def test_modules_are_parsed_and_never_imported(tmp_path: Path) -> None:
    root = write(tmp_path, m='"""Text."""\nraise SystemExit("imported")\n')
    assert len(list(docstrings(root))) == 1


def test_records_are_the_same_for_the_same_seed_and_differ_between_seeds() -> None:
    assert records(50, seed=3) == records(50, seed=3)
    assert records(50, seed=3) != records(50, seed=4)


def test_two_thousand_records_are_distinct_and_well_formed() -> None:
    made = records(2000, seed=0)
    assert len(made) == 2000
    assert len({data for data, _ in made}) == len({key for _, key in made}) == 2000
    for data, key in made:
        item = json.loads(data)
        assert set(item) == {"module", "name", "text"} and item["text"].strip()
        assert 0 < len(key) <= PARTITION_KEY_CHARS


def test_where_the_library_ends_records_come_again_under_new_names(tmp_path: Path) -> None:
    root = write(tmp_path, m='"""Of m."""\ndef f():\n    """Of f."""\n')
    made = records(5, seed=0, root=root)
    assert len({data for data, _ in made}) == len({key for _, key in made}) == 5
    assert sorted(json.loads(data)["name"] for data, _ in made)[:2] in (["", "#2"], ["#2", "#3"])


def test_a_long_name_still_makes_a_legal_partition_key(tmp_path: Path) -> None:
    root = write(tmp_path, m=f'def {"f" * 400}():\n    """Text."""\n')
    [(_, key)] = records(1, root=root)
    assert len(key) == PARTITION_KEY_CHARS


def test_missing_sources_are_reported_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no docstrings"):
        records(1, root=tmp_path)
    assert records(0, root=tmp_path) == []


def test_this_machine_has_thousands() -> None:
    assert len(sources(library())) > 300
    assert len(records(4000)) == 4000


def test_the_model_refuses_every_broken_record_and_no_two_are_equal() -> None:
    found = broken(20)
    assert len({data for data, _ in found}) == len({key for _, key in found}) == 20
    for data, _ in found:
        with pytest.raises(Reject):
            MiniLM().decode(data)


def test_broken_records_come_between_the_others_in_their_order() -> None:
    sound = [(b"%d" % number, "") for number in range(50)]
    among = mixed(sound, broken(8), seed=1)
    assert [each for each in among if each in sound] == sound
    assert sorted(each for each in among if each not in sound) == sorted(broken(8))
    assert among not in (sound + broken(8), broken(8) + sound)
    assert among == mixed(sound, broken(8), seed=1)
