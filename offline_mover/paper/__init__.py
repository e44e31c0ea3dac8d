"""Paper: the report as one HTML page, and its JSON twin.

* :mod:`~offline_mover.paper.facts` — what the report says, and the twin
* :mod:`~offline_mover.paper.page` — the page, made of :mod:`~offline_mover.paper.tables`,
  :mod:`~offline_mover.paper.labels`, :mod:`~offline_mover.paper.parts_picture` and
  :mod:`~offline_mover.paper.qr_code`
* :mod:`~offline_mover.paper.markup` — HTML that is escaped; :mod:`~offline_mover.paper.style` — its CSS
"""
