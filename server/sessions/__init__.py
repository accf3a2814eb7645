"""Client connections and what lives on them: gateway, sessions, outboxes, streams.

Read in this order: `connection` (the seam to the wire; `picows_driver` and `memory` implement
it), `gateway` (from a connection to a session), `session` and `outbox` (a session's life),
`streams` (watched event logs, pushes from other nodes).
"""
