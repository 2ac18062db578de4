"""What is compared: the same six endpoints, written as each kind of server would have it.

    /json      a constant
    /postgres  one row, by its key
    /mongo     one document, by its key
    /redis     one value
    /upstream  what a web service answers after 50 ms
    /all       the last four, side by side where that is possible

They run on the Python of a generated service, with its clients; URLs come from its variables.
"""
