"""`durable dev` with real processes: its supervisor alone, and the whole command on real projects.

program    a supervisor of any commands, as a process that tests may kill
running    one process under test: what it says, what lives of it
projects   folders with a project in them
"""
