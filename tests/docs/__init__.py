"""The documentation under test: every code block runs, every generated table is current.

pages       the pages and the blocks in them
playground  runs move to their end in this process, without a broker
reader      somebody who types a page: files, a shell, and terminals for what goes on
shell       `celery` command lines, read but not run
reference   what is generated from the code: `python -m tests.docs.reference` writes it
"""
