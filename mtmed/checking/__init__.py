"""The command ``mtmed check``: cohorts, configs of bundles, and what a stranger's config would do."""
