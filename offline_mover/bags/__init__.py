"""The bags: what a volume holds of a transfer, and how it is written.

* :mod:`~offline_mover.bags.bag_texts` — the texts of RFC 8493, written and read
* :mod:`~offline_mover.bags.accepted_bundle` — a bundle that the trust policy accepts
* :mod:`~offline_mover.bags.volumes` — volumes, and which transfers they hold
* :mod:`~offline_mover.bags.bag` — a bag on a volume: its envelope judged, stock taken, its texts read
* :mod:`~offline_mover.bags.checking` — its files hashed
* :mod:`~offline_mover.bags.bag_group` — the bags of one transfer on any number of volumes
* :mod:`~offline_mover.bags.bag_writing` — a bag made ready, completed, looked at again
* :mod:`~offline_mover.bags.placement` — what goes onto which volume
"""
