"""Every kind of node in one workflow: `python -m examples.every_node`.

app        the workflow. Start reading here
ledger     what the handlers did, in a table of their own
"""
