"""A `before_save` hook builds the sort key from the timestamp and the ID that the same save generates.

Run it with `python examples/audit_log.py`. It uses the store that $MINTKEY_URL names, or else the file
mintkey.db in the working folder.
"""

from __future__ import annotations

from mintkey import Attr, AutoGenerate, Model, ModelConfig
from mintkey.attributes import StringAttribute
from mintkey.generators import uuid4
from mintkey.hooks import before_save
from mintkey.testing import frozen


class AuditLog(Model):
    """The actions of users, in the order in which they happened."""

    model_config = ModelConfig(table="audit_log")

    pk = StringAttribute(partition_key=True)
    sk: Attr[str] = StringAttribute(sort_key=True)
    id = StringAttribute(default=AutoGenerate.ULID)
    created_at = StringAttribute(default=AutoGenerate.ISO8601)
    action = StringAttribute(required=True)

    @before_save
    def build_key(self) -> None:
        """Build the key from generated values: reading them here generates them, so they are never None."""
        self.sk = f"LOG#{self.created_at}#{self.id}"


def main() -> None:
    AuditLog.create_table()
    user = f"USER#{uuid4()}"

    # A frozen clock gives two different seconds without waiting. In production, use the real clock.
    with frozen("2024-01-01T12:00:00Z") as clock:
        for action, seconds in (("login", 1), ("upload", 0), ("logout", 0)):
            entry = AuditLog(pk=user, action=action)
            print(f"before the save: sk={entry.sk} created_at={entry.created_at}")
            entry.save()
            print(f"after the save:  sk={entry.sk} created_at={entry.created_at}")
            clock.advance(seconds)

        # The ULID keeps entries of one second apart, and in the order in which they were saved.
        print("read back by prefix:")
        for entry in AuditLog.query(AuditLog.sk.begins_with("LOG#2024-01-01"), pk=user):
            print(f"  {entry.sk}  {entry.action}")
    print(f"entries kept: {AuditLog.count(pk=user)}")


if __name__ == "__main__":
    main()
