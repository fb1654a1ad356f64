"""Django's commands for this project.

`python examples/django_orders/manage.py migrate` creates the tables, `… runserver` starts the service. Customers are in
the database that $DATABASE names (a file of SQLite), orders in the store that $MINTKEY_URL names, or else in the file
mintkey.db. It needs the package django.
"""

from __future__ import annotations

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
    execute_from_command_line(sys.argv)
