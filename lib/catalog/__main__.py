"""Print the catalogue: ``python -m lib.catalog``."""

from lib.catalog import table

print(table())
