"""How files of strangers are tested: whatever is executed leaves a trace, whatever is wrong is one line.

Pickles in checkpoints have their own tests (test_unpickling, test_checkpoints, test_kmeans_import,
test_feature_import, test_spidr_refused), and archives that are damaged (test_archives).
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artifacts.errors import InputError

EVIL = """$(touch stolen) `touch stolen` "; touch stolen; '; touch stolen # & | > stolen *"""
"""As a name of a file or a folder."""


@pytest.fixture(autouse=True)
def nothing_is_stolen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever is executed leaves the file `stolen` in the working directory."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not list(tmp_path.rglob("stolen"))


def in_one_line(message: str, function: Callable[[], object]) -> None:
    with pytest.raises(InputError, match=message) as error:
        function()
    assert "\n" not in str(error.value)
