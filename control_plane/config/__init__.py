"""What the operator wrote: YAML into a frozen typed model, every error with ``file:line:column`` and a fix."""
