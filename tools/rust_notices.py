"""Write THIRD-PARTY-NOTICES.txt: the licences of the Rust crates that are compiled into mintkey, for the wheel.

    python tools/rust_notices.py           write the file
    python tools/rust_notices.py --check   end with 1 if the file is out of date

It reads the sources that cargo has downloaded. Ends with 1 too if a crate has a licence that is not in ACCEPTED.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTICES = ROOT / "THIRD-PARTY-NOTICES.txt"
#: Licences that ask for no more than a notice. Of `A OR B` one of both has to be among them, of `A AND B` each.
ACCEPTED = {
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
}
FILES = re.compile(r"(licen[sc]e|copying|notice|unlicense)", re.IGNORECASE)
HEAD = """\
The compiled module of mintkey contains SQLite, which is in the public domain, and the Rust crates that are listed here
with their licences. Each text stands once, below the crates that it belongs to.
"""


def cargo(*arguments: str) -> str:
    command = ["cargo", *arguments, "--locked"]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def is_accepted(expression: str) -> bool:
    """Return whether an SPDX expression without nested parentheses can be satisfied."""
    expression = expression.replace("/", " OR ")
    alternatives = re.split(r"\bOR\b(?![^(]*\))", expression)
    return any(
        all(
            is_accepted(part[1:-1]) if part.startswith("(") else part in ACCEPTED
            for part in map(str.strip, re.split(r"\bAND\b(?![^(]*\))", alternative))
        )
        for alternative in alternatives
    )


def linked() -> set[tuple[str, str]]:
    """Return the name and the version of each crate that is compiled into the module, on any platform."""
    tree = cargo("tree", "-p", "mintkey-python", "-e", "normal,no-proc-macro", "--target", "all", "--prefix", "none")
    return {(name, version) for name, version in re.findall(r"^(\S+) v(\S+)", tree, re.MULTILINE)}


def notices() -> str:
    crates = linked()
    packages = [
        package
        for package in json.loads(cargo("metadata", "--format-version", "1"))["packages"]
        if package["source"] and (package["name"], package["version"]) in crates
    ]
    refused = [
        f"{own['name']} {own['version']}: {own['license']}" for own in packages if not is_accepted(own["license"])
    ]
    if refused:
        raise SystemExit("licences that are not accepted:\n" + "\n".join(refused))
    names = []
    owners: dict[str, list[str]] = defaultdict(list)
    for package in sorted(packages, key=lambda own: (own["name"], own["version"])):
        name = f"{package['name']} {package['version']}"
        names.append(f"{name} ({package['license']}): {package['repository'] or 'https://crates.io'}")
        folder = Path(package["manifest_path"]).parent
        for path in sorted(folder.iterdir()):
            if path.is_file() and FILES.match(path.name):
                text = path.read_text(encoding="utf-8", errors="replace")
                owners["\n".join(line.rstrip() for line in text.strip().splitlines())].append(name)
    line = "-" * 80
    texts = [f"{line}\n{', '.join(dict.fromkeys(own))}\n\n{text}\n" for text, own in owners.items()]
    return HEAD + "\n" + "\n".join(names) + "\n\n" + "\n".join(texts)


def main() -> None:
    text = notices()
    if "--check" not in sys.argv[1:]:
        NOTICES.write_text(text, encoding="utf-8")
    elif not NOTICES.exists() or NOTICES.read_text(encoding="utf-8") != text:
        raise SystemExit(f"{NOTICES.name} is out of date: run `make notices`")


if __name__ == "__main__":
    main()
