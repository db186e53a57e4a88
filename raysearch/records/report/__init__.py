"""One page about a search, for those who decide by it and for those who must trust it.

Everything on it is read from the run folder; nothing is trained, measured or fetched for it.
"""
