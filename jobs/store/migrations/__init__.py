"""One file for each version of the tables; `docs/migrations.md` says how to add the next.

A migration is idempotent (it looks before it adds), so one that was applied already does no harm, and it
never imports `sql.schema`: it must mean the same in ten versions' time.
"""
