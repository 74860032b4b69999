"""Collect the English and French sentences that ``train_pairs.py`` trains on, from the message catalogues in wheels.

pip download --no-deps django==5.2.19 django-oscar==4.2.1 wagtail==8.0.1
python examples/collect_pairs.py django-5*.whl django_oscar-4*.whl wagtail-8*.whl --output english_french.tsv
"""

from __future__ import annotations

import argparse
import gettext
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from train_pairs import words

LONGEST = 12  # words and signs, in either language
CATALOGUE = re.compile(r"/fr/LC_MESSAGES/\w+\.mo$")
# Places for values, markup, addresses, endings in brackets: no words that a model could learn.
UNFIT = re.compile(r"[%{}<>&_\\/@#=\[\]*|~^$\n\u200e]|https?|\(s\)|\(e\)")
LETTERS = re.compile(r"[a-z]{2}")
PLAIN = str.maketrans({"’": "'", "“": '"', "”": '"', "«": '"', "»": '"', "\xa0": " ", "\u202f": " ", "…": "..."})


def messages(wheel: Path) -> Iterator[tuple[str, str]]:
    """(English, French) of all catalogues of a wheel; forms of plurals left out."""
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(filter(CATALOGUE.search, archive.namelist())):
            catalogue = gettext.GNUTranslations(io.BytesIO(archive.read(name)))
            for english, french in vars(catalogue)["_catalog"].items():
                if isinstance(english, str) and english:
                    yield english.rpartition("\x04")[2], french  # before \x04: where the message is used


def plain(text: str) -> str:
    """Quotes and apostrophes of the keyboard, single spaces."""
    return " ".join(text.translate(PLAIN).split())


def main() -> None:
    """Write the pairs that are fit, each English sentence once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheels", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, required=True, help="a line per pair, with a tab between")
    chosen = parser.parse_args()
    pairs: dict[str, str] = {}
    for wheel in chosen.wheels:
        for pair in messages(wheel):
            unfit = any(UNFIT.search(text.strip()) for text in pair)
            english, french = map(plain, pair)
            long = any(len(words(text)) > LONGEST for text in (english, french))
            if french and not unfit and not long and LETTERS.search(english):
                pairs.setdefault(english.lower(), f"{english}\t{french}\n")
    chosen.output.write_text("".join(pairs.values()), encoding="utf-8")
    print(f"written: {chosen.output}, {len(pairs):,} pairs")


if __name__ == "__main__":
    main()
