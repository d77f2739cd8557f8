"""What steps cost, beside the peers, plain Celery and the floor: `python -m benchmarks [PART]...`

A *part* measures *contenders* in interleaved *rounds*. Trust the ratios of one run; rates differ by
machine.

    parts        the parts by name
      linear, latency, fanout, start, idle, counts   against others, with real workers
      few, slow, growth, prune                       of our own, with real workers
      growth, prune, waiting, outbox, trees          of our own, in one process (`engine`)
    targets      holds what was measured against what is aimed at
    contenders   who is measured, and with which programs (`programs`)
    schedule     shares the time among the parts
    rounds       takes every trial in turn
    session      a contender at work: its database, its broker, its processes
    crowd        what a database has in it besides
    services, peers, processes   servers, environments of the peers, child processes
    processor, statements        what is counted
    counting     a Postgres that counts statements
    compare, section, report, chart   what becomes of it

Each contender has a database of its own, copied for each round from one in which nothing has
happened, and queues of its own. After each measurement its client checks that every run has ended
and every row is there; if not, the benchmark fails when it has written its report.
"""
