"""Load on a server: requests sent by a schedule to what speaks OpenAI's API, and what each waited for.

One process, one event loop. h11 reads HTTP's framing and asyncio the sockets, with no client library between
them: the client shares the machine with the server it measures (bench/load_cost.py).
"""
