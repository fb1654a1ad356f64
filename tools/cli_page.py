"""Writes docs/reference/cli.md, the reference of the command line, from the program: `python tools/cli_page.py`."""

from __future__ import annotations

import argparse
from pathlib import Path

from mintkey.cli.commands import COMMANDS, Command, parser_of, positionals
from mintkey.cli.endings import MEANINGS
from mintkey.cli.expressions import GRAMMAR

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "cli.md"

BEGINNING = """# Command line

`mintkey` shows and moves the rows of any store without the classes of your program, and generates and inspects IDs.
`python -m mintkey` is the same command. It needs no other package. `tools/cli_page.py` writes this page.

**Store.** The first argument of a command that reads or writes a store is its [URL](stores.md). Without a URL, the
command uses the store that `$MINTKEY_URL` names. `copy` always takes two URLs.

**Passwords.** Other users of the machine can see the arguments of a process. So put a URL with a password into an
environment variable, and write `env:` and its name in place of the URL: `mintkey tables env:SHOP_URL`, `mintkey copy
env:SHOP_URL dynamodb://eu-west-1`. No output, message or file of mintkey contains a password.

**Output.** On a terminal, rows and tables are printed as a table. Otherwise they are printed as JSON, one object per
line. Output and files are UTF-8 in every locale. An error is one line on standard error. Long commands show their
progress on standard error if it is a terminal.

**Signals.** SIGTERM and SIGHUP end a command as Ctrl-C does: the file of an export is not written, the state of a copy
is kept for `--resume`, and the error says how to continue. With `nohup`, a command ignores SIGHUP.

**Keys.** Write a key as text, as a number, or as bytes in base64: the type of the key attribute decides. Write `--`
before a key that begins with `-` and is not a number.

**Tab completion.** With `pip install "mintkey[cli]"`, `eval "$(register-python-argcomplete mintkey)"` in bash or zsh
completes commands, options and strategies.

## Exit codes

| code | meaning |
|---|---|
"""

CONDITIONS = """
## Conditions

`--where` takes a condition on the attributes of a row, such as `status = "open" and (total > 99.95 or not
exists(paid_at))`. It has the same meaning on every store, and the same meaning as the
[conditions of models](../guides/queries.md): a comparison with an absent attribute, or with a value of another type, is
false, except `!=`. The store evaluates the condition. A `query` reads only the rows that its conditions on the sort key
select; all other conditions are evaluated for each row that is read.

```text
"""

FORMATS = """
## Formats of rows

Both formats have one row per line and are exact: numbers keep up to 38 digits, and bytes, sets and nulls are read back
unchanged. A file whose name ends with `.gz` is written compressed. An import recognizes compressed files, also on
standard input.

- `json` is the JSON that [SQLite and Redis store](../decisions/0012-json-encoding.md):
  `{"id":"A","total":99.95,"photo":{"$B":"AAE="},"tags":{"$SS":["a","b"]}}`. Bytes are `{"$B": base64}`; sets are
  `{"$SS": […]}` of text, `{"$NS": […]}` of numbers and `{"$BS": […]}` of bytes. A `$` at the start of a name is
  doubled. The first line of an export, `{"$table": …}`, describes the table, and the last line is `{"$end": …}`. A file
  without these two lines can be imported too.
- `dynamodb` is the format of Amazon's exports to S3 and of its imports:
  `{"Item":{"id":{"S":"A"},"total":{"N":"99.95"}}}`. `import` also reads lines without `Item`, as
  `aws dynamodb scan | jq -c '.Items[]'` prints them. The file does not describe the table: name a table that exists, or
  create it with `--partition-key` and `--sort-key`.

An import reports each line that is not a row, and each row that is refused, with the number of the line, and continues.
The file of an export appears under its name only when the export is complete. It keeps the permissions of the file that
it replaces, and a link stays a link.
"""


def _arguments(parser: argparse.ArgumentParser) -> list[str]:
    rows = []
    for action in [*positionals(parser), *(action for action in parser._actions if action.option_strings)]:
        if isinstance(action, argparse._HelpAction):
            continue
        named = str(action.metavar or action.dest.upper())
        if action.choices is not None and action.option_strings and action.metavar is None:
            named = "\\|".join(map(str, action.choices))
        value = "" if action.nargs == 0 else f" {named}"
        names = ", ".join(f"`{option}{value}`" for option in action.option_strings) or f"`{named}`"
        rows.append(f"| {names} | {action.help} |")
    return ["| argument | meaning |", "|---|---|", *rows] if rows else []


def _section(command: Command) -> list[str]:
    parser = parser_of(command)
    return [
        *("", f"## mintkey {command.name}", "", command.summary, ""),
        *("```sh", str(parser.usage), command.example, "```", ""),
        *_arguments(parser),
    ]


def page() -> str:
    """Return the text of the page."""
    codes = [f"| {int(code)} | {meaning} |" for code, meaning in MEANINGS.items()]
    sections = [line for command in COMMANDS for line in _section(command)]
    text = (
        BEGINNING + "\n".join(codes) + "\n" + CONDITIONS + GRAMMAR.strip() + "\n```\n" + FORMATS + "\n".join(sections)
    )
    return text.rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
