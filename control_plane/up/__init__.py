"""``isg up``: the supervisor that runs a whole gateway on one machine (interface section 1)."""
