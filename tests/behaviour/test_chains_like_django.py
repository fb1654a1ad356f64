"""Chains of results have the same results as the same chains of Django's ORM, with the same rows in SQLite."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from mintkey import Model, Q
from mintkey.attributes import BooleanAttribute, DatetimeAttribute, NumberAttribute, StringAttribute

FIRST = datetime(2024, 1, 1, tzinfo=timezone.utc)
Chain = Callable[[Any, Any], Any]


class Book(Model):
    id = NumberAttribute(partition_key=True)
    title = StringAttribute()
    author = StringAttribute()
    pages = NumberAttribute()
    lent = BooleanAttribute()
    bought = DatetimeAttribute()


TITLES = ["Ulysses", "ulysses", "Emma", "emma II", "Die Straße", "100%", "a_b", "Öl!", "it's", "", "Moby Dick"]
AUTHORS = ["Joyce", "Austen", "Böll", None]


def rows() -> list[dict[str, Any]]:
    """Rows with absent values, equal values, and texts that are special in LIKE patterns."""
    chance = random.Random(5)
    made = []
    for number in range(1, 61):
        row: dict[str, Any] = {"id": number, "title": chance.choice(TITLES), "author": chance.choice(AUTHORS)}
        row["pages"] = chance.choice([None, 0, 5, 100, 100.5, 300, -1])
        row["lent"] = chance.choice([None, True, False])
        row["bought"] = chance.choice([None, FIRST + timedelta(days=chance.randrange(30))])
        made.append({name: value for name, value in row.items() if value is not None})
    return made


@pytest.fixture(scope="module")
def django_books() -> Iterator[tuple[Any, Any]]:
    """Django's manager of a table with the rows, and its `Q`."""
    import django
    from django.conf import settings

    if not settings.configured:
        settings.configure(
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
            DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
            LOGGING_CONFIG=None,
            USE_TZ=True,
        )
        django.setup()
    from django.db import connection, models

    class DjangoBook(models.Model):  # type: ignore[misc]  # noqa: DJ008
        title = models.TextField(null=True)  # noqa: DJ001 - absent values are compared
        author = models.TextField(null=True)  # noqa: DJ001
        pages = models.FloatField(null=True)
        lent = models.BooleanField(null=True)
        bought = models.DateTimeField(null=True)

        class Meta:
            app_label = "books"

    with connection.schema_editor() as editor:
        editor.create_model(DjangoBook)
    DjangoBook.objects.bulk_create([DjangoBook(**row) for row in rows()])
    yield DjangoBook.objects, models.Q
    connection.close()


