"""A `before_save` hook builds the sort key out of the time that the same save mints.

Run it with `python examples/audit_log.py`. It works on the store that $MINTKEY_URL names, else on the file
mintkey.db in the folder where it runs.
"""

from __future__ import annotations

from mintkey import AutoGenerate, Model, ModelConfig
from mintkey.attributes import StringAttribute
from mintkey.errors import KeyCollision
from mintkey.generators import uuid4
from mintkey.hooks import before_save
from mintkey.testing import frozen


class AuditLog(Model):
    """Who did what, in the order in which it happened."""

    model_config = ModelConfig(table="audit_log")

    pk = StringAttribute(partition_key=True)
    sk: StringAttribute = StringAttribute(sort_key=True)
    created_at = StringAttribute(default=AutoGenerate.ISO8601)
    action = StringAttribute(required=True)

    @before_save
    def build_key(self) -> None:
        """Reading `created_at` mints it, so the key has the time in it and never the word None."""
        self.sk = f"LOG#{self.created_at}"


def main() -> None:
    AuditLog.create_table()
    user = f"USER#{uuid4()}"

    # Only to have three different seconds without waiting for them; in production the clock is the real one.
    with frozen("2024-01-01T12:00:00Z") as clock:
        for action in ("login", "upload", "logout"):
            entry = AuditLog(pk=user, action=action)
            print(f"before the save: sk={entry.sk} created_at={entry.created_at}")
            entry.save()
            print(f"after the save:  sk={entry.sk} created_at={entry.created_at}")
            clock.advance(1)

        print("read back by prefix:")
        for entry in AuditLog.query(AuditLog.sk.begins_with("LOG#2024-01-01"), pk=user):
            print(f"  {entry.sk}  {entry.action}")

        # A key that a hook made never overwrites a row.
        AuditLog(pk=user, action="login").save()
        try:
            AuditLog(pk=user, action="twice in one second").save()
        except KeyCollision as error:
            print(f"a second entry in the same second: {type(error).__name__}")
    print(f"entries kept: {AuditLog.count(pk=user)}")


if __name__ == "__main__":
    main()
