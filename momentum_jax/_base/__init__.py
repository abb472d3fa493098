"""Foundations for all other packages.

They are errors, files, reading, trees of arrays, digests and caches of functions, and short representations.
Import its modules; nothing is exported here. It imports from no other package of the project, and knows nothing of
optimizers, configs or results.
"""
