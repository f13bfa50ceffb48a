"""``isg plan``: what would change on the running gateway, in the operator's words first."""
