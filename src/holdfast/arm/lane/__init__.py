"""The data lane: agents' connections for packs and frames, each served by a thread of its own.

The port is that of the API. ``door`` accepts, looks at what the TLS hello offers (``hello``), and
gives the connection to the API's event loop or to ``service``. There, ``wire`` speaks HTTP/1.1,
``exchange`` authorises, answers and counts one request as the API does, and ``packs`` moves the
bytes: decrypted straight into the buffer that is hashed and written to the disk.
"""
