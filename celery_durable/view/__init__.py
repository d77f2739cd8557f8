"""What people look at, as values: for the command line, the web page and the admin to show.

Rules of this room: it reads through `Durable`, changes nothing, and returns values and plain text.
Nothing here knows a terminal, HTML or a web server.

    run         reads a run at one moment: snapshot, plan, units, counts, children
    run_page    reads what the page of a run shows besides
    run_list    a page of a list of runs, each with why it stands
    overview    what goes through, what fails, what waits, and whether anything is behind
    nodes       the state of each node of a run
    wording     reasons, and what helps, in the words of a page
    fitting     which actions fit how a run stands
    signalling  whether a person may send a run a signal, and whether it is of use
    workflows   the workflows of a project, their versions and how many runs each has
    formatting  durations, times, counts and errors as text
    moments     times as people type them
    typed       JSON and whole numbers as people type them
    document    values as JSON
    picture     pictures: graph and timeline
    metrics     all that is measured, as Prometheus reads it
    instruments the same as OpenTelemetry observes it
"""
