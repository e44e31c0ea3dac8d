"""Changes of state, told outside: each entry of the journal becomes a CloudEvent for a receiver.

* :mod:`function_app.storage.event_notes`: before each entry of the journal, a note that it is to be told
* :mod:`~function_app.events.cloud_event`: what is told of an entry
* :mod:`~function_app.events.delivering`: the timer that takes the events to the receiver

Nothing here is waited for by any work: see docs/adr/0032-events-are-derived-from-the-journal.md.
"""
