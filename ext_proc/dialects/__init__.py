"""The shapes of requests and of model servers' own protocols."""
