"""A library that lives in Milvus: many readers and writers share it over the network.

`address` says where one is, `server` is the only module that imports pymilvus, `catalog` holds the
entries of the tracks, `snapshot` is what recognition searches, and `library` opens and changes it.
"""
