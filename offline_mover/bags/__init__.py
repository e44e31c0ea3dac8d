"""The bags: what a volume holds of a transfer, and how it is written.

* :mod:`~offline_mover.bags.bag` — the texts of RFC 8493
* :mod:`~offline_mover.bags.volume` — a bag on a volume
* :mod:`~offline_mover.bags.bag_group` — the bags of one transfer on any number of volumes
* :mod:`~offline_mover.bags.bag_writing` — made ready, completed, looked at again
* :mod:`~offline_mover.bags.placement` — what goes onto which volume
"""
