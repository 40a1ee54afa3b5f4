"""Sweeps: an operation asked for every number of a format, or for one of every stratum of them.

An audit samples; a sweep leaves nothing out along one input. `patterns` orders the numbers of a
format and chooses among them, `lines` are what stays the same meanwhile, `plan` says what is asked
and cuts it into chunks, `chunk` does one of them: `block` asks a worker for many inputs at once
and judges the answers, `judging` grades them in float64 and leaves to the exact tier what float64
cannot decide, `tally` adds up and joins what neighbours have seen. `engine` runs chunks in
processes, keeps them and goes on after a kill, `scheduler` does them on other machines, `record` is
the file of a finished sweep, and `merge` makes it of what several machines kept.

May import what conformance may, and nothing of reports.
"""
