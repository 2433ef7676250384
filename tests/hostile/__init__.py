"""What a container's root, who has taken over the guest's agent, may answer to `hyperctl cp`: suites share it."""
