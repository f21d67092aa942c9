"""Why an instance gets its metadata, or where on the way it is lost.

`gather` reads what there is, with a time limit for each thing, as `facts`.
`walk` judges the facts hop by hop; it is pure, as are the modules of hops:
`ovn`, `host` and `serving`, in the order of the path.
"""
