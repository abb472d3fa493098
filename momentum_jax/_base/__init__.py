"""Foundations for all other packages: errors, files and locks, reading, trees of arrays, digests of jaxprs, progress.

Import its modules; nothing is exported here. It imports from no other package of the project, and knows nothing of
optimizers, configs or results.
"""
