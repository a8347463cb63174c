"""The queue of the studio: work as child processes of our own commands, followed by their report.

A job is a folder, `ROOT/.frisket-studio/jobs/TIME-ID/`, and the folder is the record:

- `job.json`: what was asked for; written once, before anything runs;
- `process.json`: which process does it;
- `events.jsonl`: the child's own report (`frisket --report`), by which its state is told;
- `stdout.log`: what it printed;
- `stop.json`: that somebody asked it to stop; `ended.json`: how it ended.

What is held in memory is rebuilt from the folders at every start. A child is in a session of its
own: it outlives the server, and is followed again by the next one.
"""
