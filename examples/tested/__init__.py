"""A small shop, and the tests of it: `python -m pytest examples/tested`.

shop       two workflows; one of them charges a card twice if a worker dies at the wrong time
test_shop  its tests, which find that
pytest.ini names the app to pytest
"""
