"""Record the session and write the picture.

    python -m tests.record [--out docs/session.svg] [--still SECONDS …] [--home FOLDER]

It needs nothing but the installed aosctl: it brings up an embedded database in a folder of its
own, and takes it away again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from aosctl.db.embedded import EmbeddedHome, reset
from record.picture import moving, still
from record.session import record

OUT = Path(__file__).parents[2] / "docs" / "session.svg"
TITLE = "aosctl: an agent inside PostgreSQL"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--still", type=float, nargs="*", default=[], help="also these moments")
    parser.add_argument("--home", help="an empty folder, in place of a temporary one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aosctl-") as made:
        home = given.home or made
        env = {"HOME": home, "XDG_DATA_HOME": f"{home}/.local/share"}
        try:
            film, text = record(env)
        finally:
            reset(EmbeddedHome.locate(env))
    given.out.write_text(moving(film, TITLE, text), encoding="utf-8")
    for at in given.still:
        name = given.out.with_name(f"{given.out.stem}-{at:g}.svg")
        name.write_text(still(film, TITLE, at), encoding="utf-8")
    sys.stdout.write(f"{given.out}: {film.seconds:.0f} s, {given.out.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
