"""Lists that people work with: filtered, ordered, saved, exported, and acted on as a whole.

A room declares a `Listing` and renders `listing.shown(request)`; saving a filter, exports and bulk
acts then have addresses of their own, for every listing alike (`web.ui.lists.pages`).
"""

from web.ui.lists.listing import BulkAct, Column, Listing, Shown, find

__all__ = ["BulkAct", "Column", "Listing", "Shown", "find"]
