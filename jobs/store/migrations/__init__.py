"""One module per version of the tables; `docs/migrations.md` explains how to add one.

A migration is idempotent (it looks before it adds), and never imports `sql.schema`: it must mean the same in
ten versions' time.
"""
