"""The studio: a page and an HTTP interface over a queue of runs in one folder.

`journal.py` and `runs.py` are what is on the disk, `registry.py` is what was asked for, `queue.py`
decides what runs, `worker.py` is the process that trains, `app.py` is the HTTP interface, `page/`
is what the browser loads.
"""
