"""Owns what this machine can do at most: products and convolutions in each format, and copying. Must not know models.

`probes` is what is run, `measuring` runs it, and `kept` is the record and the file that it is kept in.
"""