FILTERS: dict[str, Chain] = {
    "equal": lambda books, q: books.filter(title="Emma"),
    "two": lambda books, q: books.filter(author="Joyce", pages__gt=5),
    "twice": lambda books, q: books.filter(pages__gte=5).filter(pages__lt=300),
    "empty text": lambda books, q: books.filter(title=""),
    "in": lambda books, q: books.filter(author__in=["Joyce", "Böll"]),
    "in nothing": lambda books, q: books.filter(author__in=[]),
    "is null": lambda books, q: books.filter(author__isnull=True),
    "is not null": lambda books, q: books.filter(author__isnull=False, pages__lte=100),
    "true": lambda books, q: books.filter(lent=True),
    "startswith": lambda books, q: books.filter(author__startswith="J"),
    "iexact": lambda books, q: books.filter(title__iexact="ULYSSES"),
    "icontains": lambda books, q: books.filter(title__icontains="MM"),
    "istartswith": lambda books, q: books.filter(title__istartswith="eM"),
    "iendswith": lambda books, q: books.filter(title__iendswith="S"),
    "percent": lambda books, q: books.filter(title__icontains="%"),
    "underscore": lambda books, q: books.filter(title__icontains="_"),
    "quote": lambda books, q: books.filter(title__endswith="'s"),
    "or": lambda books, q: books.filter(q(author="Joyce") | q(pages__lt=5)),
    "and": lambda books, q: books.filter(q(author="Joyce") & q(pages__gte=0)),
    "and or": lambda books, q: books.filter(q(author="Joyce") | q(author="Austen"), pages__gt=0),
    "nested": lambda books, q: books.filter((q(author="Joyce") & q(pages=5)) | (q(author="Böll") & q(pages=300))),
    "empty Q": lambda books, q: books.filter(q(), pages=5),
    "or is null": lambda books, q: books.filter(q(pages__isnull=True) | q(pages__gt=100)),
    "not": lambda books, q: books.filter(~q(author="Joyce")),
    "not not": lambda books, q: books.filter(~~q(author="Joyce")),
    "not is null": lambda books, q: books.filter(~q(author__isnull=True)),
    "not and": lambda books, q: books.filter(~(q(author="Joyce") & q(pages=5)), author__isnull=False, pages__gte=-5),
    "not client": lambda books, q: books.filter(~q(title__icontains="m")),
    "exclude": lambda books, q: books.exclude(author="Joyce"),
    "exclude in": lambda books, q: books.exclude(author__in=["Joyce", "Böll"]),
    "exclude more": lambda books, q: books.exclude(pages__gt=5),
    "exclude twice": lambda books, q: books.exclude(author="Joyce").exclude(title="Emma"),
    "exclude two": lambda books, q: books.exclude(author="Joyce", pages=5),
    "exclude Q": lambda books, q: books.exclude(q(author="Joyce") | q(pages=5)),
    "exclude of filter": lambda books, q: books.filter(pages__gte=5).exclude(title__icontains="e"),
    "bought": lambda books, q: books.filter(bought__gte=FIRST + timedelta(days=9)),
    "all": lambda books, q: books.all(),
}
ENDS: dict[str, Callable[[Any], Any]] = {
    "ids": lambda found: [book.id for book in found],
    "descending": lambda found: [book.id for book in found.order_by("-id")],
    "values": lambda found: list(found.values("id", "title")),
    "tuples": lambda found: list(found.values_list("author", "id")),
    "flat": lambda found: list(found.values_list("pages", flat=True)),
    "count": lambda found: found.count(),
    "exists": lambda found: found.exists(),
    "first": lambda found: getattr(found.first(), "id", None),
    "last": lambda found: getattr(found.last(), "id", None),
    "slice": lambda found: [book.id for book in found[2:7]],
    "index": lambda found: found[0].id if found.exists() else None,
    "length": lambda found: (len(found), bool(found)),
}
ORDERS = [("id",), ("-id",), ("title", "id"), ("-title", "-id"), ("pages", "-id"), ("-author", "title", "id")]


@pytest.fixture
def books(store) -> Any:
    Book.batch_save(Book(**row) for row in rows())
    return Book.query


def test_filters_and_ends(books, django_books):
    for (name, chain), (end, finish) in itertools.product(FILTERS.items(), ENDS.items()):
        theirs = finish(chain(*django_books).order_by("id"))
        assert finish(chain(books, Q).order_by("id")) == theirs, (name, end)


def test_orders(books, django_books):
    """Absent values come last, as in Django with `nulls_last`. Texts are compared by their bytes, as in SQLite."""
    from django.db.models import F

    for names, chain in itertools.product(ORDERS, (FILTERS["all"], FILTERS["or"], FILTERS["icontains"])):
        order = [
            F(name[1:]).desc(nulls_last=True) if name.startswith("-") else F(name).asc(nulls_last=True)
            for name in names
        ]
        theirs = [book.id for book in chain(*django_books).order_by(*order)]
        assert [book.id for book in chain(books, Q).order_by(*names)] == theirs, names
        assert [book.id for book in chain(books, Q).order_by(*names).limit(5)] == theirs[:5], names


def test_updates_and_deletions(books, django_books):
    from django.db import transaction

    for name in ("equal", "or", "exclude more", "icontains", "not"):
        chain = FILTERS[name]
        manager, django_q = django_books
        with transaction.atomic():
            assert chain(books, Q).update(author="Nobody") == chain(manager, django_q).update(author="Nobody")
            assert list(books.order_by("id").values_list("id", "author")) == list(
                manager.order_by("id").values_list("id", "author")
            )
            removed = FILTERS["true"](books, Q).delete()
            assert removed == FILTERS["true"](manager, django_q).delete()[0]
            assert books.count() == manager.count()
            transaction.set_rollback(True)
        Book.batch_save(Book(**row) for row in rows())
