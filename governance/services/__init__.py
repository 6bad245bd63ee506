"""The verbs of governance: one service is one lawful act, one transaction, one log event.

Acts that may change policy hold the policy lock from their first statement (`locks.policy_act`).
Bookkeeping (follow-ups, leases, usage, decisions) is not an act of law and writes no event.
"""
