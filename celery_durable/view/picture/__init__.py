"""Pictures as SVG: the graph of a plan or a run, and the timeline of a run.

Rules of this room: pure but for `reading`. What is shown is decided first, then where it lies, and
then it is drawn; the same input makes the same text. No font is measured, no script is made.

    reading    reads what the pictures of a run show
    chart      what a graph shows, as blocks
    blocks     cards, and how they lie beside and after one another
    notes      what is said of a node below its name
    layout     where the cards of a graph lie, and how its edges run
    places     the parts of a graph at their places
    sizes      how large they are, and how far from one another
    graph      draws a graph
    bars       what a timeline is made of, and what its rows have
    unit_rows  the row of one unit
    rows       the rows of all, node by node
    axis       the axis of a timeline
    timeline   draws a timeline
    look       how a state looks
    text       the width of text
    svg        elements, escaped; picture.css has their looks
"""
